package srvboot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// inSized runs f in a simulated rack whose Corefile says `size N of M`.
func inSized(t *testing.T, size, nodes int, f func(r *rack)) {
	t.Helper()
	inRack(t, nodes, func(r *rack) {
		r.admitAll()
		for _, n := range r.nodes {
			n.edit(func(h *Home) { h.Size, h.Answers = size, AnswersFor(size, nodes, true) })
		}
		f(r)
	})
}

func (r *rack) spare(name string) func() bool {
	return func() bool {
		p := r.nodes[name].report().Plan
		return p.Row == 16 && p.Action == Ask && p.Spare && strings.Contains(p.Hint, "etcd-dns member add "+name)
	}
}

// cutApart lets no node of one part hear one of the other.
func (r *rack) cutApart(one, other []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range one {
		for _, b := range other {
			r.cut[[2]string{a, b}], r.cut[[2]string{b, a}] = true, true
		}
	}
}

func (r *rack) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.cut)
}

func TestSizeAllAnswer(t *testing.T) {
	inSized(t, 3, 5, func(r *rack) {
		r.start()
		took := r.within(2*time.Second, "the first three run", r.running("n0", "n1", "n2"))
		t.Logf("three of five run after %s", took)
		r.within(5*time.Second, "n3 is a spare", r.spare("n3"))
		r.within(5*time.Second, "n4 is a spare", r.spare("n4"))
		r.never(10*time.Second, "a spare was let in", func() bool { v, l := r.members(); return len(v) != 3 || len(l) != 0 })
		for _, n := range simNames(5) {
			if v := r.nodes[n].report().View; v.Knowledge != roster.Born || len(v.Members) != 3 {
				t.Errorf("%s publishes %+v", n, v)
			}
		}
	})
}

// TestSizeWithoutOne: of four the fourth never started. The others wait ten seconds for it, and it is a spare when it comes, until
// a member is removed; who was removed is let in by a word, beyond the size.
func TestSizeWithoutOne(t *testing.T) {
	for _, late := range []string{"n3", "n0"} {
		t.Run(late, func(t *testing.T) {
			first := slices.DeleteFunc(simNames(4), func(n string) bool { return n == late })
			inSized(t, 3, 4, func(r *rack) {
				r.start(first...)
				r.never(9*time.Second, "they did not wait for "+late, func() bool { return r.phaseOf(first[0]).rank() > 0 })
				r.within(5*time.Second, "three run", r.votersAre(first...))
				r.start(late)
				r.within(5*time.Second, late+" is a spare", r.spare(late))
				r.never(15*time.Second, late+" was let in", func() bool { v, l := r.members(); return len(v) != 3 || len(l) != 0 })
				r.settled()
				if reply := r.orderAt(first[0], Order{Op: OrderRemove, Node: first[1]}); !reply.Done {
					t.Fatalf("%+v", reply)
				}
				now := sortedNames([]string{first[0], first[2], late})
				r.within(30*time.Second, "the spare took the place", r.votersAre(now...))
				r.within(30*time.Second, "the removed one is retired", func() bool { return r.phaseOf(first[1]) == Removed })
				r.never(12*time.Second, "the removed one came back", func() bool { v, l := r.members(); return len(v) != 3 || len(l) != 0 })
				if reply := r.orderAt(first[0], Order{Op: OrderAdd, Node: first[1]}); !reply.Done {
					t.Fatalf("%+v", reply)
				}
				r.within(time.Minute, "all four vote", r.votersAre(simNames(4)...))
			})
		})
	}
}

// TestSizeSplit: no part of a rack that is cut in two is born unless it could be the only one.
func TestSizeSplit(t *testing.T) {
	for _, c := range []struct {
		name        string
		size, nodes int
		one         []string
		born        bool
	}{
		{"3 of 5, three and two", 3, 5, simNames(3), false},
		{"3 of 4, two and two", 3, 4, simNames(2), false},
		{"3 of 4, three and one", 3, 4, simNames(3), true},
		{"4 of 6, three and three", 4, 6, simNames(3), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSized(t, c.size, c.nodes, func(r *rack) {
				other := simNames(c.nodes)[len(c.one):]
				r.cutApart(c.one, other)
				r.start()
				born := func() bool {
					return slices.ContainsFunc(simNames(c.nodes), func(n string) bool { return r.phaseOf(n).rank() >= Accepted.rank() })
				}
				if c.born {
					r.within(15*time.Second, "one part is born", r.running(c.one...))
				} else {
					r.never(15*time.Second, "a part was born", born) // silence is waited for ten seconds
				}
				for _, n := range other {
					if v := r.nodes[n].report().View; v.Knowledge != roster.Unknown {
						t.Errorf("%s knows %s", n, v.Knowledge)
					}
				}
				r.mend()
				r.within(30*time.Second, "the members run", func() bool { v, l := r.members(); return len(v) == c.size && len(l) == 0 && r.running(v...)() })
				members, _ := r.members() // of 3 of 4, the first that heard each other
				for _, n := range without(simInitial(simNames(c.nodes)...), members) {
					r.within(5*time.Second, n.Name+" is a spare", r.spare(n.Name))
				}
				if all := AnswersFor(c.size, c.nodes, true) == c.nodes; (all || c.born) && !slices.Equal(members, simNames(c.size)) {
					t.Errorf("the members are %v, want the first %d", members, c.size)
				}
			})
		})
	}
}

