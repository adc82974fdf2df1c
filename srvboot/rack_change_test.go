package srvboot

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// admitAll lets the nodes of the rack in, and gives a new node its line on all of them.
func (r *rack) admitAll() {
	for _, n := range r.nodes {
		n.edit(func(h *Home) { h.Ask, h.Admitted = simNames(len(r.nodes)), simInitial(simNames(len(r.nodes))...) })
	}
}

// grow adds a machine that is not part of the birth, and its line on all others.
func (r *rack) grow() *simNode {
	name := simNames(len(r.nodes) + 1)[len(r.nodes)]
	h := simHome(name, simNames(len(r.nodes)))
	h.Ask = append(h.Ask, name)
	n := r.add(name, h)
	r.admitAll()
	return n
}

// voters are the nodes of the voters, sorted, and learners those of the learners, of the cluster that n0 runs in.
func (r *rack) members() (voters, learners []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clusters {
		for _, e := range c.list {
			if e.IsLearner {
				learners = append(learners, entryNode(e))
			} else {
				voters = append(voters, entryNode(e))
			}
		}
	}
	slices.Sort(voters)
	return voters, learners
}

// removed are the removals that took place.
func (r *rack) removed() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.removals)
}

func (r *rack) votersAre(names ...string) func() bool {
	return func() bool {
		v, l := r.members()
		return slices.Equal(v, names) && len(l) == 0 && r.running(names...)()
	}
}

// settled waits until the membership has been left alone for long enough to be changed.
func (r *rack) settled() { time.Sleep(settleFor + time.Second) }

func born3(r *rack) {
	r.admitAll()
	r.start()
	r.within(10*time.Second, "three serve", r.votersAre("n0", "n1", "n2"))
	r.settled()
}

func TestBlankDiskIsReplaced(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		old := r.nodes["n2"].disk.wal.member
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		took := r.within(30*time.Second, "n2 votes again", func() bool {
			d := r.nodes["n2"].disk
			d.mu.Lock()
			fresh := d.wal != nil && d.wal.member != old
			d.mu.Unlock()
			return fresh && r.votersAre("n0", "n1", "n2")()
		})
		t.Logf("voter again after %v", took)
		if len(r.removed()) != 1 || r.removed()[0].ID != old {
			t.Errorf("removals %+v, want that of %s", r.removed(), old)
		}
		if took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestEtcdDirectoryLostIsReplaced(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n1")
		r.nodes["n1"].disk.wal, r.nodes["n1"].disk.stamp = nil, ""
		r.start("n1")
		r.within(30*time.Second, "n1 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
	})
}

func TestNewNodeJoins(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
		r.grow()
		r.start("n4")
		r.within(10*time.Second, "n4 votes", r.votersAre("n0", "n1", "n2", "n3", "n4"))
		if len(r.removed()) != 0 {
			t.Errorf("removals: %+v", r.removed())
		}
	})
}

func TestNodeWithoutALineStaysOut(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		for _, name := range []string{"n0", "n1", "n2"} {
			r.nodes[name].edit(func(h *Home) { h.Admitted = simInitial("n0", "n1", "n2") })
		}
		// The newcomer is asked because it asks: its name is in no Corefile but its own.
		r.start("n3")
		r.never(time.Minute, "n3 was let in", func() bool { v, l := r.members(); return len(v)+len(l) != 3 })
	})
}

func TestTwoBlankOfThreeWait(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n1", "n2")
		r.nodes["n1"].disk.wipe()
		r.nodes["n2"].disk.wipe()
		r.start("n1", "n2")
		r.never(10*time.Minute, "a voter was removed", func() bool { return len(r.removed()) > 0 })
		if p := r.nodes["n1"].report().Plan; p.Row != 19 || p.Hint == "" {
			t.Errorf("n1 plans %+v, want row 19 with a hint", p)
		}
	})
}

