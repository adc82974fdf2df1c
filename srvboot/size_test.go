package srvboot

import (
	"math/bits"
	"slices"
	"strings"
	"testing"
)

// TestAnswersFor checks every pair of a set of nodes that promises and a set that became members: while fewer than all answer, they
// share two, and a bare majority of an odd number never suffices.
func TestAnswersFor(t *testing.T) {
	for nodes := 1; nodes <= 9; nodes++ {
		for size := nodes/2 + 1; size <= nodes; size++ {
			answers := AnswersFor(size, nodes, true)
			if AnswersFor(size, nodes, false) != nodes {
				t.Errorf("%d of %d: nodes may be silent though others may take their place", size, nodes)
			}
			if bare := nodes%2 == 1 && size == nodes/2+1; bare != (answers == nodes) && size < nodes {
				t.Errorf("%d of %d: %d answers suffice", size, nodes, answers)
			}
			for q := range 1 << nodes {
				for s := range 1 << nodes {
					if bits.OnesCount(uint(q)) == answers && bits.OnesCount(uint(s)) == size && bits.OnesCount(uint(q&s)) < min(shared, nodes) {
						t.Fatalf("%d of %d: %b promise and %b are members", size, nodes, q, s)
					}
				}
			}
		}
	}
}

func TestGenesisOfASize(t *testing.T) {
	f := caseFacts()
	sized(3, 4, 3)(&f)
	good, err := newGenesis(f.Home, []string{"n1"}, "id")
	if err != nil || strings.Join(memberNames(good.Members), " ") != "n0 n2 n3" || good.Size != 3 || good.Of != 4 {
		t.Fatalf("%+v: %v", good, err)
	}
	if g, err := newGenesis(f.Home, nil, "id"); err != nil || strings.Join(memberNames(g.Members), " ") != "n0 n1 n2" {
		t.Errorf("of all: %+v: %v", g, err)
	}
	if g, err := newGenesis(f.Home, []string{"n1", "n2"}, "id"); err == nil {
		t.Errorf("two make a genesis of three: %+v", g)
	}
	for name, change := range map[string]func(*Genesis){
		"a member less": func(g *Genesis) { g.Members = g.Members[1:] }, "half of them": func(g *Genesis) { g.Of = 6 },
		"of fewer nodes": func(g *Genesis) { g.Of = 2 }, "of none": func(g *Genesis) { g.Of = 0 }, "no size": func(g *Genesis) { g.Size = 0 },
	} {
		g := good
		g.Members = slices.Clone(good.Members)
		change(&g)
		if _, err := checkGenesis(g); err == nil || !strings.Contains(err.Error(), "a size of") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := checkGenesis(good); err != nil {
		t.Error(err)
	}
}

// An answer may become old between the decision to go on with a birth and the ballot. What the ballot asked for is then too few for a
// new genesis; and what was accepted elsewhere needs the promises of all its members.
func TestProposeOfASizeNeedsEnough(t *testing.T) {
	f := caseFacts()
	sized(3, 4, 3)(&f)
	g, err := newGenesis(f.Home, nil, "accepted")
	if err != nil {
		t.Fatal(err)
	}
	ballot := NewBallot(4, "n0", f.Run)
	own(Promised)(&f)
	f.Disk.Marker.Promised = ballot
	for name, c := range map[string]struct {
		promised map[string]*Acceptance
		lost     bool
		members  string
	}{
		"two":                                 {map[string]*Acceptance{"n0": nil, "n1": nil}, true, ""},
		"three":                               {map[string]*Acceptance{"n0": nil, "n2": nil, "n3": nil}, false, "n0 n2 n3"},
		"four":                                {map[string]*Acceptance{"n0": nil, "n1": nil, "n2": nil, "n3": nil}, false, "n0 n1 n2"},
		"three, a member of the other absent": {map[string]*Acceptance{"n0": nil, "n1": {Ballot: Ballot{N: 3, By: "n1/r"}, Genesis: g}, "n3": nil}, true, ""},
		"four, one accepted":                  {map[string]*Acceptance{"n0": nil, "n1": nil, "n2": nil, "n3": {Ballot: Ballot{N: 3, By: "n1/r"}, Genesis: g}}, false, "n0 n1 n2"},
	} {
		t.Run(name, func(t *testing.T) {
			runs := map[string]string{}
			for n := range c.promised {
				if n != "n0" {
					runs[n] = "r-" + n
				}
			}
			r := &Round{Ballot: ballot, Began: f.Now, Digest: f.Home.Digest(), Runs: runs, Promised: c.promised}
			step := Propose(Proposal{Facts: f, Round: r, Moved: f.Now, Timing: DefaultTiming(), NewID: func() string { return "new" }})
			if step.Round.Lost != c.lost || (step.Marker == nil) != c.lost || (len(step.Accept) == 0) != c.lost {
				t.Fatalf("%+v", step)
			}
			if !c.lost && strings.Join(memberNames(step.Round.Genesis.Members), " ") != c.members {
				t.Errorf("the members are %v, want %s", memberNames(step.Round.Genesis.Members), c.members)
			}
		})
	}
}
