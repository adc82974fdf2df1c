package srvboot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

func born5(r *rack) {
	r.admitAll()
	r.start()
	r.within(10*time.Second, "five serve", r.votersAre(simNames(5)...))
	r.settled()
}

// bornWithSpare boots three nodes of a cluster of size 3, and then n3, a spare.
func bornWithSpare(r *rack) {
	sized := func() {
		for _, n := range r.nodes {
			n.edit(func(h *Home) { h.Size = 3 })
		}
	}
	sized()
	born3(r)
	r.grow()
	sized()
	r.start("n3")
}

// loses replaces a node's disk by a blank one, and waits until its member was replaced.
func (r *rack) loses(name string, limit time.Duration) {
	r.t.Helper()
	r.stop(name)
	r.nodes[name].disk.wipe()
	r.start(name)
	r.within(limit, name+" was replaced", func() bool {
		return slices.ContainsFunc(r.removed(), func(c Change) bool { return c.Node == name })
	})
}

// A newcomer whose member cannot start is let in, taken out after two minutes of silence, and asks again. A voter that loses its disk
// meanwhile is replaced in the pause.
func TestNewcomerThatCannotStart(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		n := r.grow()
		n.cutStarts = 1 << 30
		r.start("n5")
		r.within(10*time.Second, "n5 is a learner", func() bool { _, l := r.members(); return slices.Equal(l, []string{"n5"}) })
		r.loses("n2", 3*time.Minute)
	})
}

// A newcomer that does not hear the leader's node never knows that it was let in. The pauses between its learners grow, and a
// lost voter is replaced.
func TestNewcomerDoesNotHearTheLeader(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.grow()
		r.sever("n5", "n0", true)
		r.start("n5")
		time.Sleep(2 * time.Minute) // without pauses some twenty are taken out
		if n := len(r.removed()); n < 3 || n > 6 {
			t.Errorf("%d learners were taken out in two minutes, want some, and ever fewer", n)
		}
		r.loses("n2", time.Minute)
		r.sever("n5", "n0", false)
		if reply := r.order(Order{Op: OrderAdd, Node: "n5"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.within(time.Minute, "n5 votes, as a person lets it in", r.votersAre(simNames(6)...))
	})
}

// A person keeps a node out that has no member. Whoever leads next knows, also when it was not among those who noted that: it waits until it
// has asked as many as are a quorum.
func TestKeptOutOutlivesItsLeader(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.grow()
		r.mu.Lock()
		for _, n := range []string{"n0", "n2", "n3", "n4"} {
			r.cut[[2]string{"n1", n}] = true // n1, which leads next, cannot ask them
		}
		r.mu.Unlock()
		if reply := r.order(Order{Op: OrderRemove, Node: "n5"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.stop("n0")
		letIn := func() bool { v, l := r.members(); return slices.Contains(append(v, l...), "n5") }
		r.never(10*time.Second, "n5 was let in by who does not know", letIn) // n5 is not there yet
		r.mu.Lock()
		r.cut[[2]string{"n5", "n2"}], r.cut[[2]string{"n5", "n3"}], r.cut[[2]string{"n5", "n4"}] = true, true, true // who would tell it
		r.mu.Unlock()
		r.start("n5")
		r.within(15*time.Second, "n1 says why n5 waits", func() bool {
			return strings.Contains(r.nodes["n1"].report().State.Waits["n5"], "too few of the voters' nodes")
		})
		r.never(15*time.Second, "n5 was let in", letIn)
		r.mend()
		r.never(15*time.Second, "n5 was let in by who knows", letIn)
	})
}

// TestRefusedAddition: who waits says what etcd said, as long as it is so.
func TestRefusedAddition(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		refuse := func(yes bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refuse = yes
		}
		refuse(true)
		n3 := r.grow()
		r.start("n3")
		says := func() bool {
			return strings.Contains(n3.report().Plan.Reason, "n0: add-learner failed and is tried again: ") &&
				strings.Contains(n3.report().Plan.Reason, "unhealthy cluster")
		}
		r.within(20*time.Second, "n3 says why it waits", says)
		r.never(time.Minute, "n3 no longer says so", func() bool { return !says() })
		refuse(false)
		r.within(time.Minute, "n3 votes", func() bool { v, _ := r.members(); return slices.Contains(v, "n3") })
		r.within(10*time.Second, "n0 has nothing against it", func() bool { return r.nodes["n0"].report().State.Waits["n3"] == "" })
	})
}

// TestWelcomeThatNobodyNotes: who lets a node in hears that only the leader's node knows.
func TestWelcomeThatNobodyNotes(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.settled()
		r.unheard()
		reply := r.order(Order{Op: OrderAdd, Node: "n3"})
		if reply.Done || !strings.Contains(reply.Text, "n3 is let in when that can be done") || reply.Hint != "etcd-dns member add n3, again" {
			t.Errorf("%+v", reply)
		}
		r.mend()
		if reply := r.order(Order{Op: OrderAdd, Node: "n3"}); !reply.Done {
			t.Errorf("%+v", reply)
		}
	})
}

// TestLeadershipIsLostWhileAWelcomeIsNoted: who no longer leads says so.
func TestLeadershipIsLostWhileAWelcomeIsNoted(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.settled()
		replies := r.orderApart(Order{Op: OrderAdd, Node: "n3"})
		r.leads("n1")
		if reply := <-replies; reply.Done || !strings.Contains(reply.Text, "n0 no longer leads; n3 is let in when that can be done") {
			t.Errorf("%+v", reply)
		}
	})
}

