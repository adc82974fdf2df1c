package srvboot

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// birthOrderCases are orders given to n0 of three.
func birthOrderCases() []struct {
	name  string
	order BirthOrder
	mods  []mod
} {
	without := func(names ...string) BirthOrder { return BirthOrder{Op: ExcuseFromBirth, Without: names} }
	finish := func(names ...string) BirthOrder {
		return BirthOrder{Op: FinishBirth, Genesis: "6f1c", Without: names}
	}
	abandon := BirthOrder{Op: AbandonBirth, Genesis: "6f1c"}
	permit := BirthOrder{Op: PermitBirth}
	late := func(f *Facts) { f.Home.BirthUntil = f.Now.Add(-time.Hour) }
	dead := silent("n2", "no route to host")
	return []struct {
		name  string
		order BirthOrder
		mods  []mod
	}{
		{"without a dead node", without("n2"), []mod{dead}},
		{"without a node that answers", without("n2"), nil},
		{"without this node", without("n0"), nil},
		{"without a stranger", without("n9"), nil},
		{"without two of three", without("n1", "n2"), []mod{dead, silent("n1", "x")}},
		{"without one of two silent nodes of five", without("n2"), []mod{dead, silent("n3", "x"), silent("n4", "x"), func(f *Facts) {
			f.Home.Initial, f.Home.Ask = simInitial(simNames(5)...), simNames(5)
		}}},
		{"without anybody", without(), nil},
		{"without a node that was never to be a member", without("n5"), []mod{func(f *Facts) { f.Home.Ask = append(simNames(3), "n5") }}},
		{"without a dead node, another one accepted", without("n2"), []mod{dead, theirs("n1", phase(Accepted))}},
		{"without a dead node, this one accepted", without("n2"), []mod{dead, own(Accepted)}},
		{"without a dead node, another one is born", without("n2"), []mod{dead, theirs("n1", phase(Born))}},
		{"without a dead node, this one is born", without("n2"), []mod{dead, disk(Stamped), own(Born)}},
		{"without a dead node, a second time", without("n2"), []mod{dead, own(Fresh), func(f *Facts) { f.Disk.Marker.Excused = []string{"n2"} }}},
		{"finish, a majority accepted", finish("n2"), []mod{dead, own(Accepted), theirs("n1", phase(Accepted))}},
		{"finish, a majority accepted, this node did not", finish("n0"), []mod{theirs("n1", phase(Accepted)), theirs("n2", phase(Accepted))}},
		{"finish, this node alone accepted", finish("n1", "n2"), []mod{dead, own(Accepted)}},
		{"finish, the dead one is not named", finish(), []mod{dead, own(Accepted), theirs("n1", phase(Accepted))}},
		{"finish, the last one answers", finish("n2"), []mod{own(Accepted), theirs("n1", phase(Accepted))}},
		{"finish, nobody accepted", finish("n2"), []mod{dead}},
		{"finish, born already", finish("n2"), []mod{dead, own(Accepted), theirs("n1", phase(Born))}},
		{"abandon, two of three answer", abandon, []mod{dead, own(Accepted)}},
		{"abandon, one of three answers", abandon, []mod{dead, silent("n1", "x"), own(Accepted)}},
		{"abandon, one is born", abandon, []mod{dead, own(Accepted), theirs("n1", phase(Running))}},
		{"abandon, this node was told to finish it", abandon, []mod{dead, own(Accepted), func(f *Facts) { f.Disk.Marker.Finished = "6f1c" }}},
		{"abandon, nobody accepted", abandon, []mod{dead}},
		{"permit, all are blank", permit, []mod{late}},
		{"permit, while the bundle does", permit, nil},
		{"permit, one is silent", permit, []mod{late, dead}},
		{"permit, this node is no blank one", permit, []mod{late, func(f *Facts) { f.Disk.Evidence = []string{"snapshots/"} }}},
		{"permit, another is no blank one", permit, []mod{late, theirs("n1", func(s *State) { s.Evidence = []string{"snapshots/"} })}},
		{"permit, another has another bundle", permit, []mod{late, theirs("n1", func(s *State) { s.Bundle = "b2" })}},
		{"permit, the Corefiles differ", permit, []mod{late, theirs("n2", func(s *State) { s.Initial = simInitial("n0", "n2"); s.Digest = "0123456789" })}},
		{"permit, one is born", permit, []mod{late, theirs("n1", phase(Running))}},
		{"permit, a second time", permit, []mod{late, own(Fresh), func(f *Facts) { f.Disk.Marker.Permitted = f.Now.Add(time.Hour) }}},
		{"of a size, without a dead node", without("n3"), []mod{sized(3, 4, 3), silent("n3", "x")}},
		{"of a size, without two of four", without("n2", "n3"), []mod{sized(3, 4, 3), dead, silent("n3", "x")}},
		{"of a size, without two of six, and five are to be members", without("n4", "n5"), []mod{sized(5, 6, 5), silent("n4", "x"), silent("n5", "x")}},
		{"of a size, finish with two of three of four", finish("n2"), []mod{sized(3, 4, 3), dead, own(Accepted), sizedGenesis(3, 4), theirs("n1", phase(Accepted)), theirs("n1", accepts(3, 4))}},
		{"of a size, abandon", abandon, []mod{sized(3, 4, 3), dead, own(Accepted), sizedGenesis(3, 4)}},
		{"of a size, permit, one is silent", permit, []mod{sized(3, 4, 3), late, silent("n3", "x")}},
		{"an order of a newer format", BirthOrder{Format: Format + 1, Op: ExcuseFromBirth, Without: []string{"n2"}}, []mod{dead}},
		{"an order that is not known", BirthOrder{Op: "odd", Genesis: "6f1c"}, []mod{own(Accepted)}},
	}
}

