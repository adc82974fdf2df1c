package srvboot

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestWordOfAnEarlierBirth: a node comes back with a disk of before the rack was set up anew. What a person removed then says nothing
// of the members of now, neither while it is there nor after its disk was wiped.
func TestWordOfAnEarlierBirth(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		if reply := r.order(Order{Op: OrderRemove, Node: "n1"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.settled()
		back := r.nodes["n2"].disk.image()
		r.stop()
		for _, n := range r.nodes {
			n.disk.wipe()
		}
		r.mu.Lock()
		clear(r.born)
		r.removals = nil
		r.mu.Unlock()
		r.start()
		r.within(20*time.Second, "three serve", r.running("n0", "n1", "n2"))
		r.settled()
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.nodes["n2"].disk.wal = &simWAL{}
		back()
		r.start("n2")
		time.Sleep(40 * time.Second)
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		r.within(90*time.Second, "three serve again", r.running("n0", "n1", "n2"))
		for _, c := range r.removed() {
			if c.Node == "n1" {
				t.Errorf("a voter was removed by a word of another birth: %+v", c)
			}
		}
	})
}

// TestRemovalOutlivesItsLeader: the leader dies as soon as it has carried out a removal. Nobody forgets the removal; and when a person
// takes it back at the next leader, the dead one does not bring it up again.
func TestRemovalOutlivesItsLeader(t *testing.T) {
	five := func(t *testing.T, f func(r *rack)) {
		inRack(t, 3, func(r *rack) {
			born3(r)
			for _, n := range []string{"n3", "n4"} {
				r.grow()
				r.start(n)
				r.within(20*time.Second, n+" votes", func() bool { v, _ := r.members(); return slices.Contains(v, n) })
			}
			r.settled()
			f(r)
		})
	}
	votes := func(r *rack) bool { v, l := r.members(); return slices.Contains(v, "n4") || len(l) > 0 }
	five(t, func(r *rack) {
		r.stop("n4")
		if reply := r.order(Order{Op: OrderRemove, Node: "n4"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.stop("n0")
		r.nodes["n4"].disk.wipe()
		time.Sleep(5 * time.Second)
		r.start("n4")
		r.never(40*time.Second, "n4 is back", func() bool { return votes(r) })
	})
	five(t, func(r *rack) {
		if reply := r.order(Order{Op: OrderRemove, Node: "n4"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.stop("n0")
		r.within(30*time.Second, "n4 is retired", func() bool { return r.phaseOf("n4") == Removed })
		if reply := r.orderAt("n1", Order{Op: OrderAdd, Node: "n4"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.within(time.Minute, "n4 votes again", func() bool { return votes(r) && r.running("n1", "n2", "n3", "n4")() })
		r.settled()
		r.start("n0")
		r.never(time.Minute, "n4 is removed again", func() bool { return !votes(r) })
	})
}

// refuses has etcd refuse removals and additions, or not any more.
func (r *rack) refuses(so bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = so
}

// TestRefusedRemoval: what etcd refuses is not done now, and the answer says so. It is done later, also by the next leader, unless a
// person takes it back.
func TestRefusedRemoval(t *testing.T) {
	refused := func(t *testing.T, then func(r *rack)) {
		inRack(t, 5, func(r *rack) {
			born5(r)
			r.settled()
			r.refuses(true)
			reply := r.order(Order{Op: OrderRemove, Node: "n4"})
			if reply.Done || !strings.Contains(reply.Text, "unhealthy cluster; n4 is removed when that can be done, unless you take it back") {
				t.Errorf("%+v", reply)
			}
			then(r)
		})
	}
	t.Run("done later", func(t *testing.T) {
		refused(t, func(r *rack) {
			r.refuses(false)
			r.within(20*time.Second, "n4 is out", r.votersAre("n0", "n1", "n2", "n3"))
		})
	})
	t.Run("done by the next leader", func(t *testing.T) {
		refused(t, func(r *rack) {
			r.stop("n0")
			r.refuses(false)
			r.within(20*time.Second, "n4 is out", func() bool { v, _ := r.members(); return !slices.Contains(v, "n4") })
		})
	})
	t.Run("taken back", func(t *testing.T) {
		refused(t, func(r *rack) {
			if reply := r.order(Order{Op: OrderAdd, Node: "n4"}); !reply.Done || reply.Text != "n4 stays a member" {
				t.Errorf("%+v", reply)
			}
			r.stop("n0")
			r.refuses(false)
			r.never(time.Minute, "n4 is removed", func() bool { return len(r.removed()) > 0 })
		})
	})
}

// TestRemovalTakenBackBehindTheNextLeader: a person takes a removal back, most nodes know, and who leads next does not. It waits until
// it has asked the others.
func TestRemovalTakenBackBehindTheNextLeader(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.refuses(true)
		r.order(Order{Op: OrderRemove, Node: "n4"})
		for _, n := range simNames(5) {
			r.sever(n, "n3", true)
			r.sever("n3", n, true)
		}
		time.Sleep(FreshFor)
		if reply := r.order(Order{Op: OrderAdd, Node: "n4"}); !reply.Done {
			t.Errorf("%+v", reply)
		}
		r.refuses(false)
		r.leads("n3")
		r.never(10*time.Second, "n4 is removed", func() bool { return len(r.removed()) > 0 })
		r.mend()
		r.never(time.Minute, "n4 is removed", func() bool { return len(r.removed()) > 0 })
	})
}

// TestMemberStaysByAWordThatOvertakesARemoval: too few hear of a removal, and its leader is cut off. Who leads next has not heard of it, and is told
// that the member stays: so it does when the other one is back, however often that was told before.
func TestMemberStaysByAWordThatOvertakesARemoval(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.refuses(true)
		for range 3 { // its words count up
			r.order(Order{Op: OrderRemove, Node: "n4"})
			r.order(Order{Op: OrderAdd, Node: "n4"})
		}
		for _, n := range []string{"n1", "n2", "n3", "n4"} {
			r.sever("n0", n, true)
			r.sever(n, "n0", true)
		}
		if reply := r.orderOnce("n0", Order{Op: OrderRemove, Node: "n4"}); !strings.Contains(reply.Text, tooFewHeard) {
			t.Errorf("%+v", reply)
		}
		r.leads("n1")
		time.Sleep(time.Second)
		r.refuses(false)
		if reply := r.orderOnce("n1", Order{Op: OrderAdd, Node: "n4"}); !reply.Done || reply.Text != "n4 stays a member" {
			t.Errorf("%+v", reply)
		}
		r.mend()
		r.never(time.Minute, "n4 is removed", func() bool { return len(r.removed()) > 0 })
	})
}

// TestRemovalIsTakenBackAfterTheDataIsLost: the removal of a node stands, and it loses its data and retires, while the others answer and while
// they do not. Once the removal is taken back it is replaced.
func TestRemovalIsTakenBackAfterTheDataIsLost(t *testing.T) {
	for _, alone := range []bool{false, true} {
		inRack(t, 3, func(r *rack) {
			born3(r)
			r.settled()
			r.refuses(true)
			r.order(Order{Op: OrderRemove, Node: "n2"})
			r.stop("n2")
			r.nodes["n2"].disk.wal = nil
			if alone {
				time.Sleep(3 * time.Second) // so that all remember
				r.stop()
			}
			r.start("n2")
			time.Sleep(5 * time.Second)
			if alone {
				r.start("n0", "n1")
				r.within(30*time.Second, "n0 leads", func() bool { m := r.nodes["n0"].report().Member; return m != nil && m.Leader == m.ID })
				time.Sleep(5 * time.Second)
			}
			if reply := r.order(Order{Op: OrderAdd, Node: "n2"}); !reply.Done {
				t.Errorf("alone %v: %+v", alone, reply)
			}
			r.refuses(false)
			r.within(90*time.Second, "n2 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		})
	}
}

// TestRemovalIsTakenBackWhileTheNodeIsAway: the node lost its data, knows that it is to go, and does not hear of the rest. It is replaced
// once it does, also if not even its marker is left.
func TestRemovalIsTakenBackWhileTheNodeIsAway(t *testing.T) {
	for _, whole := range []bool{false, true} {
		inRack(t, 3, func(r *rack) {
			born3(r)
			r.settled()
			r.refuses(true)
			r.order(Order{Op: OrderRemove, Node: "n2"})
			time.Sleep(3 * time.Second) // so that all remember
			r.stop("n2")
			d := r.nodes["n2"].disk
			if d.wal = nil; whole {
				d.wipe()
				r.start("n2")
				time.Sleep(5 * time.Second) // so that it hears
			}
			for _, n := range []string{"n0", "n1"} {
				r.sever("n2", n, true)
				r.sever(n, "n2", true)
			}
			r.stop("n2")
			r.start("n2")
			time.Sleep(30 * time.Second)
			if p := r.nodes["n2"].report().Plan; p.Row != 7 || p.Action != Wait {
				t.Errorf("whole disk %v: alone it has row %d, %s", whole, p.Row, p.Action)
			}
			if reply := r.order(Order{Op: OrderAdd, Node: "n2"}); !reply.Done {
				t.Errorf("whole disk %v: %+v", whole, reply)
			}
			r.refuses(false)
			r.mend()
			r.within(90*time.Second, "n2 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		})
	}
}

// TestRemovedNodeStartsAgainWhileItIsLetIn: the learner was added for the run that asked, and another one finds it.
func TestRemovedNodeStartsAgainWhileItIsLetIn(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.order(Order{Op: OrderRemove, Node: "n2"})
		r.within(30*time.Second, "n2 asks", func() bool { c := r.nodes["n2"].report().State.Claim; return c != nil && c.Retired })
		time.Sleep(2 * time.Second) // so that n0 hears
		r.stop("n2")
		r.order(Order{Op: OrderAdd, Node: "n2"})
		r.within(3*time.Second, "n2 is a learner", func() bool { _, l := r.members(); return len(l) == 1 })
		r.start("n2")
		r.within(30*time.Second, "n2 votes", r.votersAre("n0", "n1", "n2"))
	})
}

// TestWordOfNoDate: a damaged file has a word that none could be later than. It counts nowhere.
func TestWordOfNoDate(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		word := Tombstone{Term: math.MaxUint64, Count: math.MaxUint64, Removed: true, ClusterID: r.nodes["n0"].report().Member.ClusterID}
		r.stop("n1")
		d := r.nodes["n1"].disk
		d.mu.Lock()
		d.seen.Tombstones = map[string]Tombstone{"n2": word}
		d.mu.Unlock()
		r.start("n1")
		r.within(30*time.Second, "n1 runs", r.running("n1"))
		r.leads("n1")
		time.Sleep(5 * time.Second)
		if got := r.nodes["n0"].report().State.Tombstones; len(got) > 0 {
			t.Errorf("n0 heard %+v", got)
		}
		if reply := r.order(Order{Op: OrderRemove, Node: "n2"}); !reply.Done {
			t.Errorf("%+v", reply)
		}
		r.within(time.Second, "n2 is out", r.votersAre("n0", "n1"))
		if got := r.nodes["n1"].report().State.Tombstones["n2"]; got.Term == word.Term || !got.Removed {
			t.Errorf("n1 has %+v", got)
		}
	})
}

// TestRefusedChangesTakeTurns: etcd refuses a removal and an addition, and is asked for both again and again.
func TestRefusedChangesTakeTurns(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.refuses(true)
		r.order(Order{Op: OrderRemove, Node: "n2"})
		r.grow()
		r.start("n3")
		time.Sleep(2 * time.Minute)
		times := r.refusedTimes()
		if a, b := times["n2"], times["n3"]; a < 3 || b < 3 || max(a, b) > 2*min(a, b) {
			t.Errorf("etcd was asked %v", times)
		}
		waits := r.nodes["n0"].report().State.Waits
		if !strings.Contains(waits["n2"], "unhealthy") || !strings.Contains(waits["n3"], "unhealthy") {
			t.Errorf("they wait: %q", waits)
		}
		r.order(Order{Op: OrderAdd, Node: "n2"})
		time.Sleep(30 * time.Second)
		if why := r.nodes["n0"].report().State.Waits["n2"]; why != "" {
			t.Errorf("n2 stays, and waits: %s", why)
		}
	})
}

// TestRefusedRemovalBesideAFailedSnapshot: a person lets a blank node in, whose voter is to go without a snapshot. etcd refuses another removal.
func TestRefusedRemovalBesideAFailedSnapshot(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.refuses(true)
		r.order(Order{Op: OrderRemove, Node: "n1"})
		time.Sleep(time.Minute) // the pauses are as long as they get
		r.nodes["n0"].disk.refuseSnapshots(errDisk)
		r.stop("n4")
		r.nodes["n4"].disk.wipe()
		r.start("n4")
		time.Sleep(time.Minute)
		if why := r.nodes["n0"].report().State.Waits["n4"]; !strings.Contains(why, errDisk.Error()) {
			t.Errorf("n4 waits: %s", why)
		}
		if reply := r.order(Order{Op: OrderReplace, Node: "n4"}); !reply.Done {
			t.Errorf("%+v", reply)
		}
		time.Sleep(2 * time.Minute)
		if times := r.refusedTimes(); times["n4"] < 3 {
			t.Errorf("etcd was asked %v", times)
		}
	})
}

