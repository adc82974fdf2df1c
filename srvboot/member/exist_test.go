package member

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestJoin: a learner joins a living cluster under the ID it was given, and under no other; and once it is removed it
// ends and says so.
func TestJoin(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 2})
	joiner := r.nodes[1]
	alone := srvboot.Genesis{ID: r.genesis.ID, Members: r.genesis.Members[:1]}
	var err error
	var ids map[string]string
	if alone.ClusterID, ids, err = srvboot.IDs(alone.Members, alone.ID); err != nil {
		t.Fatal(err)
	}
	first := r.start(r.launcher(r.nodes[0]), srvboot.Launch{
		New: true, Token: alone.ID, Members: alone.Members, ClusterID: alone.ClusterID, MemberID: ids["infra0"],
	})
	r.await(first, "serving", func(s srvboot.MemberState) bool { return s.Serving })
	c := r.client(r.nodes[0])
	r.put(c, "k", "v")

	before := r.await(first, "dated", func(s srvboot.MemberState) bool { return len(s.Members) == 1 && s.Listed > 0 })
	added, err := retryAdd(t, c, joiner.peer)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing else is written, so only the change itself has a later index.
	if s := r.await(first, "dated again", func(s srvboot.MemberState) bool { return len(s.Members) == 2 && s.Listed > 0 }); s.Listed <= before.Applied || s.Listed > s.Applied {
		t.Errorf("the list with the learner is dated %d at index %d, want later than %d", s.Listed, s.Applied, before.Applied)
	}
	id := hexID(added.Member.ID)
	wrong := srvboot.Launch{Token: alone.ID, Members: r.genesis.Members, ClusterID: alone.ClusterID, MemberID: r.ids["infra1"]}
	l := r.launcher(joiner)
	p := r.start(l, wrong)
	waiting := time.After(patience)
	for joiner.logs.FilterMessage("waiting for the peers to list this member").Len() == 0 {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-waiting:
			t.Fatal("the joiner does not wait for its own ID")
		}
	}
	stopNow(t, p)
	noWAL(t, joiner)

	right := wrong
	right.MemberID = id
	p = r.start(l, right)
	s := r.await(p, "a learner", func(s srvboot.MemberState) bool { return s.IsLearner && s.Leader != "" })
	if s.ID != id || s.ClusterID != alone.ClusterID || s.Serving {
		t.Errorf("the joiner is %+v, want ID %s, cluster %s, not serving", s, id, alone.ClusterID)
	}
	if _, err := c.MemberRemove(t.Context(), added.Member.ID); err != nil {
		t.Fatal(err)
	}
	if e := r.awaitDeath(p); !e.Removed() || !strings.Contains(e.Error(), "removed from its cluster") {
		t.Errorf("death of a removed member: %+v", e)
	}
}

// retryAdd adds a learner; etcd refuses until its peers have been connected for a while.
func retryAdd(t *testing.T, c *clientv3.Client, url string) (*clientv3.MemberAddResponse, error) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		resp, err := c.MemberAddAsLearner(t.Context(), []string{url})
		if err == nil || time.Now().After(late) {
			return resp, err
		}
		<-time.After(50 * time.Millisecond)
	}
}
