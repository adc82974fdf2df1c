package node

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/srvboot/member"
)

// spec is what the member process is told, but for what the boot loop decides.
func (n *Node) spec() member.Spec {
	o := n.options()
	c, _ := o.cluster(n.line.Cluster)
	s := member.Spec{
		Name: n.name, DataDir: o.File("etcd"), Domain: strings.TrimSuffix(o.Domain, "."), SrvName: n.line.Cluster,
		AdvertisePeer: []string{o.peerURL(n.line.roster(0), c)}, AdvertiseClient: []string{o.clientURL(n.name, c)},
		ListenPeer: listenURLs(c.scheme(), n.line.peerAddrs(), c.PeerPort), ListenClient: n.clientListen(c),
		HeartbeatMs: uint(c.Heartbeat.Milliseconds()), ElectionMs: uint(c.Election.Milliseconds()), QuotaBytes: c.Quota,
	}
	if !c.Plain {
		f := n.certs.Files()
		s.TLS = &member.TLSFiles{PeerCert: f.PeerCert, PeerKey: f.PeerKey, PeerCA: f.CA, ServerCert: f.ServerCert, ServerKey: f.ServerKey,
			ClientCA: f.CA, ClientCert: f.ClientCert, ClientKey: f.ClientKey}
	}
	return s
}

// listenURLs names one listener per address, or all addresses when none is configured. etcd takes addresses only
// (embed/config.go, checkBindURLs).
func listenURLs(scheme string, addrs []netip.Addr, port uint16) (out []string) {
	for _, a := range addrs {
		out = append(out, scheme+"://"+net.JoinHostPort(a.String(), strconv.Itoa(int(port))))
	}
	if len(out) == 0 {
		out = []string{scheme + "://0.0.0.0:" + strconv.Itoa(int(port))}
	}
	return out
}

// clientListen adds loopback, where local agents expect etcd, unless the node lives on a loopback address itself.
func (n *Node) clientListen(c ClusterOptions) []string {
	addrs := slices.Clone(n.line.Addrs)
	if len(addrs) > 0 && !addrs[0].IsLoopback() {
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return listenURLs(c.scheme(), addrs, c.ClientPort)
}

// home is what the boot loop decides by.
func (n *Node) home() srvboot.Home { return n.homeOf(n.line.Cluster, n.name) }

// otherHomes are the clusters of the domain that this node is no member of.
func (n *Node) otherHomes() (out []srvboot.Home) {
	for _, c := range n.options().Clusters {
		if c.Name != n.line.Cluster && c.Outside == nil {
			out = append(out, n.homeOf(c.Name, ""))
		}
	}
	return out
}

// homeOf is what a node has for its home in a cluster.
func (n *Node) homeOf(cluster, node string) srvboot.Home {
	o := n.options()
	h := srvboot.Home{Bundle: n.bundle.ID(), SrvName: cluster, Node: node, BirthUntil: n.bundle.BirthUntil(), Ephemeral: o.Ephemeral}
	c, _ := o.cluster(cluster)
	h.ClientPort, h.Manual, h.Admitted = c.ClientPort, c.Replace == "manual", o.members(cluster)
	initial := n.bundle.Names(cluster)
	names := slices.Clone(initial)
	h.Size = c.Size.Members
	for _, m := range h.Admitted {
		names = append(names, m.Name)
		if slices.Contains(initial, m.Name) || len(initial) == 0 || h.Size > 0 {
			h.Initial = append(h.Initial, m)
		}
	}
	slices.SortFunc(h.Initial, func(a, b srvboot.GenesisMember) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(h.Admitted, func(a, b srvboot.GenesisMember) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(names)
	h.Ask = slices.Compact(names)
	pinned := len(initial) == len(h.Ask) && len(h.Admitted) == len(h.Ask)
	h.Answers = srvboot.AnswersFor(h.Size, len(h.Initial), pinned)
	return h
}

// report is the boot loop's, with the answers of the nodes of other clusters among the rest.
func (n *Node) report() srvboot.Report {
	rep := n.boot.Report()
	answers := maps.Clone(n.onlooker.Sights().Answers)
	maps.Copy(answers, rep.Answers)
	rep.Answers = answers
	return rep
}

// view is what the member may know of its domain: the members it boots by, and every node's addresses.
func (n *Node) view(l srvboot.Launch) (member.View, error) {
	r := n.static()
	for _, m := range l.Members {
		if known, ok := n.roster.Load().Node(m.Name); ok {
			if _, has := r.Node(m.Name); !has {
				r.Nodes = append(r.Nodes, known) // its line went, the member stays
			}
		}
	}
	v, err := member.ViewOf(l.Members, r, n.line.Cluster)
	if err != nil && !l.New {
		// A restart looks nothing up in SRV, and a member with data must not wait for names that changed.
		n.log.Warn("the member restarts without a full view of the domain", zap.Error(err))
		v, err = member.ViewOf(nil, r, n.line.Cluster)
	}
	if err == nil {
		n.launch.Store(&l)
	}
	return v, err
}

// resolve follows changes of addresses for the running member; the members it booted by stay as they were.
func (n *Node) resolve(r roster.Roster) {
	l := n.launch.Load()
	if l == nil {
		return
	}
	v, err := member.ViewOf(l.Members, r, n.line.Cluster)
	if err != nil {
		// One that runs looks nothing up in SRV any more; of the addresses it has to know those that are known.
		n.log.Warn("the member goes on without a full view of the domain", zap.Error(err))
		if v, err = member.ViewOf(nil, r, n.line.Cluster); err != nil {
			return
		}
	}
	n.resolver.SetView(v)
}

// fillState adds what only the node knows to the state that other nodes get.
func (n *Node) fillState(s *srvboot.State) {
	s.Gossip, s.Signed = n.rumor.boot(), n.dnssec.signer() != nil
	s.Places, s.BundleGeneration = n.places.say(n.options(), s.Life), n.latest.Load().Generation()
	if s.Member != nil {
		m := *s.Member // the report's own
		m.HeldOut = m.Serving && n.publisher.held.Load().wait > 0
		s.Member = &m
	}
	s.Clients, s.Heard = n.publisher.tell(time.Now())
	s.Followed, s.Corefile = n.followers.lists(), n.options().alikeDigest()
	s.Slot = n.numbering.said()
	if snap := n.store.Load(); snap != nil {
		s.Serial, s.ZoneDigest = snap.Serial(), snap.Digest()
	}
	for _, store := range n.zones.All() {
		if snap := store.Load(); snap != nil && store != n.store {
			if s.Zones == nil {
				s.Zones = map[string]srvboot.ZoneContent{}
			}
			s.Zones[snap.Domain()] = srvboot.ZoneContent{Serial: snap.Serial(), Digest: snap.Digest()}
		}
	}
}

// preflight runs the checks that stand in the way of a start and returns those that failed.
func (n *Node) preflight(ctx context.Context) (failed []string) {
	for _, r := range srvboot.RunChecks(ctx, n.bootTarget()) {
		if r.Level == srvboot.LevelFail {
			failed = append(failed, r.Name+": "+r.Detail)
		}
	}
	return failed
}
