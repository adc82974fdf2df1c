package srvboot

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// The model of births with `size N of M`. What is silent is left out there, so that an answer must be able to go stale: a node
// misses another one. A cut is a node that asks some and misses the others.

func newSizeModel(size, nodes int, b budget) *model {
	m := newModel(nodes, b)
	m.loose = true
	m.resize(size, AnswersFor(size, nodes, true))
	return m
}

func (m *model) resize(size, answers int) {
	for _, homes := range m.homes {
		for i := range homes {
			homes[i].Size, homes[i].Answers = size, answers
		}
	}
}

func (m *model) sized() bool { return m.homes[0][0].Size > 0 }

// tolerates is how many disks must be lost before two clusters may be born: with fewer, any two sets of nodes that promise
// and that become members share one that remembers.
func (m *model) tolerates() int {
	h := m.homes[0][0]
	if !m.sized() {
		return m.n
	}
	return AnswersFor(h.Size, m.n, true) + h.Size - m.n
}

// impatient says whose turn it is to give up a ballot while everything heals.
func (m *model) impatient(turn, i int) bool {
	if m.sized() {
		return turn%3 == 2 && i == turn/3%m.n
	}
	return turn%7 == 6 && i == 0
}

// misses has ten seconds pass in which one node hears nothing of another.
func (w *world) misses(i, j int) *world {
	c := w.clone(fmt.Sprintf("n%d misses n%d", i, j))
	n := &c.nodes[i]
	n.answers = maps.Clone(n.answers)
	delete(n.answers, j)
	return c
}

// spare reports whether another node's member runs by a genesis that has no place for this one.
func (w *world) spare(i int) bool {
	for j := range w.nodes {
		if n := &w.nodes[j]; w.m.sized() && n.member && n.marker.Accepted != nil {
			if _, member := n.marker.Accepted.Genesis.member(w.homeName(i)); !member {
				return true
			}
		}
	}
	return false
}

// The beginnings of births of three nodes of four or five, without the others; and of two of three.
const (
	born012 = promisesN0 + "n0 acts; n0>n1 Accept; n0>n2 Accept; n0 acts; n0 acts; n0 acts; n0 writes; "
	born01  = "n0 asks n1; n0 acts; n0>n1 Prepare; n0 acts; n0>n1 Accept; n0 acts; n0 acts; n0 acts; n0 writes; "
)

// TestModelSize explores births of a size, breadth first, from blank disks and from where a lost disk hurts most.
func TestModelSize(t *testing.T) {
	t.Parallel()
	limit := fromEnv("ETCD_DNS_MODEL_STATES", 1000)
	worst := budget{crash: 1, wipe: 1, ballot: 1}
	total := 0
	for _, c := range []struct {
		size, nodes int
		b           budget
		from        string
	}{
		{2, 3, worst, ""},
		{3, 4, budget{}, ""},
		{3, 4, worst, promisesN0},
		{3, 4, worst, promisesN0 + "n0 acts; n0>n1 Accept"},
		{3, 4, worst, promisesN0 + "n0 acts; n0>n1 Accept; n0>n2 Accept; n1 crashes; n1 loses its disk; n1 starts; n3 asks n1; n3 asks n2"},
		{3, 4, budget{crash: 1, wipe: 1, ballot: 2}, born012},
		{3, 4, budget{crash: 1, wipe: 1, ballot: 2}, born012 + "n2 crashes; n2 loses its disk; n2 starts; n2 asks n3; n3 asks n2"},
		{4, 5, worst, promisesN0 + "n0 asks n3; n0 acts"},
		{3, 5, worst, "n0 asks n1; n0 asks n2; n3 asks n4"},
	} {
		m := newSizeModel(c.size, c.nodes, c.b)
		found, seen, whole := search(after(m.world(), lines(c.from)), limit, 50)
		total += seen
		t.Logf("%d of %d %+v after %d events: %d states, all of them: %v", c.size, c.nodes, c.b, len(lines(c.from)), seen, whole)
		if found != "" {
			t.Errorf("%d of %d %+v: %s", c.size, c.nodes, c.b, found)
		}
	}
	t.Logf("%d states explored", total)
}