// TestTwoBlankOfFiveAreReplaced: three are a quorum with and without them; one change is made at a time.
func TestTwoBlankOfFiveAreReplaced(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		r.admitAll()
		r.start()
		r.within(10*time.Second, "five serve", r.votersAre(simNames(5)...))
		r.settled()
		blank := []string{"n1", "n4"}
		r.stop(blank...)
		var old []string
		for _, name := range blank {
			old = append(old, r.nodes[name].disk.wal.member)
			r.nodes[name].disk.wipe()
		}
		r.start(blank...)
		took := r.within(time.Minute, "both vote again", func() bool { return len(r.removed()) == 2 && r.votersAre(simNames(5)...)() })
		t.Logf("all vote again after %v", took)
		if removed := []string{r.removed()[0].ID, r.removed()[1].ID}; !slices.Equal(removed, old) {
			t.Errorf("removed were %v, want %v", removed, old)
		}
	})
}

func TestPartitionedVoterIsKept(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.mu.Lock()
		r.frozen["n2"] = true
		r.mu.Unlock()
		r.never(10*time.Minute, "a silent voter was removed", func() bool { return len(r.removed()) > 0 })
	})
}

// TestLearnerDiesBeforeItIsPromoted: the node comes back blank again, and its learner has no use.
func TestLearnerDiesBeforeItIsPromoted(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 learns", func() bool { _, l := r.members(); return len(l) == 1 })
		r.stop("n3")
		r.nodes["n3"].disk.wipe()
		r.start("n3")
		r.within(30*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
		if len(r.removed()) > 1 || len(r.removed()) == 1 && entryNode(MemberEntry{PeerURLs: []string{simInitial("n3")[0].PeerURL}}) != r.removed()[0].Node {
			t.Errorf("removals: %+v, want the learner's at most", r.removed())
		}
	})
}

// TestFirstStartCutOff: first starts end after etcd made its database and before its log, at a birth and at a join. The next ones
// take no notice, and the learner is the one that was added.
func TestFirstStartCutOff(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		for _, n := range r.nodes {
			n.cutStarts = 2
		}
		born3(r)
		n := r.grow()
		n.cutStarts = 2
		r.start("n3")
		took := r.within(10*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
		t.Logf("n3 votes after %v", took)
		if len(r.removed()) != 0 {
			t.Errorf("removals: %+v", r.removed())
		}
	})
}

// TestLearnerIsTakenOutAfterACutOffStart: the stamp of the next learner goes where that start was.
func TestLearnerIsTakenOutAfterACutOffStart(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		n := r.grow()
		n.cutStarts = 1
		r.start("n3")
		r.within(10*time.Second, "the first start is cut off", func() bool { n.disk.mu.Lock(); defer n.disk.mu.Unlock(); return n.disk.cutOff })
		r.stop("n3")
		r.within(5*time.Minute, "the learner is taken out", func() bool { _, l := r.members(); return len(l) == 0 })
		r.start("n3")
		r.within(30*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
	})
}

// TestLearnerDiesAndIsRemoved: a node dies when the log of its learner holds entries, and before it has noted that the learner runs. The
// learner is removed, and the node let in again; when it comes back it asks anew.
func TestLearnerDiesAndIsRemoved(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		n := r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 learns", func() bool {
			n.disk.mu.Lock()
			defer n.disk.mu.Unlock()
			return n.disk.class() == HasMember && n.disk.marker.Learner
		})
		r.stop("n3")
		n.disk.marker.Phase = Joining
		if reply := r.order(Order{Op: OrderRemove, Node: "n3"}); !reply.Done {
			t.Fatalf("remove: %+v", reply)
		}
		if reply := r.order(Order{Op: OrderAdd, Node: "n3"}); !reply.Done {
			t.Fatalf("add: %+v", reply)
		}
		r.start("n3")
		r.within(time.Minute, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
	})
}

