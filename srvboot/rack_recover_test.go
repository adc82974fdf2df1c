package srvboot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// What a rack makes of a recovery: a node whose disk a person replaced by a genesis of one member and the next generation, made
// from what was left, and the machines that were given up and come back.

// recovered puts the disk of a recovery into a stopped node. The data that the node had is gone from the rack.
func (r *rack) recovered(name, id string) {
	r.t.Helper()
	d := r.nodes[name].disk
	m := *d.marker
	g := Genesis{ID: id, Generation: m.Accepted.Genesis.Generation + 1, Parent: m.Accepted.Genesis.ID, Members: simInitial(name),
		Digest: m.Accepted.Genesis.Digest}
	cluster, ids, err := IDs(g.Members, id)
	if err != nil {
		r.t.Fatal(err)
	}
	g.ClusterID = cluster
	m.Phase, m.Accepted, m.MemberID = Running, &Acceptance{Ballot: m.Accepted.Ballot, Genesis: g}, ids[name]
	d.marker, d.wal, d.stamp = &m, &simWAL{member: ids[name], cluster: cluster, entries: true, index: 5}, ""
	d.id.Index = 0
}

// apart cuts a node off, its raft traffic included, or ends that.
func (r *rack) apart(name string, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.nodes {
		r.cut[[2]string{name, other}], r.cut[[2]string{other, name}] = cut, cut
	}
	r.frozen[name] = cut
}

// serves reports whether a node's member takes writes in a generation.
func (r *rack) serves(name string, generation uint64) bool {
	rep := r.nodes[name].report()
	return rep.Member != nil && rep.Member.Serving && rep.State.Accepted.Genesis.Generation == generation
}

// fenced waits until nodes gave way to a successor: no member runs, the data is kept, the successor is published, and status names
// what to do.
func (r *rack) fenced(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.within(5*time.Second, name+" is fenced", func() bool {
			return r.phaseOf(name) == FencedOff && !r.spawned(name)() && r.nodes[name].report().View.Generation == 2
		})
		d := r.nodes[name].disk
		d.mu.Lock()
		if len(d.aside) != 1 || d.wal != nil {
			r.t.Errorf("%s: aside are %d, and in place is %v; want its data kept aside", name, len(d.aside), d.wal)
		}
		d.mu.Unlock()
		if p := r.nodes[name].report().Plan; p.Action != Idle || !strings.Contains(p.Hint, "etcd-dns ") {
			r.t.Errorf("%s: %+v, want a hint", name, p)
		}
	}
	r.never(15*time.Second, "the old generation came back", func() bool {
		return slices.ContainsFunc(names, func(name string) bool { return r.spawned(name)() })
	})
}

// rejoined wipes fenced nodes, as their hint allows once a person has looked, and waits until all vote in the successor.
func (r *rack) rejoined(fenced ...string) {
	r.t.Helper()
	for _, name := range fenced {
		r.stop(name)
		r.nodes[name].disk.wipe()
		r.start(name)
	}
	r.within(2*time.Minute, "all vote in the recovered cluster", r.running("n0", "n1", "n2"))
	for _, name := range simNames(3) {
		if !r.serves(name, 2) {
			r.t.Errorf("%s does not serve in generation 2", name)
		}
	}
}

// TestHiddenMajorityIsFenced: the old majority lived on behind a cut while a person recovered the third. Both take writes until the cut
// is healed; from then on only the recovered one does.
func TestHiddenMajorityIsFenced(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop("n2")
		r.apart("n2", true)
		r.recovered("n2", "next")
		r.mu.Lock()
		r.frozen["n2"] = false // it is a cluster of its own now
		r.mu.Unlock()
		r.start("n2")
		r.within(20*time.Second, "both serve", func() bool { return r.serves("n2", 2) && r.serves("n0", 1) && r.serves("n1", 1) })
		r.apart("n2", false)
		r.fenced("n0", "n1")
		r.rejoined("n0", "n1")
	})
}

// TestGivenUpNodeReturnsWithNewerData: n0 and n1 were given up. n0 comes back and has come further than what the recovery was made from:
// a generation counts for more than an index, and its data is kept for a person to look at.
func TestGivenUpNodeReturnsWithNewerData(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.writes(100)
		time.Sleep(time.Second)
		r.stop()
		newer := r.nodes["n0"].disk.wal.index
		r.recovered("n2", "next")
		r.start("n2")
		r.within(20*time.Second, "n2 serves", func() bool { return r.serves("n2", 2) })
		r.start("n0")
		r.fenced("n0")
		if kept := r.nodes["n0"].disk.aside[0].index; kept < newer || newer <= 5 {
			t.Errorf("kept is an index of %d, and n0 had %d", kept, newer)
		}
	})
}

// TestFencedMinorityReturns: a node that was told of the recovery before it was cut off never serves its old data, beside the
// recovered cluster or alone, and says why.
func TestFencedMinorityReturns(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop()
		r.recovered("n2", "next")
		r.start("n1", "n2")
		r.fenced("n1")
		r.stop()
		r.start("n0", "n1") // a majority of the old cluster, and nobody who knows of another
		r.never(20*time.Second, "n1 lent the old cluster its quorum", func() bool { return r.spawned("n1")() || r.serves("n0", 1) })
		r.start("n2")
		r.fenced("n0")
		r.rejoined("n0", "n1")
	})
}

// TestRecoveredTwice: two people recover two nodes that cannot hear each other. Nobody can know whose writes are to be lost, so
// neither cluster ends nor takes the other's node in; the third node, which has a successor either way, serves neither. A person
// decides by wiping one.
func TestRecoveredTwice(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop()
		r.recovered("n1", "one")
		r.recovered("n2", "two")
		r.start()
		r.within(20*time.Second, "both serve", func() bool { return r.serves("n1", 2) && r.serves("n2", 2) })
		r.fenced("n0")
		r.never(15*time.Second, "one of them gave way", func() bool { return !r.serves("n1", 2) || !r.serves("n2", 2) })
		for _, name := range []string{"n1", "n2"} {
			if v := r.nodes[name].report().View; v.Knowledge != roster.Born || len(v.Members) != 1 || v.Members[0].Node != name {
				t.Errorf("%s publishes %+v, want its own cluster", name, v)
			}
		}
		r.rejoined("n0", "n1")
	})
}

// TestMarkerOfAnOlderGeneration: genesis.json alone was put back from before the recovery. The data is another cluster's, and stays.
func TestMarkerOfAnOlderGeneration(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.stop()
		older := *r.nodes["n2"].disk.marker
		r.recovered("n2", "next")
		r.nodes["n2"].disk.marker = &older
		r.start("n2")
		r.within(5*time.Second, "n2 refuses", func() bool { return r.nodes["n2"].report().Plan.Action == Refuse })
		p := r.nodes["n2"].report().Plan
		if p.Row != 4 || p.Hint == "" || !strings.Contains(p.Reason, older.Accepted.Genesis.ClusterID) {
			t.Errorf("%+v, want the cluster IDs and a hint", p)
		}
		r.never(15*time.Second, "it started or touched the data", func() bool {
			return r.spawned("n2")() || r.nodes["n2"].disk.wal == nil
		})
	})
}