// refusedTimes is how often etcd refused a change, by node.
func (r *rack) refusedTimes() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := map[string]int{}
	for _, c := range r.refused {
		times[c.Node]++
	}
	return times
}

// TestRemovedNodeBearsNoOtherCluster: a blank node knows that it is to go from a cluster; the others are wiped, and would be born again.
func TestRemovedNodeBearsNoOtherCluster(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.refuses(true)
		r.order(Order{Op: OrderRemove, Node: "n2"})
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		time.Sleep(5 * time.Second) // so that it hears
		r.stop("n0", "n1")
		for _, n := range []string{"n0", "n1"} {
			r.nodes[n].disk.wipe()
		}
		r.start("n0", "n1")
		time.Sleep(time.Minute)
		for _, n := range []string{"n0", "n1"} {
			if p := r.nodes[n].report().Plan; !strings.Contains(p.Reason, "n2 speaks of an earlier life: a person's word on n2") {
				t.Errorf("%s: row %d: %s", n, p.Row, p.Reason)
			}
		}
	})
}

// TestRefusedRemovalKeepsNoOtherWaiting: etcd is asked for both of two removals in turn.
func TestRefusedRemovalKeepsNoOtherWaiting(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.refuses(true)
		for _, n := range []string{"n1", "n4"} {
			r.order(Order{Op: OrderRemove, Node: n})
		}
		time.Sleep(time.Minute)
		times := r.refusedTimes()
		if a, b := times["n1"], times["n4"]; a < 3 || b < 3 || max(a, b) > 2*min(a, b) {
			t.Errorf("etcd was asked %v", times)
		}
		for _, n := range []string{"n1", "n4"} {
			if why := r.nodes["n0"].report().State.Waits[n]; !strings.Contains(why, "unhealthy") {
				t.Errorf("%s waits: %q", n, why)
			}
		}
	})
}

