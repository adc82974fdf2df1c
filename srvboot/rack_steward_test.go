package srvboot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What the leader's node keeps while it changes the membership: the snapshot before a removal, the list that the last step led away
// from, and whom a person lets in.

// TestFailedSnapshotBlocksReplacing: without a snapshot no voter is removed by itself (R10 f), until one can be taken or a person says so.
func TestFailedSnapshotBlocksReplacing(t *testing.T) {
	full := func(t *testing.T, f func(r *rack, d *simDisk)) {
		inRack(t, 3, func(r *rack) {
			born3(r)
			r.stop("n2")
			r.nodes["n2"].disk.wipe()
			d := r.nodes["n0"].disk
			d.refuseSnapshots(errDisk)
			r.start("n2")
			r.never(30*time.Second, "it was replaced without a snapshot", func() bool { return len(r.removed()) > 0 })
			if why := r.nodes["n0"].report().State.Waits["n2"]; !strings.Contains(why, errDisk.Error()) {
				t.Errorf("n2 waits for %q, want the disk's error", why)
			}
			f(r, d)
			r.within(30*time.Second, "n2 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		})
	}
	t.Run("there is room again", func(t *testing.T) {
		full(t, func(r *rack, d *simDisk) {
			d.refuseSnapshots(nil)
			r.within(30*time.Second, "a snapshot is taken", func() bool { return len(d.taken()) == 1 })
		})
	})
	t.Run("a person does without", func(t *testing.T) {
		full(t, func(r *rack, d *simDisk) {
			if reply := r.order(Order{Op: OrderReplace, Node: "n2"}); !reply.Done {
				t.Errorf("%+v", reply)
			}
		})
	})
}

func (d *simDisk) refuseSnapshots(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noSnapshot = err
}

func (d *simDisk) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.snapshots)
}

// TestStepIsTakenOnce: the member still reports the list that a step led away from. The same step is not tried again, nor is another
// snapshot taken for it.
func TestStepIsTakenOnce(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.stale = true
		born3(r)
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		r.within(30*time.Second, "n2 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		r.mu.Lock()
		defer r.mu.Unlock()
		if d := r.nodes["n0"].disk; len(d.taken()) != 1 || len(r.refused) != 0 {
			t.Errorf("snapshots %v, refused steps %+v; want one, and none", d.taken(), r.refused)
		}
	})
}

// TestListThatComesBack: somebody else takes a learner out, so the list is again the one that the last step led away from. That step
// is long over, and the next one may be the same.
func TestListThatComesBack(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 learns", func() bool { _, l := r.members(); return len(l) == 1 && r.nodes["n0"].report().Member.learners() == 1 })
		r.mu.Lock()
		for _, c := range r.clusters {
			c.list = slices.DeleteFunc(slices.Clone(c.list), func(e MemberEntry) bool { return e.IsLearner })
		}
		r.mu.Unlock()
		r.within(time.Minute, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
	})
}

func (s *MemberState) learners() (n int) {
	for _, e := range s.Members {
		if e.IsLearner {
			n++
		}
	}
	return n
}

// TestDrainPassesOverASilentVoter: it has all entries, as far as the leader knows, and nobody hears it.
func TestDrainPassesOverASilentVoter(t *testing.T) {
	for _, silent := range []string{"n1", "n2"} {
		inRack(t, 3, func(r *rack) {
			born3(r)
			r.mu.Lock()
			r.frozen[silent] = true
			r.mu.Unlock()
			time.Sleep(1500 * time.Millisecond)
			other := map[string]string{"n1": "n2", "n2": "n1"}[silent]
			want := r.nodes[other].report().Member.ID
			if reply := r.order(Order{Op: OrderDrain, Node: "n0"}); !reply.Done {
				t.Errorf("%s is silent: %+v", silent, reply)
			}
			time.Sleep(time.Second)
			if m := r.nodes["n0"].report().Member; m.Leader != want {
				t.Errorf("%s is silent, and %s leads; want %s", silent, m.Leader, want)
			}
		})
	}
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n1", "n2")
		if reply := r.order(Order{Op: OrderDrain, Node: "n0"}); reply.Done {
			t.Errorf("nobody else runs: %+v", reply)
		}
	})
}