// A snapshot counts for the removal that it was taken for, and not for one of the same member much later. The spare asks all the time.
func TestOldSnapshot(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		bornWithSpare(r)
		r.settled()
		n2, n0 := r.nodes["n2"], r.nodes["n0"]
		back := n2.disk.image()
		r.stop("n2")
		n2.disk.wipe()
		r.start("n2")
		r.within(20*time.Second, "a snapshot is taken", func() bool { return len(n0.disk.taken()) == 1 })
		r.stop("n2")
		n2.disk.wal = &simWAL{}
		back()
		r.start("n2")
		r.within(20*time.Second, "n2 is back", r.running("n0", "n1", "n2"))
		if len(r.removed()) > 0 {
			t.Fatal("n2 was replaced before it came back")
		}
		time.Sleep(2 * time.Minute)
		r.writes(1000)
		r.loses("n2", time.Minute)
		if got := len(n0.disk.taken()); got != 2 {
			t.Errorf("%d snapshots: the last one is of minutes and a thousand entries ago", got)
		}
	})
}

// genesis.json is lost at all members, and each makes it again from its log. Who remembers the lists of before follows theirs.
func TestListsAfterAllMarkersAreLost(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		bornWithSpare(r)
		publishes := func(name string, members int) func() bool {
			return func() bool {
				v := r.nodes[name].report().View
				return v.Knowledge == roster.Born && len(v.Members) == members
			}
		}
		r.within(10*time.Second, "the spare publishes three", publishes("n3", 3))
		for _, name := range simNames(3) {
			r.stop(name)
			r.nodes[name].disk.marker = nil
		}
		r.start(simNames(3)...)
		r.within(time.Minute, "three serve", func() bool {
			return !slices.ContainsFunc(simNames(3), func(name string) bool {
				m := r.nodes[name].report().Member
				return m == nil || !m.Serving
			})
		})
		r.settled()
		if reply := r.order(Order{Op: OrderRemove, Node: "n2"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		gone := func(name string) func() bool {
			return func() bool {
				return !slices.ContainsFunc(r.nodes[name].report().View.Members, func(m roster.Member) bool { return m.Node == "n2" })
			}
		}
		r.within(time.Minute, "a voter publishes another list", gone("n0"))
		r.within(time.Minute, "the spare publishes it", gone("n3"))
	})
}

// One of three loses genesis.json, and takes it over from the others as soon as they say it.
func TestOneMarkerIsLost(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		want := r.nodes["n1"].disk.marker.Accepted.Genesis.ID
		r.stop("n2")
		r.nodes["n2"].disk.marker = nil
		r.start("n2")
		r.within(20*time.Second, "n2 has the genesis of the others", func() bool {
			d := r.nodes["n2"].disk
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.marker != nil && d.marker.Accepted.Genesis.ID == want && d.marker.Accepted.Genesis.Generation == 1
		})
		r.within(20*time.Second, "it runs", r.running("n0", "n1", "n2"))
	})
}

// TestWelcomeOfWhoDoesNotHear: a person's word lets a newcomer in at once, once. Others have their turn.
func TestWelcomeOfWhoDoesNotHear(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.grow()
		r.sever("n3", "n0", true)
		r.start("n3")
		time.Sleep(30 * time.Second)
		if reply := r.order(Order{Op: OrderAdd, Node: "n3"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		before := len(r.removed())
		r.within(10*time.Second, "n3 is let in and taken out once more", func() bool { return len(r.removed()) > before })
		r.start("n4")
		r.within(time.Minute, "n4 votes", func() bool { v, _ := r.members(); return slices.Contains(v, "n4") })
	})
}

// TestWelcomeOfALearner: the word counts beyond the learner that there is.
func TestWelcomeOfALearner(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.sever("n3", "n0", true)
		r.start("n3")
		r.within(5*time.Minute, "its fourth learner", func() bool { _, l := r.members(); return len(r.removed()) == 3 && len(l) == 1 })
		reply := r.order(Order{Op: OrderAdd, Node: "n3"})
		if !reply.Done || !strings.Contains(reply.Text, "is a learner") {
			t.Fatalf("%+v", reply)
		}
		r.within(time.Minute, "it is taken out", func() bool { return len(r.removed()) == 4 })
		r.sever("n3", "n0", false)
		r.within(2*learnerPause, "n3 is let in", func() bool { v, l := r.members(); return len(v)+len(l) == 4 })
	})
}

// TestPausesOutliveALeader: a newcomer that two nodes do not hear is no more welcome because they lead in turn.
func TestPausesOutliveALeader(t *testing.T) {
	inRack(t, 5, func(r *rack) {
		born5(r)
		r.grow()
		r.sever("n5", "n0", true)
		r.sever("n5", "n1", true)
		r.start("n5")
		for i := range 16 {
			r.leads([]string{"n0", "n1"}[i%2])
			time.Sleep(12 * time.Second)
		}
		if n := len(r.removed()); n < 3 || n > 10 {
			t.Errorf("%d learners were taken out in three minutes, want some, and ever fewer", n)
		}
	})
}

// TestLearnerThatIsNotHeard: a learner of which the leader's node hears nothing is not promoted, and a lost voter does not wait for it
// for ever.
func TestLearnerThatIsNotHeard(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 is a learner", func() bool { _, l := r.members(); return slices.Equal(l, []string{"n3"}) })
		r.mu.Lock()
		r.cut[[2]string{"n0", "n3"}] = true
		r.mu.Unlock()
		r.loses("n2", learnerPatience+time.Minute)
		r.within(time.Minute, "n2 votes", r.votersAre("n0", "n1", "n2"))
		r.mend()
		r.within(time.Minute, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
	})
}