// TestRemovalIsUnderWayWhenItIsTakenBack: etcd carries out what it was asked before the word that the member stays. The answer is that it is let in.
func TestRemovalIsUnderWayWhenItIsTakenBack(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		for _, n := range []string{"n2", "n3", "n4"} {
			r.sever("n0", n, true)
		}
		replies := make(chan OrderReply, 1)
		go func() { replies <- r.orderOnce("n0", Order{Op: OrderAdd, Node: "n4"}) }()
		time.Sleep(500 * time.Millisecond)
		r.mu.Lock()
		for _, c := range r.clusters {
			c.list = slices.DeleteFunc(slices.Clone(c.list), func(e MemberEntry) bool { return entryNode(e) == "n4" })
		}
		r.mu.Unlock()
		r.within(5*time.Second, "n0 knows", func() bool { return len(r.nodes["n0"].report().Member.Members) == 4 })
		r.mend()
		if reply := <-replies; !reply.Done || reply.Text != "n4 is let in when it asks" {
			t.Errorf("%+v", reply)
		}
		r.within(time.Minute, "n4 votes", r.votersAre("n0", "n1", "n2", "n3", "n4"))
	})
}

// TestRefusedRemovalKeepsNobodyWaiting: etcd refuses a removal for long, and would promote a learner.
func TestRefusedRemovalKeepsNobodyWaiting(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 learns", func() bool { _, l := r.members(); return len(l) == 1 })
		r.refuses(true)
		r.order(Order{Op: OrderRemove, Node: "n2"})
		r.within(20*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
		r.within(20*time.Second, "n2 waits for etcd", func() bool { return strings.Contains(r.nodes["n0"].report().State.Waits["n2"], "unhealthy") })
	})
}

