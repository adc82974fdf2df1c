package srvboot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

func (r *rack) phaseOf(name string) Phase { return r.nodes[name].report().State.Phase }

func (r *rack) spawned(names ...string) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(names, func(n string) bool { return r.nodes[n].run == nil })
	}
}

// waits reports whether a node waits in that row, for those nodes if any are named.
func (r *rack) waits(name string, row int, nodes ...string) func() bool {
	return func() bool {
		p := r.nodes[name].report().Plan
		return p.Row == row && (p.Action == Wait || p.Action == Ask) && (len(nodes) == 0 || slices.Equal(p.For, nodes))
	}
}

func TestBootToRunning(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inRack(t, n, func(r *rack) {
				r.start()
				took := r.within(2*time.Second, "spawned", r.spawned(simNames(n)...))
				if took > 100*time.Millisecond {
					t.Errorf("all members spawned after %s", took)
				}
				t.Logf("all %d members spawned after %s", n, took)
				r.within(2*time.Second, "running", r.running(simNames(n)...))
				for name, node := range r.nodes {
					if i := slices.Index(node.events, "spawn new=true"); i < 1 || node.events[i-1] != fmt.Sprintf("publish born of %d", n) {
						t.Errorf("%s: SRV was not published before the start: %v", name, node.events)
					}
					if node.report().Member == nil || len(node.report().Deaths) != 0 {
						t.Errorf("%s: report %+v", name, node.report())
					}
				}
			})
		})
	}
}

func TestPowerCycleNeedsNobody(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start()
		r.within(2*time.Second, "running", r.running(simNames(3)...))
		r.stop()
		r.start("n1") // it waits for a majority to say what it remembers, but not for ever
		alone := r.within(12*time.Second, "n1 restarted alone", r.spawned("n1"))
		if alone < hearFor {
			t.Errorf("n1 restarted alone after %s, want %s", alone, hearFor)
		}
		r.stop()
		r.start()
		together := r.within(2*time.Second, "restarted together", r.spawned(simNames(3)...))
		if together > 20*time.Millisecond { // some round trips of a millisecond, not a period of polling
			t.Errorf("the rack restarted after %s", together)
		}
		t.Logf("alone after %s, together after %s", alone, together)
		r.within(2*time.Second, "running", r.running(simNames(3)...))
	})
}

func TestAloneWaitsAndNames(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start("n1")
		r.within(time.Second, "waiting", r.waits("n1", 15, "n0", "n2"))
		r.never(time.Minute, "a node alone did something", func() bool {
			return r.phaseOf("n1") != Fresh || r.nodes["n1"].report().View.Knowledge != roster.Unknown
		})
	})
}

func TestUnbornOnlyWhenAllSaySo(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.nodes["n2"].failed = []string{"ports-free: 2380"} // keeps the birth from going on
		r.start()
		r.within(time.Second, "denied", func() bool { return r.nodes["n0"].report().View.Knowledge == roster.Unborn })
		r.stop("n2")
		r.within(13*time.Second, "ignorant again", func() bool { return r.nodes["n0"].report().View.Knowledge == roster.Unknown })
		r.mu.Lock()
		r.nodes["n2"].failed = nil
		r.mu.Unlock()
		r.start("n2")
		r.within(5*time.Second, "running", r.running(simNames(3)...))
		r.never(time.Second, "went back", func() bool { return r.nodes["n0"].report().View.Knowledge != roster.Born })
	})
}

// TestProposerWiped loses the proposer's disk after it got one or both acceptances.
func TestProposerWiped(t *testing.T) {
	for _, cut := range []string{"n2", ""} {
		t.Run("unreachable "+cut, func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				r.nodes["n0"].disk.fault = func(write int) diskFault { // the stamp fails: accepted, never born
					if write > 2 {
						return failBefore
					}
					return fine
				}
				r.start()
				r.within(time.Second, "n1 accepted", func() bool { return r.phaseOf("n1").rank() >= Accepted.rank() })
				if cut != "" {
					r.stop(cut)
				}
				r.stop("n0")
				r.nodes["n0"].disk.wipe()
				r.nodes["n0"].disk.fault = nil
				r.start("n0")
				if cut != "" {
					r.start(cut)
				}
				r.within(30*time.Second, "running, or n0 waits to be replaced", func() bool {
					return r.running(simNames(3)...)() || (r.running("n1", "n2")() && r.waits("n0", 18)())
				})
			})
		})
	}
}