// TestReplyOfAStepIsLost: each step takes place, and whoever asked for it is told that it did not.
func TestReplyOfAStepIsLost(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.mu.Lock()
		for _, c := range r.clusters {
			c.loseReply = true
		}
		r.mu.Unlock()
		r.start("n2")
		r.within(30*time.Second, "n2 was removed", func() bool { return len(r.removed()) == 1 })
		r.mu.Lock()
		for _, c := range r.clusters {
			c.loseReply = true
		}
		r.mu.Unlock()
		r.within(2*time.Minute, "n2 votes again", r.votersAre("n0", "n1", "n2"))
	})
}

func TestRemovedMemberStaysOut(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.mu.Lock()
		for _, c := range r.clusters {
			c.list = slices.DeleteFunc(slices.Clone(c.list), func(e MemberEntry) bool { return entryNode(e) == "n2" })
		}
		r.mu.Unlock()
		n := r.nodes["n2"]
		r.within(30*time.Second, "n2 is retired", func() bool { return n.report().State.Phase == Removed })
		r.never(10*time.Minute, "n2 came back", func() bool { v, l := r.members(); return len(v)+len(l) != 2 })
		n.disk.mu.Lock()
		defer n.disk.mu.Unlock()
		if len(n.disk.aside) != 1 || n.disk.wal != nil {
			t.Errorf("aside %d, log %v; want the data set aside", len(n.disk.aside), n.disk.wal)
		}
	})
}

func TestLeaderDiesAfterTheRemoval(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		r.within(30*time.Second, "n2 was removed", func() bool { return len(r.removed()) == 1 })
		r.stop("n0")
		time.Sleep(20 * time.Second)
		r.start("n0")
		r.within(time.Minute, "all vote", r.votersAre("n0", "n1", "n2"))
	})
}

// order gives an operator's word to whichever node leads.
func (r *rack) order(o Order) OrderReply { r.t.Helper(); return r.orderAt("n0", o) }

// orderAt gives it at another node, for racks in which n0 has no part.
func (r *rack) orderAt(at string, o Order) OrderReply {
	r.t.Helper()
	for range 4 {
		r.mu.Lock()
		boot := r.nodes[at].boot
		r.mu.Unlock()
		reply, err := boot.HandleOrder(r.t.Context(), o)
		if err != nil {
			r.t.Fatal(err)
		}
		if reply.Leader == "" {
			return reply
		}
		at = reply.Leader
	}
	r.t.Fatal("the order goes round")
	return OrderReply{}
}

func TestOrderedRemovalAndReturn(t *testing.T) {
	for _, name := range []string{"n0", "n2"} { // the leader, and a follower
		t.Run(name, func(t *testing.T) {
			inRack(t, 3, func(r *rack) {
				born3(r)
				if reply := r.order(Order{Op: OrderRemove, Node: name}); !reply.Done {
					t.Fatalf("%+v", reply)
				}
				n := r.nodes[name]
				r.within(30*time.Second, "it is retired", func() bool { return n.report().State.Phase == Removed })
				// Neither time nor a blank disk lets it in again.
				r.never(2*time.Minute, "it came back", func() bool { v, l := r.members(); return len(v)+len(l) != 2 })
				r.stop(name)
				n.disk.wipe()
				r.start(name)
				r.never(2*time.Minute, "it came back blank", func() bool { v, l := r.members(); return len(v)+len(l) != 2 })
				if reply := r.order(Order{Op: OrderAdd, Node: name}); !reply.Done {
					t.Fatalf("%+v", reply)
				}
				r.within(time.Minute, "it votes again", r.votersAre("n0", "n1", "n2"))
			})
		})
	}
}

func TestRetiredNodeReturns(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.order(Order{Op: OrderRemove, Node: "n2"})
		r.within(30*time.Second, "n2 is retired", func() bool { return r.nodes["n2"].report().State.Phase == Removed })
		r.order(Order{Op: OrderAdd, Node: "n2"})
		r.within(time.Minute, "n2 votes again", r.votersAre("n0", "n1", "n2"))
	})
}