// TestRemovalIsCarriedOutByTheNextLeader: leadership is lost when the removal is known, and before etcd hears of it. The node stays out.
func TestRemovalIsCarriedOutByTheNextLeader(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.mu.Lock()
		r.changeTakes = 3 * time.Second
		r.mu.Unlock()
		replies := make(chan OrderReply, 1)
		go func() { replies <- r.orderOnce("n0", Order{Op: OrderRemove, Node: "n4"}) }()
		r.within(time.Second, "n1 knows", func() bool { return r.nodes["n1"].report().State.Tombstones["n4"].Removed })
		r.within(time.Second, "it is asked of etcd", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.changing > 0 })
		r.leads("n1")
		r.mu.Lock()
		r.changeTakes = 0
		r.mu.Unlock()
		r.within(2*time.Second, "n4 is out", r.votersAre("n0", "n1", "n2", "n3"))
		if reply := <-replies; !strings.Contains(reply.Text, "n4") || strings.Contains(reply.Text, "stays") {
			t.Errorf("%+v", reply)
		}
		r.stop("n4")
		r.nodes["n4"].disk.wipe()
		r.start("n4")
		r.never(time.Minute, "n4 is back", func() bool { v, l := r.members(); return len(v)+len(l) > 4 })
	})
}

// unheard keeps what n0 says from n1 and n2.
func (r *rack) unheard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range []string{"n1", "n2"} {
		r.cut[[2]string{n, "n0"}] = true
	}
}