// sizedGenesis gives this node's genesis a size, and accepts what another node accepted.
func sizedGenesis(size, of int) mod {
	return func(f *Facts) { f.Disk.Marker.Accepted.Genesis.Size, f.Disk.Marker.Accepted.Genesis.Of = size, of }
}

func accepts(size, of int) func(*State) {
	return func(s *State) { s.Accepted.Genesis.Size, s.Accepted.Genesis.Of = size, of }
}

func TestBirthOrders(t *testing.T) {
	var out strings.Builder
	for _, c := range birthOrderCases() {
		f := caseFacts()
		for _, m := range c.mods {
			m(&f)
		}
		tell, r := look(f).planBirthOrder(c.order)
		fmt.Fprintln(&out, c.name)
		if r.Text != "" {
			fmt.Fprintf(&out, "  refused: %s\n  hint: %s\n", r.Text, r.Hint)
			if r.Hint == "" || len(tell) > 0 {
				t.Errorf("%s: refused to %v with hint %q", c.name, tell, r.Hint)
			}
		} else {
			fmt.Fprintf(&out, "  tells: %s\n", strings.Join(tell, " "))
		}
		switch m := OnBirthOrder(Self{Facts: f, From: "n0"}, c.order); {
		case !m.OK:
			fmt.Fprintf(&out, "  n0's part: no: %s\n", m.Reason)
		default:
			fmt.Fprintf(&out, "  n0's part: save %v, phase %s, promised %d, excused %v, finished %q, abandoned %v",
				m.Save, m.Marker.Phase, m.Marker.Promised.N, m.Marker.Excused, m.Marker.Finished, m.Marker.Abandoned)
			if p := m.Marker.Permitted; !p.IsZero() {
				fmt.Fprintf(&out, ", permitted for %s", p.Sub(f.Now))
			}
			fmt.Fprintln(&out)
		}
	}
	golden(t, "testdata/decide/birthorders.txt", out.String())
}

