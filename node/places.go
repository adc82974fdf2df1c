package node

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/etcd-dns/etcd-dns/gossip"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// places are where nodes are by their own word, which counts for those whose lines in the Corefile give no address. Gossip only says where to ask. What counts
// is what the node itself answers at its admin port, where its certificate names it: so whoever has another node's former
// address is never taken for it.
type places struct {
	// own is this node's name; set before use, then read-only.
	own string

	mu sync.Mutex
	// known is guarded by mu, and so is met: when a node answered last, in this run of ours.
	known roster.Places
	met   map[string]time.Time
}

func newPlaces(own string) *places {
	return &places{own: own, known: roster.Places{}, met: map[string]time.Time{}}
}

// maxPlaceAddrs is how many addresses of one node are believed: one of each family is published.
const maxPlaceAddrs = 8

// recall takes over what an earlier run wrote down.
func (p *places) recall(saved roster.Places) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, at := range saved {
		if name != p.own { // the interfaces know
			p.known[name] = usable(at)
		}
	}
}

// learn takes in the nodes' answers: of themselves, and, about those that this run has not met, of others.
func (p *places) learn(answers map[string]srvboot.Answer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, a := range answers {
		at, says := a.State.Places[name]
		if !says || a.At.IsZero() || name == p.own || !a.At.After(p.met[name]) {
			continue
		}
		p.met[name] = a.At
		p.settleAt(name, usable(at), now)
	}
	for _, a := range answers {
		if a.At.IsZero() {
			continue
		}
		for name, at := range a.State.Places {
			known, some := p.known[name]
			if p.met[name].IsZero() && name != p.own && (!some || at.Later(known)) {
				p.known[name] = usable(at)
			}
		}
	}
}

// settleAt puts a node somewhere. Who was there before and has not answered lately is not there any more; the caller holds mu.
func (p *places) settleAt(name string, at roster.Place, now time.Time) {
	p.known[name] = at
	p.known.Vacate(at.Addrs, func(other string) bool {
		return other != name && other != p.own && now.Sub(p.met[other]) > staleAnswer
	})
}

// moved puts this node itself somewhere.
func (p *places) moved(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleAt(p.own, roster.Place{Addrs: slices.Clone(addrs), Moves: p.known[p.own].Moves + 1}, time.Now())
}

// say is what this node tells the others, in that life of its own: where it is itself, also when the Corefile says so, since
// theirs may not; and where the nodes are that the Corefile gives no address.
func (p *places) say(o *Options, life uint64) roster.Places {
	out := p.snapshot()
	maps.DeleteFunc(out, func(name string, _ roster.Place) bool {
		line, _ := o.node(name)
		return name != p.own && len(line.Addrs) > 0
	})
	if own, ok := out[p.own]; ok {
		own.Life = life
		out[p.own] = own
	}
	return out
}

// of returns where a node is; nil if nobody knows.
func (p *places) of(name string) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[name].Addrs
}

// snapshot is everything that is known.
func (p *places) snapshot() roster.Places {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.known)
}

// fill adds the addresses of the nodes that the Corefile gives none. What it gives to one node, no other that it names has. A node
// without a line, whose member is still there, may be the one that the line of another name at its address was made from: it
// keeps the address until the member is removed, also when the new name has been met there.
func (p *places) fill(o *Options, r roster.Roster) roster.Roster {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range r.Nodes {
		n := &r.Nodes[i]
		line, named := o.node(n.Name)
		at, known := p.known[n.Name]
		switch {
		case !known || len(line.Addrs) > 0:
		case named:
			n.Addrs = slices.DeleteFunc(slices.Clone(at.Addrs), func(a netip.Addr) bool { return o.holder(a, n.Name) != "" })
		case len(at.Addrs) > 0:
			n.Addrs = slices.Clone(at.Addrs)
		}
	}
	return r
}

// conflicts lists nodes that say they are where the Corefile puts somebody else, for status.
func (p *places) conflicts(o *Options) (out []string) {
	for name, at := range p.snapshot() {
		if line, named := o.node(name); !named || len(line.Addrs) > 0 {
			continue
		}
		for _, a := range at.Addrs {
			if other := o.holder(a, name); other != "" {
				out = append(out, fmt.Sprintf("%s has the address %s from the network, which the Corefile gives to %s: it is not published for %s; give each node its own address",
					name, a, other, name))
			}
		}
	}
	slices.Sort(out)
	return out
}

// holder is the other node to which the Corefile gives an address; empty if there is none.
func (o *Options) holder(a netip.Addr, name string) string {
	for _, l := range o.Nodes {
		if l.Name != name && (slices.Contains(l.Addrs, a) || slices.Contains(l.Peers, a)) {
			return l.Name
		}
	}
	return ""
}

// usable leaves out addresses that could not stand in a Corefile either.
func usable(at roster.Place) roster.Place {
	at.Addrs = slices.DeleteFunc(slices.Clone(at.Addrs), func(a netip.Addr) bool { return !reachable(a) })
	at.Addrs = at.Addrs[:min(len(at.Addrs), maxPlaceAddrs)]
	return at
}

// reachable reports whether other machines can reach an address, whatever network they are in.
func reachable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && (a.IsGlobalUnicast() || a.IsLoopback())
}

// static is the part of the zone that no cluster's life decides: the Corefile, and the addresses that it leaves open.
func (n *Node) static() roster.Roster {
	o := n.options()
	return n.places.fill(o, o.Roster(n.numbering.of))
}

// addrsOf is where a node of the Corefile is: by its line, or where it was met.
func (n *Node) addrsOf(l NodeLine) []netip.Addr {
	if len(l.Addrs) > 0 {
		return l.Addrs
	}
	return n.places.of(l.Name)
}

// askAt lists where a node may answer, the likeliest place first.
func (n *Node) askAt(name string) []netip.Addr {
	if line, _ := n.options().node(name); len(line.Addrs) > 0 {
		return line.Addrs
	}
	known := n.places.of(name)
	if last, _ := n.roster.Load().Node(name); len(known) == 0 {
		known = last.Addrs // it outlives a node line
	}
	var heard []netip.Addr
	for _, p := range n.rumor.Peers() {
		if p.Name == name && p.Status == gossip.Alive {
			heard = append(heard, p.Addrs...)
		}
	}
	if name == n.name {
		return unique(heard, known) // another run under this name, if there is one
	}
	// Of two runs of one name the one that answered before is asked first.
	confirmed := slices.DeleteFunc(slices.Clone(known), func(a netip.Addr) bool { return !slices.Contains(heard, a) })
	return unique(confirmed, heard, known)
}

// unique joins lists, and leaves out what comes again.
func unique(lists ...[]netip.Addr) (out []netip.Addr) {
	for _, a := range slices.Concat(lists...) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