// orderApart gives an order to n0, which leads and is cut off from both others; it is half a second old.
func (r *rack) orderApart(o Order) <-chan OrderReply {
	for _, n := range []string{"n1", "n2"} {
		r.sever(n, "n0", true)
	}
	replies := make(chan OrderReply, 1)
	go func() { replies <- r.orderOnce("n0", o) }()
	time.Sleep(500 * time.Millisecond)
	return replies
}

// TestRemovalThatNobodyNotes: the others cannot be asked whether they heard of the removal, so it does not take place until they can.
func TestRemovalThatNobodyNotes(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.unheard()
		reply := r.order(Order{Op: OrderRemove, Node: "n2"})
		if reply.Done || !strings.Contains(reply.Text, "to remember it; n2 is removed when that can be done") {
			t.Errorf("%+v", reply)
		}
		r.never(time.Minute, "n2 is removed", func() bool { return len(r.removed()) > 0 })
		r.mend()
		r.within(10*time.Second, "n2 is out", r.votersAre("n0", "n1"))
	})
}

// TestRemovalThatTooFewNote: of four voters that would be left, two say that they know of the removal.
func TestRemovalThatTooFewNote(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		for _, n := range []string{"n2", "n3"} {
			r.sever("n0", n, true)
			r.sever(n, "n0", true)
			r.sever("n1", n, true)
			r.sever(n, "n1", true)
		}
		if reply := r.orderOnce("n0", Order{Op: OrderRemove, Node: "n4"}); reply.Done || !strings.Contains(reply.Text, tooFewHeard) {
			t.Errorf("%+v", reply)
		}
		r.never(20*time.Second, "n4 is removed", func() bool { return len(r.removed()) > 0 })
	})
}

// TestRemovalOfWhoLeadsByNow: a removal that stands is carried out although its member came to lead: it hands over first.
func TestRemovalOfWhoLeadsByNow(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		replies := r.orderApart(Order{Op: OrderRemove, Node: "n1"})
		r.leads("n1")
		if reply := <-replies; reply.Done || !strings.Contains(reply.Text, "is removed when that can be done") {
			t.Fatalf("%+v", reply)
		}
		r.mend()
		r.within(30*time.Second, "n1 is out", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n2")() })
	})
}

