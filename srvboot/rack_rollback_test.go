package srvboot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// image is what a disk holds now; putting it back forgets what came after.
func (d *simDisk) image() (back func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	marker, seen, stamp, id := d.marker, d.seen, d.stamp, d.id
	wal := *d.wal
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		again := wal
		d.marker, d.seen, d.stamp, d.id, d.wal = marker, seen, stamp, id, &again
	}
}

// writes has the cluster acknowledge entries.
func (r *rack) writes(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clusters {
		c.commit += n
	}
}

// TestOlderImageIsReplaced: the image is of this life or of an earlier one; in both cases the log alone tells nothing.
func TestOlderImageIsReplaced(t *testing.T) {
	for _, restarts := range []int{0, 1, 3} {
		inRack(t, 3, func(r *rack) {
			born3(r)
			d := r.nodes["n2"].disk
			old, back := d.wal.member, d.image()
			for range restarts {
				r.stop("n2")
				r.start("n2")
				r.within(10*time.Second, "n2 is back", r.running("n0", "n1", "n2"))
				time.Sleep(3 * time.Second) // it is heard of
			}
			r.writes(10)
			time.Sleep(11 * time.Second)
			r.stop("n2")
			back()
			r.start("n2")
			r.within(40*time.Second, "n2 votes under a new ID", func() bool {
				d.mu.Lock()
				fresh := d.wal != nil && d.wal.member != old
				d.mu.Unlock()
				return fresh && r.votersAre("n0", "n1", "n2")()
			})
			// Its lives began long ago, its member is new: no start of it is a rollback of the old one.
			now := d.wal.member
			time.Sleep(11 * time.Second)
			r.stop("n2")
			r.start("n2")
			r.within(10*time.Second, "n2 is back", r.running("n0", "n1", "n2"))
			if d.wal.member != now {
				t.Errorf("after %d restarts: replaced once more", restarts)
			}
		})
	}
}

// TestWipedNodeRestarts: the lives of a wiped disk begin anew, below those that the others remember of its old member.
func TestWipedNodeRestarts(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		for range 4 {
			r.stop("n2")
			r.start("n2")
			r.within(10*time.Second, "n2 is back", r.running("n0", "n1", "n2"))
			time.Sleep(3 * time.Second)
		}
		r.stop("n2")
		r.nodes["n2"].disk.wipe()
		r.start("n2")
		r.within(40*time.Second, "n2 is replaced", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		time.Sleep(11 * time.Second)
		r.stop("n2")
		r.start("n2")
		r.within(10*time.Second, "n2 is back", r.running("n0", "n1", "n2"))
		if len(r.removed()) != 1 {
			t.Errorf("removals: %+v, want one", r.removed())
		}
	})
}

// TestOlderImageBesideOneWhoKnows: n0 is down. n2 starts alone on an older disk, since nobody answers; n1, which saw it later,
// comes up after that. They must not work together, and they do not, until n0 is back.
func TestOlderImageBesideOneWhoKnows(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		back := r.nodes["n2"].disk.image()
		r.writes(10)
		time.Sleep(11 * time.Second)
		r.stop()
		back()
		r.start("n2")
		r.within(15*time.Second, "n2 starts alone", r.spawned("n2"))
		r.start("n1")
		r.within(5*time.Second, "n2 stops", r.waits("n2", 8))
		r.never(time.Minute, "they form a quorum", func() bool {
			m := r.nodes["n1"].report().Member
			return m != nil && m.Serving
		})
		r.start("n0")
		r.within(time.Minute, "n2 is replaced", r.votersAre("n0", "n1", "n2"))
	})
}

// TestOtherMachineIsCooledDown: the blank disk of another machine waits, however often it says so.
func TestOtherMachineIsCooledDown(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n2")
		d := r.nodes["n2"].disk
		d.wipe()
		d.machine = "another"
		r.start("n2")
		r.never(otherMachine-5*time.Second, "it was let in before its time", func() bool { return len(r.removed()) > 0 })
		r.within(time.Minute, "n2 votes", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
	})
}