// orderBirth gives an order to a node, which tells the others, as node does.
func (r *rack) orderBirth(at string, o BirthOrder) OrderReply {
	r.t.Helper()
	boot := func(name string) *Boot { r.mu.Lock(); defer r.mu.Unlock(); return r.nodes[name].boot }
	tell, reply, err := boot(at).PlanBirthOrder(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range tell {
		part, err := boot(name).HandleBirthOrder(r.t.Context(), at, o)
		if err != nil || !part.OK {
			r.t.Fatalf("%s: %v %+v", name, err, part)
		}
		reply.Done = true
	}
	return reply
}

// TestDeadOnArrival: n2 never comes up; the status of the others names the command, and it works; n2 comes later.
func TestDeadOnArrival(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.admitAll()
		r.start("n0", "n1")
		r.within(3*time.Second, "n0 waits", r.waits("n0", 15, "n2"))
		r.within(3*time.Second, "n1 waits", r.waits("n1", 15, "n2"))
		if h := r.nodes["n0"].report().Plan.Hint; !strings.Contains(h, "etcd-dns recover birth --without n2") {
			t.Errorf("the hint is %q", h)
		}
		if reply := r.orderBirth("n1", BirthOrder{Op: ExcuseFromBirth, Without: []string{"n2"}}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.within(5*time.Second, "two run", r.votersAre("n0", "n1"))
		r.settled()
		r.start("n2")
		r.within(30*time.Second, "n2 joined", r.votersAre("n0", "n1", "n2"))
	})
}

// TestPermittedBirth: the bundle's permission ended before the nodes first ran. They wait until a person says that they are new.
// A permission on some disks alone is none, and neither is one that has ended; a wiped disk does not have it any more.
func TestPermittedBirth(t *testing.T) {
	late := func(r *rack) {
		for _, n := range r.nodes {
			n.edit(func(h *Home) { h.BirthUntil = time.Now().Add(-24 * time.Hour) })
		}
	}
	unborn := func(r *rack) {
		r.t.Helper()
		r.never(time.Minute, "born without a word", func() bool {
			for _, n := range simNames(3) {
				if r.phaseOf(n).rank() >= Accepted.rank() {
					return true
				}
			}
			return false
		})
	}
	permit := BirthOrder{Format: Format, Op: PermitBirth}
	t.Run("by all", func(t *testing.T) {
		inRack(t, 3, func(r *rack) {
			late(r)
			r.start("n0", "n1")
			r.within(3*time.Second, "n0 waits", r.waits("n0", 15))
			if h := r.nodes["n0"].report().Plan.Hint; !strings.Contains(h, "etcd-dns recover birth --new") {
				t.Errorf("the hint is %q", h)
			}
			if reply := r.orderBirth("n0", permit); reply.Done || !strings.Contains(reply.Text, "n2") {
				t.Errorf("without n2: %+v", reply)
			}
			r.start("n2")
			r.within(3*time.Second, "n2 waits", r.waits("n2", 15))
			r.settled()
			unborn(r)
			if reply := r.orderBirth("n1", permit); !reply.Done {
				t.Fatalf("%+v", reply)
			}
			r.within(10*time.Second, "running", r.running(simNames(3)...))
			r.oneBirth()
		})
	})
	t.Run("by some, then wiped", func(t *testing.T) {
		inRack(t, 3, func(r *rack) {
			late(r)
			r.start()
			r.within(3*time.Second, "n0 waits", r.waits("n0", 15))
			for _, name := range []string{"n0", "n1"} {
				if part, err := r.nodes[name].boot.HandleBirthOrder(r.t.Context(), name, permit); err != nil || !part.OK {
					t.Fatalf("%+v, %v", part, err)
				}
			}
			unborn(r)
			r.stop()
			r.nodes["n0"].disk.wipe()
			r.nodes["n1"].disk.wipe()
			r.start()
			r.within(3*time.Second, "n0 waits again", r.waits("n0", 15))
			unborn(r)
		})
	})
	t.Run("too late", func(t *testing.T) {
		inRack(t, 3, func(r *rack) {
			late(r)
			r.start("n0", "n1")
			r.within(3*time.Second, "n0 waits", r.waits("n0", 15))
			for _, name := range []string{"n0", "n1"} {
				if part, err := r.nodes[name].boot.HandleBirthOrder(r.t.Context(), name, permit); err != nil || !part.OK {
					t.Fatalf("%+v, %v", part, err)
				}
			}
			r.stop()
			time.Sleep(8 * 24 * time.Hour) // of the bubble's clock
			r.start()
			r.within(3*time.Second, "n0 waits again", r.waits("n0", 15))
			if part, err := r.nodes["n2"].boot.HandleBirthOrder(r.t.Context(), "n2", permit); err != nil || !part.OK {
				t.Fatalf("%+v, %v", part, err)
			}
			unborn(r)
		})
	})
}