// TestRemovalBeforeTheListIsKnown: a node that was let in a moment ago, of which the member's list says nothing yet, has no tombstone
// without its member.
func TestRemovalBeforeTheListIsKnown(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.mu.Lock()
		r.stale = true
		r.mu.Unlock()
		r.start("n3")
		in := func() bool { v, l := r.members(); return slices.Contains(append(v, l...), "n3") }
		r.within(10*time.Second, "n3 is a learner", in)
		if reply := r.orderOnce("n0", Order{Op: OrderRemove, Node: "n3"}); reply.Done {
			t.Errorf("%+v", reply)
		}
		r.mu.Lock()
		r.stale = false
		r.mu.Unlock()
		if reply := r.order(Order{Op: OrderRemove, Node: "n3"}); !reply.Done || in() {
			t.Errorf("%+v", reply)
		}
	})
}

// TestLeadershipIsLostWhileARemovalIsNoted: who no longer leads removes nobody and says so at once. The word stands, and the next
// leader carries it out when it hears of it.
func TestLeadershipIsLostWhileARemovalIsNoted(t *testing.T) {
	const says = "no longer leads; n2 is removed when that can be done, unless you take it back: etcd-dns member add n2"
	lose := func(t *testing.T, force bool, lost func(r *rack)) {
		inRack(t, 3, func(r *rack) {
			born3(r)
			r.settled()
			replies := r.orderApart(Order{Op: OrderRemove, Node: "n2", Force: force})
			lost(r)
			since := time.Now()
			reply := <-replies
			if took := time.Since(since); reply.Done || !strings.Contains(reply.Text, says) || took > time.Second {
				t.Errorf("after %v: %+v, want at once %q", took, reply, says)
			}
			r.never(20*time.Second, "n2 is removed by who no longer leads", func() bool { return len(r.removed()) > 0 })
			if r.mu.Lock(); len(r.refused) > 0 {
				t.Errorf("it was tried: %+v", r.refused)
			}
			r.mu.Unlock()
			r.mend()
			r.within(30*time.Second, "n2 is out", func() bool {
				v, l := r.members()
				return slices.Equal(v, []string{"n0", "n1"}) && len(l) == 0 && r.phaseOf("n2") == Removed
			})
			if n := len(r.removed()); n != 1 {
				t.Errorf("%d removals", n)
			}
		})
	}
	toN1 := func(r *rack) { r.leads("n1") }
	t.Run("to another", func(t *testing.T) { lose(t, false, toN1) })
	t.Run("to another, and a person does without the notes", func(t *testing.T) { lose(t, true, toN1) })
	t.Run("its member dies", func(t *testing.T) {
		lose(t, false, func(r *rack) {
			toN1(r)
			r.mu.Lock()
			m := r.nodes["n0"].run
			r.mu.Unlock()
			m.end(errDisk)
		})
	})
}

// leads elects a node's member from now on.
func (r *rack) leads(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.nodes[name].run
	r.clusters[m.cluster].leads = m.id
}

// orderOnce gives an order to one node, whether or not it leads.
func (r *rack) orderOnce(at string, o Order) OrderReply {
	r.mu.Lock()
	boot := r.nodes[at].boot
	r.mu.Unlock()
	reply, err := boot.HandleOrder(r.t.Context(), o)
	if err != nil {
		r.t.Error(err)
	}
	return reply
}

// hangs stops a node's member: it says no more, and nobody hears it.
func (r *rack) hangs(name string) {
	r.mu.Lock()
	m := r.nodes[name].run
	r.mu.Unlock()
	last, _ := m.State()
	last.Hung, last.Serving = true, false
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hung[name], r.frozen[name] = last, true
}

