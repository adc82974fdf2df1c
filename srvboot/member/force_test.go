package member

import (
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestForcedRemoval: of three members one is down. etcd refuses to remove another, and is made to by force. The removed one says that it
// is removed at its end, and again when it is started while nobody has a quorum: then its listeners end before etcd does.
func TestForcedRemoval(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 3})
	var ls []*Launcher
	for _, n := range r.nodes {
		ls = append(ls, r.launcher(n))
	}
	ps := r.startAll(ls)
	r.awaitAll(ps)
	state, _ := ps[0].State()
	leader := 0
	for i, n := range r.nodes {
		if r.ids[n.name] == state.Leader {
			leader = i
		}
	}
	down, out := (leader+1)%3, (leader+2)%3
	stopNow(t, ps[down])
	removal := srvboot.Change{Op: srvboot.RemoveMember, ID: r.ids[r.nodes[out].name], Members: srvboot.ListIDs(state.Members)}
	if _, err := ps[leader].Change(t.Context(), removal); err == nil || !strings.Contains(err.Error(), "unhealthy cluster") {
		t.Fatalf("without force: %v", err)
	}
	removal.Force = true
	if _, err := ps[leader].Change(t.Context(), removal); err != nil {
		t.Fatalf("with force: %v", err)
	}
	if e := r.awaitDeath(ps[out]); !e.Removed() {
		t.Errorf("its end: %+v", e)
	}
	again := r.launch(r.nodes[out])
	again.New = false
	if e := r.awaitDeath(r.start(ls[out], again)); !e.Removed() {
		t.Errorf("its next end: %+v", e)
	}
}

// TestForcedRemovalOfTheLastVoter: raft panics when it applies that, at each start anew.
func TestForcedRemovalOfTheLastVoter(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1})
	p := r.start(r.launcher(r.nodes[0]), r.launch(r.nodes[0]))
	r.awaitAll([]*Process{p})
	state, _ := p.State()
	removal := srvboot.Change{Op: srvboot.RemoveMember, ID: state.ID, Members: srvboot.ListIDs(state.Members), Force: true}
	if _, err := p.Change(t.Context(), removal); err == nil || !strings.Contains(err.Error(), "the last voter") {
		t.Errorf("%v", err)
	}
	r.awaitAll([]*Process{p})
	if now, ok := p.State(); !ok || !now.Serving || len(now.Members) != 1 {
		t.Errorf("afterwards: %+v", now)
	}
}