// diesInBirth has n2 die when some nodes accepted: those whose markers may be written that often.
func diesInBirth(r *rack, accepted ...string) {
	r.admitAll()
	r.nodes["n2"].disk.fault = func(write int) diskFault {
		if write > 1 {
			return failBefore
		}
		return fine
	}
	for _, name := range []string{"n0", "n1"} {
		r.nodes[name].disk.fault = func(write int) diskFault {
			if limit := 1; write > limit && !contains(accepted, name) {
				return failBefore
			}
			return fine
		}
	}
	r.start()
	r.within(3*time.Second, "some accepted", func() bool {
		for _, name := range accepted {
			if r.phaseOf(name) != Accepted {
				return false
			}
		}
		return true
	})
	r.stop("n2")
	if len(accepted) == 1 { // the message that n1 did not take must not come again
		r.stop("n1")
	}
	for _, n := range r.nodes {
		n.disk.mu.Lock()
		n.disk.fault = nil
		n.disk.mu.Unlock()
	}
}

func contains(names []string, name string) bool {
	return strings.Contains(strings.Join(names, " "), name)
}

// TestFinishedBirth: n2 dies after the others accepted. It is a member that is down, and comes in when it comes back,
// with its disk or without.
func TestFinishedBirth(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprint("wiped ", wiped), func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				diesInBirth(r, "n0", "n1")
				r.within(15*time.Second, "they wait", r.waits("n0", 11, "n2"))
				id := r.nodes["n0"].report().State.Accepted.Genesis.ID
				if h := r.nodes["n1"].report().Plan.Hint; !strings.Contains(h, "etcd-dns recover birth --finish "+id+" --without n2") {
					t.Errorf("the hint is %q", h)
				}
				r.never(20*time.Second, "born by itself", func() bool { return r.phaseOf("n0").rank() >= Born.rank() })
				if reply := r.orderBirth("n0", BirthOrder{Op: FinishBirth, Genesis: id, Without: []string{"n2"}}); !reply.Done {
					t.Fatalf("%+v", reply)
				}
				r.within(5*time.Second, "two of three run", r.running("n0", "n1"))
				r.settled()
				if wiped {
					r.nodes["n2"].disk.wipe()
				}
				r.start("n2")
				r.within(30*time.Second, "three run", r.votersAre("n0", "n1", "n2"))
			})
		})
	}
}

// TestAbandonedBirth: n0 accepted, and n2 is dead. The two that are left refuse that genesis, and make another without n2,
// which has to take note when it comes back.
func TestAbandonedBirth(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		diesInBirth(r, "n0")
		r.within(30*time.Second, "n0 waits", r.waits("n0", 11, "n1", "n2"))
		r.start("n1")
		r.within(30*time.Second, "they wait", r.waits("n0", 11, "n2"))
		old := r.nodes["n0"].report().State.Accepted.Genesis.ID
		r.within(3*time.Second, "the hint names the way out", func() bool {
			return strings.Contains(r.nodes["n1"].report().Plan.Hint, "etcd-dns recover birth --abandon "+old)
		})
		for _, o := range []BirthOrder{{Op: AbandonBirth, Genesis: old}, {Op: ExcuseFromBirth, Without: []string{"n2"}}} {
			if reply := r.orderBirth("n1", o); !reply.Done {
				t.Fatalf("%s: %+v", o.Op, reply)
			}
			time.Sleep(2 * time.Second)
		}
		r.within(10*time.Second, "two run", r.votersAre("n0", "n1"))
		if id := r.nodes["n0"].report().State.Accepted.Genesis.ID; id == old {
			t.Errorf("genesis %s was born although it was abandoned", id)
		}
		r.settled()
		r.start("n2")
		r.within(30*time.Second, "n2 joined", r.votersAre("n0", "n1", "n2"))
	})
}