func TestMemberDeadBeforeAndAfterAccept(t *testing.T) {
	for _, at := range []Phase{Promised, Accepted} {
		t.Run(string(at), func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				r.nodes["n2"].disk.syncAt = 20 * time.Millisecond
				r.start()
				r.within(time.Second, "there", func() bool { return r.phaseOf("n2") == at })
				r.stop("n2")
				r.never(20*time.Second, "a promise alone made a birth", func() bool {
					return at == Promised && r.phaseOf("n0").rank() >= Born.rank()
				})
				r.start("n2")
				r.within(15*time.Second, "running", r.running(simNames(3)...))
			})
		})
	}
}

func TestAsymmetricCut(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.cut[[2]string{"n0", "n2"}] = true // the first proposer does not reach n2, all other ways are open
		r.start()
		r.within(time.Second, "n0 waits", r.waits("n0", 15, "n2"))
		r.within(30*time.Second, "another proposer made the birth", r.spawned(simNames(3)...))
		r.mu.Lock()
		clear(r.cut)
		r.mu.Unlock()
		r.within(10*time.Second, "running", r.running(simNames(3)...))
	})
}

func TestCorefileEditedMidBirth(t *testing.T) {
	for _, at := range []Phase{Promised, Accepted} {
		t.Run(string(at), func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				r.nodes["n2"].disk.syncAt = 20 * time.Millisecond
				r.start()
				r.within(time.Second, "there", func() bool { return r.phaseOf("n1") == at })
				for _, n := range r.nodes {
					n.edit(func(h *Home) { h.Initial[2].PeerURL = "https://n2.rack1.example.com:12380" })
				}
				r.within(30*time.Second, "running", r.running(simNames(3)...))
				r.oneBirth()
			})
		})
	}
}

func TestDisagreement(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(n *simNode)
		row  int
	}{
		"disjoint Corefiles": {func(n *simNode) {
			if n.name == "n2" {
				n.edit(func(h *Home) { h.Initial = simInitial("n2", "n3", "n4"); h.Ask = []string{"n2", "n3", "n4", "n0"} })
			}
		}, 15},
		"two bundles": {func(n *simNode) {
			if n.name == "n2" {
				n.edit(func(h *Home) { h.Bundle = "bundle-2" })
			}
		}, 15},
		"size 3 of 5, split": {func(n *simNode) {
			n.edit(func(h *Home) { h.Ask = simNames(5) })
		}, 15},
		"eight days after init": {func(n *simNode) {
			n.edit(func(h *Home) { h.BirthUntil = time.Now().Add(-24 * time.Hour) })
		}, 15},
		"tmpfs":    {func(n *simNode) { n.disk.vol = "tmpfs" }, 15},
		"evidence": {func(n *simNode) { n.disk.extra = []string{"snapshots/"} }, 15},
	} {
		t.Run(name, func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				for _, n := range r.nodes {
					c.edit(n)
				}
				r.start()
				r.within(2*time.Second, "n0 waits", r.waits("n0", c.row))
				r.never(30*time.Second, "a birth went on", func() bool {
					return slices.ContainsFunc(simNames(3), func(n string) bool { return r.phaseOf(n).rank() > 0 })
				})
				if r.nodes["n0"].report().Plan.Hint == "" {
					t.Errorf("no hint: %+v", r.nodes["n0"].report().Plan)
				}
			})
		})
	}
}

// TestBlankMemberLeavesGenesis wipes an initial member of a born cluster.
func TestBlankMemberLeavesGenesis(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start()
		r.within(2*time.Second, "running", r.running(simNames(3)...))
		r.stop("n0")
		r.nodes["n0"].disk.wipe()
		r.start("n0")
		r.within(2*time.Second, "n0 waits to be replaced", r.waits("n0", 18))
		r.never(time.Minute, "a blank member started", func() bool { return r.spawned("n0")() })
		r.stop("n1", "n2")
		r.within(15*time.Second, "n0 waits for the others", func() bool { return r.nodes["n0"].report().Plan.Action == Wait })
		if v := r.nodes["n0"].report().View; v.Knowledge != roster.Born || len(v.Members) != 3 {
			t.Errorf("the view went back: %+v", v)
		}
		r.stop("n0")
		r.start("n0")
		r.never(time.Minute, "a blank member alone started", func() bool { return r.spawned("n0")() })
	})
}