func TestModelSizeWalks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fromEnv("ETCD_DNS_MODEL_WALKS", 8)) {
		for _, c := range [][2]int{{2, 3}, {3, 4}, {4, 5}, {3, 5}, {4, 6}} {
			m := newSizeModel(c[0], c[1], budget{crash: 3, wipe: 1, edit: 1, ballot: 3})
			if found := walk(m.world(), seed, 250); found != "" {
				t.Fatalf("%d of %d seed %d: %s", c[0], c[1], seed, found)
			}
		}
	}
}

// TestModelSizeMutants has a birth go on with more than half of the nodes, however few two halves share: after one lost disk
// another cluster is born. The real rule waits in the same history for the others, and comes to health.
func TestModelSizeMutants(t *testing.T) {
	for _, c := range []struct {
		size, nodes int
		script      string
	}{
		{2, 3, born01 + "n1 crashes; n1 loses its disk; n1 starts; n1 asks n2; n1 acts; n1>n2 Prepare; n1 acts; n1>n2 Accept; n1 acts; n1 acts"},
		{3, 5, born012 + "n2 crashes; n2 loses its disk; n2 starts; n2 asks n3; n2 asks n4; n2 acts; n2>n3 Prepare; n2>n4 Prepare; n2 acts;" +
			"n2>n3 Accept; n2>n4 Accept; n2 acts; n2 acts"},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.size, c.nodes), func(t *testing.T) {
			m := newSizeModel(c.size, c.nodes, budget{crash: 3, wipe: 1, ballot: 2})
			if found := play(m.world(), lines(c.script)); found != "" {
				t.Errorf("the rules themselves fail: %s", found)
			}
			m.resize(c.size, c.size)
			if found := play(m.world(), lines(c.script)); !strings.HasPrefix(found, "P1") {
				t.Errorf("the mutant survives: %s", found)
			}
		})
	}
	// The search finds such a history by itself from where a disk is lost.
	m := newSizeModel(2, 3, budget{crash: 1, wipe: 1})
	m.resize(2, 2)
	found, seen, _ := search(after(m.world(), lines(born01, "n1 crashes; n1 loses its disk")), 50000, 1<<30)
	if !strings.HasPrefix(found, "P1") {
		t.Errorf("the search does not find the mutant in %d states: %s", seen, found)
	}
	t.Logf("found after %d states: %s", seen, found)
}

// TestMemberModelSize has a spare machine beside a cluster of three: it is let in when a person removed a member, or ordered it,
// and never beyond that.
func TestMemberModelSize(t *testing.T) {
	t.Parallel()
	limit := fromEnv("ETCD_DNS_MODEL_STATES", 500)
	for _, c := range []struct {
		b    mbudget
		from string
	}{
		{mbudget{crash: 2, wipe: 1, lead: 1}, "n3 starts; n3 asks"},
		{mbudget{crash: 1, order: 2}, "n3 starts; n3 asks; n0 asks"},
		{mbudget{crash: 2, wipe: 1, cut: 1}, "n3 starts; n3 asks; " + blank2},
		{mbudget{crash: 2, wipe: 1, lead: 1}, "n3 starts; n3 asks; " + blank2 + out2},
		{mbudget{crash: 1, order: 1}, "n3 starts; n3 asks; n0 asks; a person removes n2; n0's change takes effect"},
	} {
		m := newMemberModel(3, 1, c.b)
		m.genesis.Size, m.genesis.Of = 3, 4
		found, seen, whole := search(after(m.world(), lines(c.from)), limit, 40)
		t.Logf("%+v after %d events: %d states, all of them: %v", c.b, len(lines(c.from)), seen, whole)
		if found != "" {
			t.Errorf("%+v: %s", c.b, found)
		}
	}
}
