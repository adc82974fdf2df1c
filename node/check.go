package node

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// HostsFile may shadow names of the zone, because Go's resolver reads it first.
const HostsFile = "/etc/hosts"

// target describes a node to the checks. What only DNS can tell is left to the caller.
func (o *Options) target(line NodeLine, b *certs.Bundle) srvboot.Target {
	c, _ := o.cluster(line.Cluster)
	t := srvboot.Target{
		Domain: o.Domain, SrvName: line.Cluster, Scheme: c.scheme(), Node: line.Name,
		PeerURLs: []string{o.peerURL(line.roster(0), c)}, ClientURLs: []string{o.clientURL(line.Name, c)},
		ListenPeerURLs: listenURLs(c.scheme(), line.peerAddrs(), c.PeerPort), ListenClientURLs: listenURLs(c.scheme(), line.Addrs, c.ClientPort),
		CustomCA: true, DataDir: o.Data, Bundle: b.ID(), Ephemeral: o.Ephemeral, HostsFile: HostsFile, NotBefore: b.Created(), LocalAddrs: line.Addrs,
	}
	for _, m := range o.members(line.Cluster) {
		if n, ok := o.node(m.Name); ok {
			t.Peers = append(t.Peers, o.host(n.roster(0).PeerHost()))
		}
	}
	dir := o.File("certs")
	for _, slot := range []string{"peer", "client", "server"} {
		t.Certificates = append(t.Certificates, srvboot.CertFiles{Use: slot, Cert: dir + "/" + slot + ".crt", Key: dir + "/" + slot + ".key", CA: dir + "/ca.crt"})
	}
	return t
}

// bootTarget is this node about to start its member.
func (n *Node) bootTarget() srvboot.Target {
	t := n.options().target(n.line, n.bundle)
	t.Boot, t.SkipDNS = true, "the member asks this node's own frozen view, not the DNS"
	return t
}

// CheckTarget describes this machine's node to the checks of `etcd-dns check`: against the zone that it serves when
// it runs, and against the files alone when it does not.
func (o *Options) CheckTarget(ctx context.Context) (srvboot.Target, error) {
	name, err := o.OwnName()
	if err != nil {
		return srvboot.Target{}, err
	}
	line, ok := o.node(name)
	if !ok {
		return srvboot.Target{}, o.noSuchNode(name)
	}
	b, err := certs.LoadBundle(o.Bundle)
	if err != nil {
		return srvboot.Target{}, err
	}
	t := o.target(line, b)
	for _, a := range line.Addrs {
		at := net.JoinHostPort(a.String(), strconv.Itoa(int(o.DNSPort)))
		t.Listen = append(t.Listen, srvboot.Listener{Network: "udp", Addr: at, What: "DNS"}, srvboot.Listener{Network: "tcp", Addr: at, What: "DNS"},
			srvboot.Listener{Network: "tcp", Addr: net.JoinHostPort(a.String(), strconv.Itoa(int(o.AdminPort))), What: "the admin port"})
	}
	s, err := Fetch(ctx, o)
	if s.Plan.Spare {
		t.Spare = s.Waiting
	}
	switch {
	case err != nil:
		t.SkipDNS = "the node does not run"
	case s.Zone.Birth[line.Cluster] != roster.Born.String():
		t.SkipDNS = "the cluster is not born yet: " + s.Waiting
	default:
		if at, ok := answersAt(line, s); ok {
			t.Resolver = resolverAt(netip.AddrPortFrom(at, o.DNSPort))
		}
	}
	if servers := systemNameServer(); servers != "" && o.hasParent() {
		t.Delegation = &srvboot.Delegation{NameServers: o.Roster(func(string) int { return 0 }).NameServers, Recursive: servers}
	}
	return t, nil
}

// answersAt is where a running node answers DNS.
func answersAt(line NodeLine, s Status) (netip.Addr, bool) {
	if len(line.Addrs) > 0 {
		return line.Addrs[0], true
	}
	for _, n := range s.Nodes {
		if n.Name == line.Name && len(n.Addresses) > 0 {
			a, err := netip.ParseAddr(n.Addresses[0])
			return a, err == nil
		}
	}
	return netip.Addr{}, false
}

// resolverAt asks one name server, whatever resolv.conf says.
func resolverAt(at netip.AddrPort) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		return d.DialContext(ctx, strings.TrimRight(network, "46"), at.String())
	}}
}