// TestWelcomeOutlivesItsLeader: a person lets another machine in, and another node leads before the machine is there; or all
// others start again.
func TestWelcomeOutlivesItsLeader(t *testing.T) {
	t.Run("another leads", func(t *testing.T) { welcomeLasts(t, false) })
	t.Run("all start again", func(t *testing.T) { welcomeLasts(t, true) })
}

func welcomeLasts(t *testing.T, restart bool) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.stop("n2")
		d := r.nodes["n2"].disk
		d.wipe()
		d.machine = "another"
		if reply := r.order(Order{Op: OrderReplace, Node: "n2"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.leads("n1")
		if restart {
			r.stop("n0", "n1")
			r.start("n0", "n1")
			r.within(time.Minute, "two run", r.running("n0", "n1"))
		}
		r.start("n2")
		r.within(time.Minute, "n2 votes", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
	})
}

// TestMovedDisk: a disk in another machine starts once a majority is sure, and alone not at all.
func TestMovedDisk(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		d := r.nodes["n2"].disk
		id := d.wal.member
		r.stop("n2")
		d.machine = "another"
		r.start("n2")
		took := r.within(20*time.Second, "n2 runs", r.running("n0", "n1", "n2"))
		if took < 9*time.Second || d.wal.member != id || d.id.MovedFrom != "" {
			t.Errorf("after %v as %s, moved from %q; want ten seconds, %s and nothing", took, d.wal.member, d.id.MovedFrom, id)
		}
		r.stop()
		d.machine = "a third"
		r.start("n2")
		r.never(time.Minute, "n2 starts alone", r.spawned("n2"))
		if h := r.nodes["n2"].report().Plan.Hint; h == "" {
			t.Error("no hint")
		}
		r.start("n0", "n1")
		r.within(20*time.Second, "all run", r.running("n0", "n1", "n2"))
	})
}

// TestRemovalIsFinished: a person removed a member, and the step itself was lost.
func TestRemovalIsFinished(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		for _, n := range r.nodes {
			w := r.nodes["n2"].disk.wal
			n.disk.mu.Lock()
			n.disk.seen.Tombstones = map[string]Tombstone{"n2": {Count: 1, Removed: true, ClusterID: w.cluster, MemberID: w.member}}
			n.disk.mu.Unlock()
		}
		r.stop("n0", "n1")
		r.start("n0", "n1")
		r.within(time.Minute, "n2 is out", func() bool { v, _ := r.members(); return slices.Equal(v, []string{"n0", "n1"}) })
	})
}

// TestTwoOlderImages: two of three disks are put back. The third has what they forgot and is no quorum, so nobody serves; status names
// the way out, which is to put the latest disk of one of them back. The two hear the third alone: a majority of disks that forgot is
// beyond what is promised, and if they hear each other first, one of them may start before it hears the third.
func TestTwoOlderImages(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		old1, old2 := r.nodes["n1"].disk.image(), r.nodes["n2"].disk.image()
		r.writes(10)
		time.Sleep(16 * time.Second) // an index is written down when it is five seconds old, every five seconds
		r.stop()
		latest1 := r.nodes["n1"].disk.image()
		old1()
		old2()
		r.cut[[2]string{"n1", "n2"}], r.cut[[2]string{"n2", "n1"}] = true, true
		r.start()
		r.within(20*time.Second, "both wait", func() bool { return r.waits("n1", 8)() && r.waits("n2", 8)() })
		r.never(20*time.Second, "a quorum forgot what was acknowledged", func() bool {
			m := r.nodes["n0"].report().Member
			return r.spawned("n1")() || r.spawned("n2")() || m != nil && m.Serving
		})
		if h := r.nodes["n1"].report().Plan.Hint; !strings.Contains(h, "put the latest disk back") {
			t.Errorf("the hint is %q", h)
		}
		r.stop("n1")
		r.mu.Lock()
		clear(r.cut)
		r.mu.Unlock()
		latest1()
		r.start("n1")
		r.within(time.Minute, "n2 is replaced", func() bool { return len(r.removed()) > 0 && r.votersAre("n0", "n1", "n2")() })
	})
}

// TestAllOlderImages: the whole rack is put back to one moment. Nobody can know better, and it goes on from there.
func TestAllOlderImages(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		var back []func()
		for _, n := range r.nodes {
			back = append(back, n.disk.image())
		}
		r.writes(10)
		time.Sleep(16 * time.Second) // an index is written down when it is five seconds old, every five seconds
		r.stop()
		for _, b := range back {
			b()
		}
		r.start()
		r.within(20*time.Second, "all run", r.votersAre("n0", "n1", "n2"))
		if len(r.removed()) > 0 {
			t.Errorf("removals: %+v", r.removed())
		}
	})
}

// TestIndexIsRememberedLate: what a node remembers of how far a member came, another's or its own, was reported five seconds before and
// more, so that it is in the log on disk (R9). It is not much older either.
func TestIndexIsRememberedLate(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		var commits []uint64 // ten a second
		for range 300 {
			r.writes(1)
			time.Sleep(100 * time.Millisecond)
			r.mu.Lock()
			for _, c := range r.clusters {
				commits = append(commits, c.commit)
			}
			r.mu.Unlock()
			for _, name := range []string{"n0", "n1"} {
				d := r.nodes[name].disk
				d.mu.Lock()
				for what, index := range map[string]uint64{"n2": d.seen.Nodes["n2"].Index, "itself": d.id.Index} {
					if n := len(commits); n > 50 && index > commits[n-50] {
						t.Fatalf("%s remembers %s at index %d; five seconds ago %d was all there was", name, what, index, commits[n-50])
					} else if n > 170 && index < commits[n-170] {
						t.Fatalf("%s remembers %s at index %d; seventeen seconds ago it was at %d", name, what, index, commits[n-170])
					}
				}
				d.mu.Unlock()
			}
		}
	})
}

// errSimLostLog is what a member ends with whose leader remembers more of it, up to an index.
type errSimLostLog uint64

func (errSimLostLog) Error() string          { return "the log lacks entries" }
func (errSimLostLog) Removed() bool          { return false }
func (e errSimLostLog) Acknowledged() uint64 { return uint64(e) }

// TestLogThatLacksEntriesIsPutBack: nobody serves, so the node waits, in its next run as well, until the latest disk is back.
func TestLogThatLacksEntriesIsPutBack(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.mu.Lock()
		m := r.nodes["n2"].run
		r.mu.Unlock()
		d := r.nodes["n2"].disk
		latest := d.id.Index + 100
		r.stop("n0", "n1")
		time.Sleep(FreshFor + time.Second) // their last answers said that they serve
		m.end(errSimLostLog(latest))
		waits := func() bool { p := r.nodes["n2"].report().Plan; return p.Row == 8 && p.Action == Wait }
		r.within(30*time.Second, "n2 waits", waits)
		r.stop("n2")
		r.start("n2")
		r.within(30*time.Second, "n2 waits again", waits)
		d.mu.Lock()
		d.wal.index = latest
		d.mu.Unlock()
		r.within(5*time.Second, "n2 sees its latest disk", func() bool { return !waits() })
		r.start("n0", "n1")
		r.within(30*time.Second, "all vote", r.votersAre("n0", "n1", "n2"))
		if got := r.removed(); len(got) != 0 || len(d.aside) != 0 {
			t.Errorf("removed %+v, set aside %v", got, d.aside)
		}
	})
}

// TestLogThatLacksEntries: nobody has written down yet that the member ran beyond its older disk, but etcd proves it. The node is replaced.
func TestLogThatLacksEntries(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.settled()
		r.mu.Lock()
		m := r.nodes["n2"].run
		r.mu.Unlock()
		m.end(errSimLostLog(1 << 40))
		r.within(time.Minute, "n2 votes again", func() bool { return len(r.removed()) == 1 && r.votersAre("n0", "n1", "n2")() })
		if d := r.nodes["n2"].disk; len(d.aside) != 1 {
			t.Errorf("set aside: %v", d.aside)
		}
		r.settled()
		r.mu.Lock()
		m = r.nodes["n2"].run
		r.mu.Unlock()
		m.end(errors.New("out of memory")) // the new member's data lacks nothing
		r.settled()
		if got := r.removed(); len(got) != 1 || !r.votersAre("n0", "n1", "n2")() {
			t.Errorf("removed %+v\n%s", got, r.dump())
		}
	})
}
