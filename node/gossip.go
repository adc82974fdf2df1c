package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/gossip"
)

// rumor is what the node has of gossip. It never decides about data: it says sooner than the admin port that a run of a
// node is gone, prompts questions, and knows addresses of nodes that the Corefile gives none.
type rumor struct {
	node *Node
	*gossip.Gossip
	// boot is this run's nonce in gossip.
	boot string
}

func newRumor(n *Node, o *Options, boot string) (*rumor, error) {
	r := &rumor{node: n, boot: boot}
	addrs := n.line.Addrs
	if len(addrs) == 0 {
		addrs = n.certAddrs()
	}
	g, err := gossip.New(gossip.Options{Domain: o.Domain, Name: n.name, Boot: boot, Addrs: addrs, Port: o.GossipPort,
		Keys: [][]byte{n.bundle.Secrets().Gossip}, Seeds: r.seeds, File: o.File("gossip.json"), Timing: o.gossipTiming(), Log: n.log.Named("gossip")})
	r.Gossip = g
	return r, err
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

// run gossips until ctx ends.
func (r *rumor) run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		r.watch(ctx)
	}()
	err := r.Run(ctx)
	<-done
	return err
}

// watch has the zone judged anew at every change, and a node asked at once that came, went, or says something new.
func (r *rumor) watch(ctx context.Context) {
	known := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Changed():
		}
		r.node.publisher.prompts.send()
		next := map[string]string{}
		for _, p := range r.Peers() {
			run := p.Name + "." + p.Boot
			next[run] = fmt.Sprint(p.Status, p.Phase, p.MemberID, p.Serving, p.Serial)
			if next[run] != known[run] {
				r.node.boot.Ask(ctx, p.Name)
				r.node.onlooker.Prompt(p.Name)
			}
		}
		known = next
	}
}

// isGone reports whether that run of a node is gone by the verdict of the nodes, and no other run of it is alive. It is
// false for runs that gossip never met: where a firewall keeps gossip apart, the admin port alone decides.
func (r *rumor) isGone(name, boot string) bool {
	gone := false
	for _, p := range r.Peers() {
		if p.Name != name || p.Boot != boot {
			continue
		}
		gone = p.Status != gossip.Alive
	}
	return gone
}

// say spreads what this node is now.
func (r *rumor) say() {
	n := r.node
	o, s := n.options(), n.boot.Report().State
	n.fillState(&s)
	c, _ := o.cluster(n.line.Cluster)
	rec := gossip.Record{Cluster: n.line.Cluster, Addrs: n.line.Addrs, PeerAddrs: n.line.Peers, AdminPort: o.AdminPort, PeerPort: c.PeerPort,
		ClientPort: c.ClientPort, Slot: n.slot(n.name), Phase: string(s.Phase), Serial: s.Serial}
	if d := s.ZoneDigest; len(d) >= digestOctets*2 {
		rec.Digest = strings.ToLower(d[:digestOctets*2])
	}
	if s.Accepted != nil {
		rec.Genesis, rec.Generation = s.Accepted.Genesis.ID, s.Accepted.Genesis.Generation
	}
	if s.Member != nil {
		rec.MemberID, rec.Serving = s.Member.ID, s.Member.Serving
	}
	r.Say(rec)
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