// TestWelcomeExpires: a person's word that a node may come in holds for an hour, and not once it was removed.
func TestWelcomeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Boot{welcomed: map[string]time.Time{}, began: time.Now()}
		voter := MemberEntry{ID: "1", PeerURLs: []string{simInitial("n3")[0].PeerURL}}
		learner := MemberEntry{ID: "2", PeerURLs: voter.PeerURLs, IsLearner: true}
		later := MemberEntry{ID: "2", PeerURLs: voter.PeerURLs}
		word := func(w Tombstone) {
			b.disk.Seen.Tombstones = map[string]Tombstone{"n3": w}
			b.heardWord("n3", w)
		}
		welcome := func(e MemberEntry) bool {
			return slices.Equal(b.stillWelcome(MemberState{ClusterID: "c", Members: []MemberEntry{e}}), []string{"n3"})
		}
		word(Tombstone{ClusterID: "c", MemberID: voter.ID, Welcome: time.Now().Add(orderLasts).Unix()})
		time.Sleep(orderLasts - time.Nanosecond)
		if !welcome(voter) || !welcome(MemberEntry{}) || !welcome(learner) {
			t.Error("not welcome just before the hour is over")
		}
		if welcome(later) {
			t.Error("it has come in, and is welcome still")
		}
		time.Sleep(time.Nanosecond)
		if welcome(voter) {
			t.Error("welcome after an hour")
		}
		word(Tombstone{ClusterID: "c", MemberID: voter.ID, Welcome: time.Now().Unix()})
		if welcome(voter) {
			t.Error("a word of more than an hour ago was heard only now, and counts")
		}
		word(Tombstone{ClusterID: "c", MemberID: voter.ID, Welcome: time.Now().Add(24 * time.Hour).Unix()}) // by a clock that is ahead
		time.Sleep(orderLasts - time.Nanosecond)
		if !welcome(voter) {
			t.Error("not welcome after a new word")
		}
		time.Sleep(time.Nanosecond)
		if welcome(voter) {
			t.Error("welcome for longer than an hour, by a clock that is wrong")
		}
		word(Tombstone{ClusterID: "c", Removed: true})
		if welcome(voter) {
			t.Error("removed since, and welcome")
		}
		clear(b.welcomed) // the node has started again
		b.began = time.Now()
		if b.disk.Seen.Tombstones["n3"] = (Tombstone{ClusterID: "c", Welcome: time.Now().Add(time.Minute).Unix()}); !welcome(learner) {
			t.Error("forgotten by a restart")
		}
	})
}

// TestAnswersInOrder: questions and messages of the genesis protocol are under way at once, so an answer may come in after a later one.
func TestAnswersInOrder(t *testing.T) {
	ballot := NewBallot(2, "n0", "r0")
	known := State{Node: "n1", Run: "r2", Phase: Promised, Promised: ballot, Reached: 7}
	for _, c := range []struct {
		name   string
		number uint64
		state  State
		err    error
		taken  bool
	}{
		{"of an earlier question, and of an earlier run", 4, State{Node: "n1", Run: "r1", Phase: Accepted, Promised: ballot}, nil, false},
		{"of an earlier question, and no earlier by itself", 4, State{Node: "n1", Run: "r2", Phase: Promised, Promised: ballot}, nil, false},
		{"of this question, and of an earlier phase", 5, State{Node: "n1", Run: "r2", Phase: Fresh, Promised: ballot}, nil, false},
		{"of a later question, and of a lower ballot", 6, State{Node: "n1", Run: "r2", Phase: Promised, Promised: NewBallot(1, "n0", "r0")}, nil, false},
		{"of a later question, by another node", 6, State{Node: "n2", Run: "r2", Phase: Accepted, Promised: ballot}, nil, false},
		{"of a later question", 6, State{Node: "n1", Run: "r2", Phase: Promised, Promised: ballot}, nil, true},
		{"of a later question, after the disk was lost", 6, State{Node: "n1", Run: "r3", Phase: Fresh}, nil, true},
		{"none to a later question", 6, State{}, errors.New("refused"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, p := &Boot{}, &peer{Answer: Answer{Node: "n1"}}
			b.heard(p, 5, time.Now(), known, nil)
			b.heard(p, c.number, time.Now(), c.state, c.err)
			if taken := p.State.Run != known.Run || p.State.Reached != known.Reached; taken != c.taken || p.State.Node != "n1" {
				t.Errorf("taken is %v: %+v", taken, p.State)
			}
			if (p.Err != "") != (c.err != nil) {
				t.Errorf("the error is %q", p.Err)
			}
		})
	}
}

// TestLapse: a snapshot counts for a minute, a failure until it is tried again.
func TestLapse(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		after      time.Duration
		saved, why string
	}{
		{0, "1", "disk full"},
		{5 * time.Second, "1", "disk full"},
		{5*time.Second + 1, "1", ""},
		{snapshotLasts, "1", ""},
		{snapshotLasts + 1, "", ""},
	} {
		s := saving{saved: "1", savedAt: began, why: "disk full", failedAt: began}
		s.lapse(began.Add(c.after), 5*time.Second)
		if s.saved != c.saved || s.why != c.why {
			t.Errorf("after %v: saved for %q, failed by %q; want %q and %q", c.after, s.saved, s.why, c.saved, c.why)
		}
	}
}

// TestLearnerPauses: the first learner may have died with its disk; later ones wait, twice as long each time, ten minutes at most, and
// what was long ago does not count.
func TestLearnerPauses(t *testing.T) {
	now, r := time.Now(), learnerRetry{}
	for i, want := range []time.Duration{0, 10, 20, 40, 80, 160, 320, 600, 600} {
		r = r.again(now)
		if got := r.until.Sub(now); got != want*time.Second {
			t.Errorf("learner %d: a pause of %v, want %v s", i+1, got, int(want))
		}
		now = r.until.Add(learnerLost * time.Second) // and it is silent again
	}
	if got := r.again(now.Add(learnerPauseMax + time.Second)).until; got.After(now.Add(learnerPauseMax + time.Second)) {
		t.Errorf("after a long time there is a pause of %v", got.Sub(now))
	}
}
