package member

import (
	"testing"
	"time"
)

func TestOneMember(t *testing.T) {
	for name, o := range map[string]rackOptions{"tls": {nodes: 1}, "plain": {nodes: 1, plain: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t, o)
			n := r.nodes[0]
			began := time.Now()
			p := r.start(r.launcher(n), r.launch(n))
			s := r.await(p, "healthy", r.healthy)
			t.Logf("healthy after %v", time.Since(began))
			if s.ID != r.ids[n.name] || s.ClusterID != r.genesis.ClusterID || s.Leader != s.ID || s.PID != p.PID() || s.IsLearner {
				t.Errorf("state %+v, want ID and leader %s, cluster %s, pid %d", s, r.ids[n.name], r.genesis.ClusterID, p.PID())
			}
			c := r.client(n)
			r.put(c, "k", "v")
			if got := r.get(c, "k"); got != "v" {
				t.Errorf("get = %q, want v", got)
			}
		})
	}
}
