package srvboot

import (
	"fmt"
	"slices"
)

// A cluster of `size N of M` begins with N of its M nodes, and the others are spares. Who they are is not known before the
// birth, and so two of them must not take place (docs/design/safety.md, "A size instead of names").

// shared is how many nodes any two sets that could bear a cluster have in common: when one of them lost its disk, another one
// still remembers.
const shared = 2

// AnswersFor is how many of the nodes have to answer before a cluster of that size is born: as many as it has members, if any
// two such sets share enough nodes, and the set of all nodes is pinned; otherwise all. Pinned means that the bundle names
// these nodes and no others, so that no edit of a Corefile makes another set of them.
func AnswersFor(size, nodes int, pinned bool) int {
	if size > 0 && pinned && 2*size-nodes >= shared {
		return size
	}
	return nodes
}

// someSuffice reports whether birth may go on although some nodes are silent.
func (h Home) someSuffice() bool { return h.Answers > 0 && h.Answers < len(h.Initial) }

// answering are those of the initial members that birth counts and that answer, this node included.
func (s *situation) answering() []GenesisMember {
	return slices.DeleteFunc(without(s.f.Home.Initial, s.marker.Excused), func(m GenesisMember) bool {
		return m.Name != s.f.Home.Node && !slices.ContainsFunc(s.fresh, func(a Answer) bool { return a.Node == m.Name })
	})
}

// beginners are the members that a birth would have now.
func (s *situation) beginners() []GenesisMember {
	if s.f.Home.Size == 0 {
		return without(s.f.Home.Initial, s.marker.Excused)
	}
	all := s.answering()
	return all[:min(len(all), s.f.Home.Size)]
}

// lastAccepted is what was accepted in the highest ballot that this node knows of; nil when nothing was.
func (s *situation) lastAccepted() *Acceptance {
	best := s.marker.Accepted
	for _, a := range s.fresh {
		if acc := a.State.Accepted; acc != nil && (best == nil || best.Ballot.Less(acc.Ballot)) {
			best = acc
		}
	}
	return best
}

// lacking are the silent nodes that birth waits for, why it does, and what leads out.
func (s *situation) lacking() (names []string, why, hint string) {
	h := s.f.Home
	unknown := func(n string) bool { _, ok := (Genesis{Members: h.Initial}).member(n); return !ok }
	if len(s.silent) == 0 || !h.someSuffice() || slices.ContainsFunc(s.silent, unknown) {
		return s.silent, "birth needs an answer of every node", s.birthHint()
	}
	if last := s.lastAccepted(); last != nil {
		members := slices.DeleteFunc(memberNames(last.Genesis.Members), func(n string) bool { return !slices.Contains(s.silent, n) })
		if len(members) > 0 {
			return members, fmt.Sprintf("genesis %s is accepted, and needs an answer of each of its members", last.Genesis.ID), s.birthHint()
		}
	}
	switch n := len(s.answering()); {
	case n < h.Answers:
		return s.silent, fmt.Sprintf("birth needs an answer of %d of the %d nodes, and %d answer", h.Answers, len(h.Initial), n), s.birthHint()
	case s.f.Now.Sub(s.f.Began) < FreshFor: // not for safety: who is just a little later belongs to the first
		return s.silent, fmt.Sprintf("birth goes on without the nodes that are silent for %s", FreshFor), ""
	}
	return nil, "", ""
}

// size is how many members a cluster is to have, 0 for no limit. Who only knows its ID, because the marker was lost, goes by
// the Corefile.
func (g Genesis) size(h Home) int {
	if g.ID == "" {
		return h.Size
	}
	return g.Size
}

// finishers is how many members have to have accepted a genesis before a person may have it finished without the others. Of
// a size it is a majority of all nodes: other nodes than its members could bear another one.
func (g Genesis) finishers() int { return max(quorum(len(g.Members)), quorum(g.Of)) }

// full reports whether the living cluster has as many members as its size says, and how many that are.
func (s *situation) full() (size int, ok bool) {
	if s.lives == nil {
		return 0, false
	}
	for _, a := range s.born {
		if a.Node == s.lives.Node {
			size = a.State.Accepted.Genesis.size(s.f.Home)
		}
	}
	return size, size > 0 && len(s.lives.List) >= size
}

// spareText is what a spare waits for.
func spareText(size int) string {
	return fmt.Sprintf("the cluster has its %d members; this node is a spare", size)
}