func TestDirectoryLostWaits(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start()
		r.within(2*time.Second, "running", r.running(simNames(3)...))
		r.stop()
		for _, n := range r.nodes {
			n.disk.wal, n.disk.stamp = nil, ""
		}
		r.start()
		r.within(2*time.Second, "n0 waits", r.waits("n0", 19))
		r.never(time.Minute, "a member started on a lost directory", func() bool {
			return r.spawned("n0")() || r.spawned("n1")() || r.spawned("n2")()
		})
		if !strings.Contains(r.nodes["n0"].report().Plan.Hint, "snapshot restore") {
			t.Errorf("hint %q", r.nodes["n0"].report().Plan.Hint)
		}
	})
}

func TestMemberRestartsWithBackoff(t *testing.T) {
	inRack(t, 1, func(r *rack) {
		n := r.nodes["n0"]
		r.start()
		r.within(time.Second, "running", r.running("n0"))
		var waits []time.Duration
		for i := range 9 {
			n.run.end(fmt.Errorf("killed %d", i))
			begin := time.Now()
			r.within(20*time.Second, "restarted", r.spawned("n0"))
			waits = append(waits, time.Since(begin).Round(50*time.Millisecond))
			r.within(time.Second, "reported", func() bool { return len(n.report().Deaths) == min(i+1, keptDeaths) })
		}
		want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000}
		for i := range want {
			if want[i] *= time.Millisecond; waits[i] < want[i] || waits[i] > want[i]+100*time.Millisecond {
				t.Errorf("waited %v, want %v", waits, want)
				break
			}
		}
		if d := n.report().Deaths; d[len(d)-1].Reason != "killed 8" {
			t.Errorf("deaths %v", d)
		}
		r.within(2*time.Second, "running", r.running("n0"))
		time.Sleep(11 * time.Second) // settled
		n.run.end(fmt.Errorf("killed late"))
		if took := r.within(time.Second, "restarted", r.spawned("n0")); took > 200*time.Millisecond {
			t.Errorf("a settled member was restarted after %s", took)
		}
	})
}

func TestNamesakeYields(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start()
		r.within(2*time.Second, "running", r.running(simNames(3)...))
		// A second n0, whose questions to n0 reach the first one.
		twin := &simNode{r: r, name: "n0", home: simHome("n0", simNames(3)), disk: &simDisk{}}
		twin.start()
		r.mu.Lock()
		boot := twin.boot
		r.mu.Unlock()
		r.within(3*time.Second, "the newcomer refuses", func() bool { return boot.Report().Plan.Row == 2 })
		twin.cancel()
		<-twin.done
		r.within(time.Second, "running", r.running(simNames(3)...))
	})
}

func TestFencedBySuccessor(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.start()
		r.within(2*time.Second, "running", r.running(simNames(3)...))
		r.stop("n2")
		m := *r.nodes["n2"].disk.marker
		acc := *m.Accepted
		acc.Genesis = Genesis{ID: "next", Generation: 2, Parent: acc.Genesis.ID, Members: simInitial("n2"), Digest: acc.Genesis.Digest}
		cluster, ids, err := IDs(acc.Genesis.Members, "next")
		if err != nil {
			t.Fatal(err)
		}
		acc.Genesis.ClusterID, m.Accepted, m.MemberID = cluster, &acc, ids["n2"]
		r.nodes["n2"].disk.marker, r.nodes["n2"].disk.wal = &m, &simWAL{member: ids["n2"], cluster: cluster, entries: true}
		r.start("n2")
		r.within(5*time.Second, "n0 and n1 fenced", func() bool {
			return r.phaseOf("n0") == FencedOff && r.phaseOf("n1") == FencedOff && !r.spawned("n0")() && !r.spawned("n1")()
		})
		if len(r.nodes["n0"].disk.aside) != 1 {
			t.Error("the fenced data was not kept")
		}
		r.within(2*time.Second, "n0 publishes the successor", func() bool { return r.nodes["n0"].report().View.Generation == 2 })
	})
}