// TestSizeLostDisk: after the birth of three of four one of them loses its disk, and is cut off together with the one that never
// saw the cluster. With a second one they would be three; that one remembers.
func TestSizeLostDisk(t *testing.T) {
	inSized(t, 3, 4, func(r *rack) {
		r.start("n0", "n1", "n2")
		r.within(15*time.Second, "three run", r.votersAre("n0", "n1", "n2"))
		r.stop()
		r.nodes["n2"].disk.wipe()
		r.cutApart([]string{"n2", "n3"}, []string{"n0", "n1"})
		r.start("n2", "n3")
		r.never(25*time.Second, "two were born", func() bool { return r.phaseOf("n2").rank()+r.phaseOf("n3").rank() > 0 })
		r.cutApart([]string{"n0"}, simNames(4)[1:])
		r.mu.Lock()
		for _, n := range []string{"n2", "n3"} {
			delete(r.cut, [2]string{"n1", n})
			delete(r.cut, [2]string{n, "n1"})
		}
		r.mu.Unlock()
		r.start("n1", "n0")
		r.never(25*time.Second, "born beside one who remembers", func() bool { return r.phaseOf("n2").rank()+r.phaseOf("n3").rank() > 0 })
		r.mend()
		r.within(time.Minute, "n2 is replaced", r.votersAre("n0", "n1", "n2"))
		r.within(5*time.Second, "n3 is a spare", r.spare("n3"))
	})
}

// TestSizeDiesInBirth: a node that was to be a member dies, once before and once after it could have accepted. Before, another one takes
// its place; after, the others wait for it, since it may know more.
func TestSizeDiesInBirth(t *testing.T) {
	inSized(t, 3, 4, func(r *rack) {
		r.nodes["n1"].disk.fault = func(int) diskFault { return failBefore } // it cannot even promise
		r.start()
		r.never(15*time.Second, "born without a promise of n1", func() bool { return r.phaseOf("n0").rank() >= Accepted.rank() })
		r.stop("n1")
		r.within(30*time.Second, "the others are born", r.votersAre("n0", "n2", "n3"))
		r.nodes["n1"].disk.fault = nil
		r.start("n1")
		r.within(5*time.Second, "n1 is a spare", r.spare("n1"))
	})
	inSized(t, 3, 4, func(r *rack) {
		r.nodes["n2"].disk.fault = func(write int) diskFault { // it promises, and cannot accept
			if write > 1 {
				return failBefore
			}
			return fine
		}
		r.start()
		r.within(5*time.Second, "n0 accepted", func() bool { return r.phaseOf("n0") == Accepted && r.phaseOf("n1") == Accepted })
		r.stop("n2")
		r.never(15*time.Second, "born without n2", func() bool { return r.phaseOf("n0").rank() >= Born.rank() })
		id := r.nodes["n0"].report().State.Accepted.Genesis.ID
		if h := r.nodes["n0"].report().Plan.Hint; !strings.HasSuffix(h, "etcd-dns recover birth --abandon "+id) {
			t.Errorf("the hint is %q", h)
		}
		if reply := r.orderBirth("n0", BirthOrder{Op: FinishBirth, Genesis: id, Without: []string{"n2"}}); reply.Done {
			t.Error("two of four may have it finished: the other two could be born without them after one lost disk")
		}
		if reply := r.orderBirth("n0", BirthOrder{Op: AbandonBirth, Genesis: id}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.within(30*time.Second, "born without n2", r.votersAre("n0", "n1", "n3"))
		r.nodes["n2"].disk.fault = nil
		r.start("n2")
		r.within(5*time.Second, "n2 is a spare", r.spare("n2"))
	})
}

// TestSizeLateFirst: a genesis of the others is accepted by one of them when the node comes that would be first by name. It leaves
// the ballots to those who can go on, and does not outbid them again and again.
func TestSizeLateFirst(t *testing.T) {
	inSized(t, 3, 4, func(r *rack) {
		for _, n := range []string{"n2", "n3"} { // they promise, and cannot accept
			r.nodes[n].disk.fault = func(write int) diskFault {
				if write > 1 {
					return failBefore
				}
				return fine
			}
		}
		r.start("n1", "n2", "n3")
		r.within(15*time.Second, "n1 accepted", func() bool { return r.phaseOf("n1") == Accepted })
		r.stop("n2", "n3")
		for _, n := range []string{"n2", "n3"} {
			r.nodes[n].disk.fault = nil
		}
		r.start("n0", "n2", "n3")
		took := r.within(30*time.Second, "what was accepted is born", r.votersAre("n1", "n2", "n3"))
		t.Logf("born after %s", took)
		r.within(5*time.Second, "n0 is a spare", r.spare("n0"))
	})
}

// TestSizeReplacedBeforeSpare: a member that is only down keeps its place, and one that lost its disk comes back into it, although a
// spare asks that comes before it in the order of names.
func TestSizeReplacedBeforeSpare(t *testing.T) {
	inSized(t, 3, 4, func(r *rack) {
		r.start("n1", "n2", "n3")
		r.within(15*time.Second, "three run", r.votersAre("n1", "n2", "n3"))
		r.start("n0")
		r.within(5*time.Second, "n0 is a spare", r.spare("n0"))
		r.settled()
		r.stop("n3")
		r.never(30*time.Second, "the spare took the place of one that is down", func() bool { return len(r.removed()) > 0 })
		old := r.nodes["n3"].disk.wal.member
		r.nodes["n3"].disk.wipe()
		r.start("n3")
		r.within(time.Minute, "n3 was replaced", func() bool {
			d := r.nodes["n3"].disk
			d.mu.Lock()
			again := d.wal != nil && d.wal.member != old
			d.mu.Unlock()
			return again && r.votersAre("n1", "n2", "n3")()
		})
		if len(r.removed()) != 1 || r.removed()[0].ID != old {
			t.Errorf("removals %+v, want that of %s", r.removed(), old)
		}
		r.within(5*time.Second, "n0 is a spare still", r.spare("n0"))
	})
}
