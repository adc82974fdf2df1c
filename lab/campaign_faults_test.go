//go:build linux

package lab

import "math/rand/v2"

// A fault happens to a rack and is healed later. What it does is decided by the random numbers and by the faults before it
// alone, so that a seed always gives the same sequence.
type fault struct {
	name   string
	weight int
	// stock says that the racks of stock etcd here can have it too.
	stock bool
	// strike does it, unless it cannot be now: then what is empty. The heal may be nil.
	strike func(c *campaign) (what string, h heal)
}

// heal undoes a fault. Heals of a lower stage come first: files before what reads them, machines and wires before orders to
// the cluster.
type heal struct {
	stage int
	do    func()
}

const (
	files = iota
	things
	orders
)

// faults are all of them, with how often each is drawn among them.
var faults = []fault{
	{name: "kill member", weight: 6, stock: true, strike: (*campaign).strikeMember},
	{name: "kill node", weight: 6, stock: true, strike: (*campaign).strikeNode},
	{name: "kill all", weight: 2, stock: true, strike: (*campaign).strikeAll},
	{name: "stop node", weight: 3, strike: (*campaign).strikeStop},
	{name: "wipe etcd", weight: 1, stock: true, strike: func(c *campaign) (string, heal) { return c.strikeDisk("etcd") }},
	{name: "wipe disk", weight: 2, stock: true, strike: func(c *campaign) (string, heal) { return c.strikeDisk("") }},
	{name: "new machine", weight: 1, strike: (*campaign).strikeMachine},
	{name: "pause member", weight: 5, stock: true, strike: (*campaign).strikePauseMember},
	{name: "pause node", weight: 4, stock: true, strike: (*campaign).strikePauseNode},
	{name: "cut link", weight: 5, stock: true, strike: (*campaign).strikeLink},
	{name: "cut one way", weight: 5, stock: true, strike: (*campaign).strikeOneWay},
	{name: "cut node", weight: 4, stock: true, strike: (*campaign).strikeCable},
	{name: "new address", weight: 4, strike: (*campaign).strikeAddress},
	{name: "block DNS", weight: 4, strike: (*campaign).strikeDNS},
	{name: "step clock", weight: 5, strike: (*campaign).strikeClock},
	{name: "fill disk", weight: 3, strike: (*campaign).strikeFull},
	{name: "reload", weight: 3, strike: (*campaign).strikeReload},
	{name: "bad Corefile", weight: 3, strike: (*campaign).strikeBadCorefile},
	{name: "older image", weight: 2, stock: true, strike: (*campaign).strikeImage},
	{name: "new gossip key", weight: 1, strike: (*campaign).strikeKey},
	{name: "join", weight: 2, strike: (*campaign).strikeJoin},
	{name: "remove member", weight: 6, strike: (*campaign).strikeRemove},
	{name: "add member", weight: 6, strike: (*campaign).strikeAdd},
	{name: "replace member", weight: 4, strike: (*campaign).strikeReplace},
}

// draw picks a fault.
func (c *campaign) draw() fault {
	var can []fault
	total := 0
	for _, f := range faults {
		if c.product || f.stock {
			can = append(can, f)
			total += f.weight
		}
	}
	n := c.random.IntN(total)
	for _, f := range can {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// one picks a node, or returns the empty string if none is as asked for.
func (c *campaign) one(ok func(s *state) bool) string {
	var can []string
	for _, n := range c.nodes {
		if ok(c.states[n]) {
			can = append(can, n)
		}
	}
	if len(can) == 0 {
		return ""
	}
	return can[c.random.IntN(len(can))]
}

// state is what a campaign did to a node and has not healed yet.
type state struct {
	down, paused, memberPaused, cut, silenced, clock, full, badFile bool
	// lost is a disk that this round took, or is to put back from an older image; joined a node that it started.
	lost, joined bool
	// ordered is one whose removal this round ordered, added one that was ordered in again. out says that the removal was not refused.
	ordered, added, out bool
}

// pick is a random element.
func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }
