package member

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestForcedRemoval: of three members one is down. etcd refuses to remove another, and is made to by force. The removed one says that it
// is removed at its end, and again when it is started while nobody has a quorum: then its listeners end before etcd does.
func TestForcedRemoval(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 3})
	ls, ps := r.boot()
	leader, state := r.leads(ps)
	down, out := (leader+1)%3, (leader+2)%3
	stopNow(t, ps[down])
	removal := srvboot.Change{Op: srvboot.RemoveMember, Term: state.Term, ID: r.ids[r.nodes[out].name], Members: srvboot.ListIDs(state.Members)}
	if _, err := ps[leader].Change(t.Context(), removal); err == nil || !strings.Contains(err.Error(), "unhealthy cluster: too few voters have been connected") {
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
	removal := srvboot.Change{Op: srvboot.RemoveMember, Term: state.Term, ID: state.ID, Members: srvboot.ListIDs(state.Members), Force: true}
	if _, err := p.Change(t.Context(), removal); err == nil || !strings.Contains(err.Error(), "the last voter") {
		t.Errorf("%v", err)
	}
	r.awaitAll([]*Process{p})
	if now, ok := p.State(); !ok || !now.Serving || len(now.Members) != 1 {
		t.Errorf("afterwards: %+v", now)
	}
}

// TestChangeByWhoDoesNotLead: a follower's reads succeed, and etcd hands on what is proposed to it. A step is not taken by a member that does not
// lead, and not by one that leads in another term than that of the step.
func TestChangeByWhoDoesNotLead(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 3})
	_, ps := r.boot()
	leader, state := r.leads(ps)
	out := (leader + 2) % 3
	removal := srvboot.Change{Op: srvboot.RemoveMember, Term: state.Term, ID: r.ids[r.nodes[out].name], Members: srvboot.ListIDs(state.Members)}
	for _, tt := range []struct {
		name string
		at   *Process
		term uint64
	}{
		{"a follower", ps[(leader+1)%3], state.Term},
		{"the leader, in an earlier term", ps[leader], state.Term - 1},
	} {
		removal.Term = tt.term
		if _, err := tt.at.Change(t.Context(), removal); !errors.Is(err, srvboot.ErrRefused) || !strings.Contains(err.Error(), "this member led in term") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	r.awaitAll(ps) // three members, as before
}

// leads is which of three members leads, and what it says.
func (r *rack) leads(ps []*Process) (int, srvboot.MemberState) {
	r.t.Helper()
	for i, p := range ps {
		if s, ok := p.State(); ok && s.Leader == s.ID {
			return i, s
		}
	}
	r.t.Fatal("nobody leads")
	return 0, srvboot.MemberState{}
}
