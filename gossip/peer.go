package gossip

import (
	"net/netip"
	"slices"
	"time"
)

// Status is the verdict of the nodes on one run of a node.
type Status int

// memberlist keeps to itself whom it suspects, so a suspect counts as alive here, until it is dead or has objected.
const (
	// Alive means: it answers some node that asks.
	Alive Status = iota
	// Dead means: it answers nobody. It may run all the same, behind a broken wire or paused.
	Dead
	// Left means: it said goodbye. A goodbye can be lost, and then it counts as dead.
	Left
)

// String returns the word for logs and status.
func (s Status) String() string { return [...]string{"alive", "dead", "left"}[s] }

// Peer is one run of another node, or another run of this one.
type Peer struct {
	// Record is what it said last. When there is a Problem, only Format, Name and Boot are set.
	Record
	// Problem says why its record cannot be used; empty when it can.
	Problem string
	// Addr is where its gossip listens.
	Addr netip.AddrPort
	// Status is the verdict, and Since the local time at which it was first heard.
	Status Status
	Since  time.Time
}

// clone shares no memory with p.
func (p Peer) clone() Peer {
	p.Addrs, p.PeerAddrs = slices.Clone(p.Addrs), slices.Clone(p.PeerAddrs)
	return p
}

// endpoints are the addresses at which its gossip may be reached, the one that memberlist knows first.
func (p Peer) endpoints() []netip.AddrPort {
	out := []netip.AddrPort{p.Addr}
	for _, a := range p.Addrs {
		if at := netip.AddrPortFrom(a, p.Addr.Port()); at != p.Addr {
			out = append(out, at)
		}
	}
	return out
}
