package member

import (
	"os"
	"slices"
	"testing"
)

// TestLostLog: a follower's data is put back from an older copy, and the leader remembers what it acknowledged since. etcd ends again and
// again, and the follower's node hears why.
func TestLostLog(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 3})
	ls, ps := r.boot()
	state, _ := ps[0].State()
	leader := slices.IndexFunc(r.nodes, func(n *testNode) bool { return r.ids[n.name] == state.Leader })
	follower := (leader + 1) % 3
	n, copied := r.nodes[follower], t.TempDir()
	again := r.launch(n)
	again.New = false

	stopNow(t, ps[follower])
	if err := os.CopyFS(copied, os.DirFS(n.dir)); err != nil {
		t.Fatal(err)
	}
	p := r.start(ls[follower], again)
	r.awaitAll([]*Process{p})
	c := r.client(n) // a follower serves a put once it has it
	for range 20 {
		r.put(c, "k", "v")
	}
	stopNow(t, p)
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.dir, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	e := r.awaitDeath(r.start(ls[follower], again))
	if i := e.Acknowledged(); i < 20 || e.Removed() || e.WrongIdentity() {
		t.Errorf("it had acknowledged index %d: %+v", i, e)
	}
}

func TestAcknowledged(t *testing.T) {
	for line, want := range map[string]uint64{
		"panic: tocommit(148) is out of range [lastIndex(46)]. Was the raft log corrupted, truncated, or lost?": 148,
		"tocommit(9) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?":           9,
		"tocommit(-1) is out of range [lastIndex(0)]":                                                           0,
		"panic: need non-empty snapshot":                                                                        0,
		"":                                                                                                      0,
	} {
		if got := (&ExitError{LastLog: line}).Acknowledged(); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}