func TestRemovalThatLosesTheQuorumIsRefused(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n2")
		time.Sleep(5 * time.Second)
		if reply := r.order(Order{Op: OrderRemove, Node: "n1"}); reply.Done || reply.Hint == "" {
			t.Errorf("%+v, want a refusal with a hint", reply)
		}
		if reply := r.order(Order{Op: OrderRemove, Node: "n2"}); !reply.Done {
			t.Errorf("the dead one: %+v", reply)
		}
		if reply := r.order(Order{Op: OrderRemove, Node: "n9"}); !reply.Done {
			t.Errorf("a node without a member: %+v", reply)
		}
	})
}

// TestForcedRemoval: etcd itself would refuse it. It comes so early that no index is written down by which the removed one could tell.
func TestForcedRemoval(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.admitAll()
		r.start()
		r.within(10*time.Second, "three serve", r.votersAre("n0", "n1", "n2"))
		r.stop("n2")
		if reply := r.order(Order{Op: OrderRemove, Node: "n1", Force: true}); !reply.Done {
			t.Errorf("%+v", reply)
		}
		if v, _ := r.members(); !slices.Equal(v, []string{"n0", "n2"}) {
			t.Errorf("the voters are %v", v)
		}
		// Nobody serves a list that would show n1 that it is out, and its member starts again and dies.
		r.within(time.Minute, "its member died twice", func() bool { return len(r.nodes["n1"].report().Deaths) > 1 })
		r.start("n2")
		r.within(time.Minute, "the two that are left serve", r.votersAre("n0", "n2"))
		r.within(time.Minute, "n1 knows that it is out", func() bool { return r.phaseOf("n1") == Removed })
		r.order(Order{Op: OrderAdd, Node: "n1"})
		r.within(time.Minute, "and is let in again", r.votersAre("n0", "n1", "n2"))
	})
}

func TestReplaceManualWaitsForTheWord(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		for _, n := range r.nodes {
			n.edit(func(h *Home) { h.Manual = true })
		}
		born3(r)
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		r.never(2*time.Minute, "it was replaced", func() bool { return len(r.removed()) > 0 })
		r.order(Order{Op: OrderReplace, Node: "n2"})
		r.within(time.Minute, "n2 votes again", r.votersAre("n0", "n1", "n2"))
	})
}

// TestVotersWithoutLines: two voters' lines are deleted everywhere, which removes nobody. Their nodes are asked as before: what is ordered and who
// joins needs a quorum with them.
func TestVotersWithoutLines(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.grow()
		lines := []string{"n0", "n1", "n2", "n5"}
		for _, n := range r.nodes {
			n.edit(func(h *Home) { h.Ask, h.Admitted = slices.Clone(lines), simInitial(lines...) })
		}
		r.settled()
		r.stop("n2")
		if reply := r.order(Order{Op: OrderRemove, Node: "n2"}); !reply.Done {
			t.Errorf("%+v", reply)
		}
		r.start("n5")
		r.within(time.Minute, "n5 votes", r.votersAre("n0", "n1", "n3", "n4", "n5"))
	})
}

// TestPromoteOrder: a learner whose node cannot be asked waits for a person, who makes it a voter.
func TestPromoteOrder(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.grow()
		if reply := r.order(Order{Op: OrderPromote, Node: "n3"}); reply.Done || reply.Text != "n3 has no member" {
			t.Errorf("without a member: %+v", reply)
		}
		r.start("n3")
		learns := func() bool { _, l := r.members(); return slices.Equal(l, []string{"n3"}) }
		r.within(20*time.Second, "n3 is a learner", learns)
		r.sever("n0", "n3", true)
		r.within(20*time.Second, "n0 says why it is not promoted", func() bool {
			return strings.Contains(r.nodes["n0"].report().State.Waits["n3"], "does not say that it runs there")
		})
		r.never(20*time.Second, "n3 votes", func() bool { return !learns() })
		for range 2 { // the second time it votes already
			if reply := r.order(Order{Op: OrderPromote, Node: "n3"}); !reply.Done {
				t.Errorf("%+v", reply)
			}
			r.within(time.Second, "n3 votes", func() bool { v, _ := r.members(); return slices.Contains(v, "n3") })
		}
	})
}