// TestHungLeaderTakesNoOrder: another member leads by then, and may know better.
func TestHungLeaderTakesNoOrder(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.settled()
		r.hangs("n0")
		r.grow()
		r.start("n5")
		r.within(time.Minute, "n5 votes", func() bool { v, _ := r.members(); return slices.Equal(v, simNames(6)) })
		for _, o := range []Order{{Op: OrderRemove, Node: "n5"}, {Op: OrderAdd, Node: "n5"}, {Op: OrderDrain, Node: "n0"}} {
			if reply := r.orderOnce("n0", o); reply.Done || reply.Leader == "" || reply.Leader == "n0" {
				t.Errorf("%s: %+v, want another leader's name", o.Op, reply)
			}
		}
	})
}

// TestLeaderHangsWhileAWordSpreads: it cannot know whether it leads.
func TestLeaderHangsWhileAWordSpreads(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.grow()
		replies := r.orderApart(Order{Op: OrderRemove, Node: "n3"})
		r.hangs("n0")
		r.mend()
		if reply := <-replies; reply.Done || !strings.Contains(reply.Text, "no longer leads") {
			t.Errorf("%+v", reply)
		}
	})
}

// TestLastVoterStays: no word of a person's takes it, as raft could never apply that.
func TestLastVoterStays(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		for _, n := range []string{"n2", "n1"} {
			r.order(Order{Op: OrderRemove, Node: n})
			r.settled()
		}
		reply := r.order(Order{Op: OrderRemove, Node: "n0", Force: true})
		if reply.Done || !strings.Contains(reply.Text, "last voter") || strings.Contains(reply.Hint, "--force") {
			t.Errorf("%+v", reply)
		}
		r.never(time.Minute, "n0 is out, or to go", func() bool {
			v, _ := r.members()
			return !slices.Equal(v, []string{"n0"}) || r.nodes["n0"].report().State.Waits["n0"] != ""
		})
	})
}

// TestRetiredBlankNodeBearsNoOtherCluster: a blank node without a member was removed, and knows so; all members are wiped.
func TestRetiredBlankNodeBearsNoOtherCluster(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		n3 := r.grow()
		if reply := r.order(Order{Op: OrderRemove, Node: "n3"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.start("n3")
		r.within(time.Minute, "n3 is out", func() bool { return n3.report().State.Phase == Removed })
		r.stop("n0", "n1", "n2")
		for _, n := range simNames(3) {
			r.nodes[n].disk.wipe()
		}
		r.start("n0", "n1", "n2")
		r.never(time.Minute, "a second cluster is born", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.born) > 1 })
		for _, n := range simNames(3) {
			if p := r.nodes[n].report().Plan; !strings.Contains(p.Reason, "n3 speaks of an earlier life") {
				t.Errorf("%s: row %d: %s", n, p.Row, p.Reason)
			}
		}
	})
}

// TestGivenWordIsTheLatest: whatever a node knows of an earlier word, and of its own member.
func TestGivenWordIsTheLatest(t *testing.T) {
	for _, c := range []struct {
		last        Tombstone
		self        MemberState
		term, count uint64
	}{
		{Tombstone{}, MemberState{Term: 2, Commit: 7, Applied: 8}, 2, 8},
		{Tombstone{Term: 2, Count: 8, Removed: true}, MemberState{Term: 2, Commit: 8, Applied: 8}, 2, 9},
		{Tombstone{Term: 2, Count: 20, Removed: true}, MemberState{Term: 3, Commit: 8, Applied: 8}, 3, 21},
		{Tombstone{Term: 4, Count: 20, Removed: true}, MemberState{Term: 3, Commit: 30, Applied: 30}, 4, 30},
	} {
		c.last.ClusterID, c.self.ClusterID = "c", "c"
		inRack(t, 1, func(r *rack) {
			b := &Boot{o: BootOptions{Storage: r.nodes["n0"].disk, Log: zap.NewNop()}, welcomed: map[string]time.Time{}}
			b.disk.Seen.Tombstones = map[string]Tombstone{"n3": c.last}
			if !b.give(c.self, "n3", Tombstone{Welcome: 1}) {
				t.Error("not written")
			}
			if w := b.disk.Seen.word("c", "n3"); w.Term != c.term || w.Count != c.count || w.Welcome != 1 || !w.after(c.last) {
				t.Errorf("after %+v at %+v: %+v", c.last, c.self, w)
			}
		})
	}
}
