package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/gossip"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// rumor is what the node has of gossip. It never decides about data: it says sooner than the admin port that a run of a
// node is gone, prompts questions, and knows addresses of nodes that the Corefile gives none.
type rumor struct {
	node *Node
	// moved says that this node's own addresses changed.
	moved prompt
	// now is what gossips; nil before run.
	now atomic.Pointer[gossiping]
}

// gossiping is the time at one address. The others keep the address of a run that they know, so that each has a nonce of
// its own.
type gossiping struct {
	*gossip.Gossip
	boot string
}

func newRumor(n *Node) *rumor { return &rumor{node: n, moved: newPrompt()} }

// boot is the nonce in gossip; empty before run.
func (r *rumor) boot() string {
	if g := r.now.Load(); g != nil {
		return g.boot
	}
	return ""
}

// Peers are those of gossip.Gossip.
func (r *rumor) Peers() []gossip.Peer {
	if g := r.now.Load(); g != nil {
		return g.Peers()
	}
	return nil
}

// begin gossips at the addresses of now.
func (r *rumor) begin() (*gossiping, error) {
	n, boot := r.node, uuid.NewString()
	o := n.options()
	g, err := gossip.New(gossip.Options{Domain: o.Domain, Name: n.name, Boot: boot, Addrs: n.addrs(), Port: o.GossipPort,
		Keys: n.latest.Load().GossipKeys(), Seeds: r.seeds, File: o.File("gossip.json"), Timing: o.gossipTiming(), Log: n.log.Named("gossip")})
	if err != nil {
		return nil, err
	}
	now := &gossiping{Gossip: g, boot: boot}
	r.now.Store(now)
	r.say()
	return now, r.rekey() // a reload may have come in between
}

// rekey takes over the keys of the bundle that is held now.
func (r *rumor) rekey() error {
	if g := r.now.Load(); g != nil {
		return g.SetKeys(r.node.latest.Load().GossipKeys())
	}
	return nil
}

// gossipTiming follows the `timing` line of the block.
func (o *Options) gossipTiming() gossip.Timing {
	switch o.Timing {
	case "metro":
		return gossip.Metro()
	case "wan":
		return gossip.WAN()
	}
	return gossip.Rack()
}

// seeds are the other nodes' addresses and the `join` lines; without any, what the parent zone delegates to.
func (r *rumor) seeds(ctx context.Context) (out []netip.AddrPort) {
	o := r.node.options()
	for _, l := range o.Nodes {
		if l.Name != r.node.name && len(l.Addrs) > 0 {
			out = append(out, netip.AddrPortFrom(l.Addrs[0], o.GossipPort))
		}
	}
	out = append(out, o.Join...)
	if len(out) == 0 && !o.NoParent {
		out = delegated(ctx, net.DefaultResolver, o)
	}
	for name, at := range r.node.places.snapshot() {
		for _, a := range at.Addrs {
			if name != r.node.name {
				out = append(out, netip.AddrPortFrom(a, o.GossipPort))
			}
		}
	}
	return out
}

// delegated asks the system's resolver for the domain's name servers, which are nodes unless the Corefile says otherwise.
func delegated(ctx context.Context, resolver *net.Resolver, o *Options) (out []netip.AddrPort) {
	servers, err := resolver.LookupNS(ctx, o.Domain)
	if err != nil {
		return nil // it is asked again
	}
	for _, s := range servers {
		addrs, err := resolver.LookupNetIP(ctx, "ip", s.Host)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a.Unmap(), o.GossipPort))
		}
	}
	return out
}

// run gossips until ctx ends, at each of this node's addresses in turn.
func (r *rumor) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for ctx.Err() == nil {
		g, err := r.begin()
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		here, leave := context.WithCancel(ctx)
		group.Go(func() error { return g.Run(here) })
		r.watch(here, g)
		leave() // its goodbye may take a while, or get lost with the address
	}
	return group.Wait()
}

// watch has the zone judged anew at every change, and a node asked at once that came, went, or says something new. It
// returns when this node moves, or ctx ends.
func (r *rumor) watch(ctx context.Context, g *gossiping) {
	known := map[string]heardSay{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.moved:
			return
		case <-g.Changed():
		}
		r.node.publisher.prompts.send()
		next := map[string]heardSay{}
		for _, p := range g.Peers() {
			run := p.Name + "." + p.Boot
			was, met := known[run]
			next[run] = heardSay{fmt.Sprint(p.Status, p.Phase, p.MemberID, p.Serving), p.Serial}
			if next[run].what != was.what || p.Serial != was.serial && r.isBehind(p) {
				if !met {
					r.node.peers.forget(p.Name) // it may be elsewhere now
				}
				r.node.boot.Ask(ctx, p.Name)
				r.node.onlooker.Prompt(p.Name)
			}
		}
		known = next
	}
}

// heardSay is what gossip said of a run of a node, as far as it is worth a question.
type heardSay struct {
	what   string
	serial uint32
}

// gossipWarnings name who is reached at the admin port alone.
func (n *Node) gossipWarnings(rep srvboot.Report) (out []string) {
	for _, name := range n.hear(rep, time.Now()).apart() {
		out = append(out, fmt.Sprintf("%s answers, and gossip does not reach it, so that its crash would be noticed late: open port %d, UDP and TCP, between the nodes", name, n.options().GossipPort))
	}
	return out
}

// isBehind reports whether this node's zone is not, or not yet, what a node says that it serves. Several make a serial each when a
// list changes, and follow the latest: who asked all the others for each of theirs would be busy while the change has to get out.
func (r *rumor) isBehind(p gossip.Peer) bool {
	own := r.node.store.Load()
	return own == nil || !strings.HasPrefix(own.Digest(), p.Digest) || zone.Later(p.Serial, own.Serial())
}

// say spreads what this node is now.
func (r *rumor) say() {
	n, g := r.node, r.now.Load()
	if g == nil {
		return
	}
	o, s := n.options(), n.boot.Report().State
	n.fillState(&s)
	c, _ := o.cluster(n.line.Cluster)
	rec := gossip.Record{Cluster: n.line.Cluster, Addrs: n.addrs(), PeerAddrs: n.line.Peers, AdminPort: o.AdminPort, PeerPort: c.PeerPort,
		ClientPort: c.ClientPort, Slot: n.numbering.own(), Phase: string(s.Phase), Serial: s.Serial}
	if d := s.ZoneDigest; len(d) >= digestOctets*2 {
		rec.Digest = strings.ToLower(d[:digestOctets*2])
	}
	if s.Accepted != nil {
		rec.Genesis, rec.Generation = s.Accepted.Genesis.ID, s.Accepted.Genesis.Generation
	}
	if s.Member != nil {
		rec.MemberID, rec.Serving = s.Member.ID, s.Member.Serving && !s.Member.HeldOut
	}
	g.Say(rec)
}

// digestOctets is how much of the zone's digest is spread: enough to tell contents apart.
const digestOctets = 8

// word is what gossip says of a node, for status.
func (r *rumor) word(name string) string {
	word, since := "", time.Time{}
	for _, p := range r.Peers() {
		if p.Name == name && (word == "" || p.Status == gossip.Alive || p.Since.After(since)) {
			word, since = p.Status.String(), p.Since
			if p.Status == gossip.Alive {
				return word
			}
		}
	}
	return word
}
