package srvboot

import "strings"

// NewBallot returns the ballot with number n of one run of a node. The run's nonce is part of it, so that a node that
// lost its disk never makes a ballot again that its earlier life made.
func NewBallot(n uint64, node, run string) Ballot { return Ballot{N: n, By: node + "/" + run} }

// Less orders ballots by number, then by maker.
func (b Ballot) Less(o Ballot) bool {
	if b.N != o.N {
		return b.N < o.N
	}
	return b.By < o.By
}

// Node returns the name of the node that made the ballot, empty for the zero ballot.
func (b Ballot) Node() string {
	node, _, _ := strings.Cut(b.By, "/")
	return node
}

// rank orders the phases of a birth; phases outside of it rank as running, since they come after a birth.
func (p Phase) rank() int {
	switch p {
	case "", Fresh:
		return 0
	case Promised:
		return 1
	case Accepted:
		return 2
	case Born:
		return 3
	default:
		return 4
	}
}

// unborn reports whether a node in that phase knows of no birth.
func (p Phase) unborn() bool { return p.rank() <= Accepted.rank() }

// same reports whether two geneses are one. The cluster ID follows from the genesis ID and the members, and it is all
// that a marker rebuilt from a write-ahead log knows.
func (g Genesis) same(o Genesis) bool {
	if g.ClusterID != "" && o.ClusterID != "" {
		return g.ClusterID == o.ClusterID
	}
	return g.ID != "" && g.ID == o.ID
}

// member returns the member of that name.
func (g Genesis) member(name string) (GenesisMember, bool) {
	for _, m := range g.Members {
		if m.Name == name {
			return m, true
		}
	}
	return GenesisMember{}, false
}
