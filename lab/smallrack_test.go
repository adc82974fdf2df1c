//go:build linux

package lab

import (
	"testing"
	"time"
)

// A single member becomes two while clients write. Then one of the two loses its disk: without it there is no majority, and no rule by
// which the other could know that it holds everything. Nothing is removed or born, reads of what is left go on, and each says so.
func TestTwoMembers(t *testing.T) {
	t.Parallel()
	c := onTrial(t, Options{Nodes: 1, Later: 1})
	c.trial("OneToTwoUnderLoad", func(t *testing.T, c *campaign) {
		before, _, _ := c.counts()
		c.strikeJoin()
		c.voters("infra0", "infra1")
		if after, _, _ := c.counts(); after <= before {
			t.Errorf("%d writes were acknowledged before, and %d after", before, after)
		}
	})
	if t.Failed() {
		return
	}
	c.Put("kept", "1")
	c.GetAt("infra1", "kept", "1")
	c.WaitStatus("infra0", "warnings", "two members cannot heal a lost disk")
	ids := c.memberIDs("infra0")
	w := c.Ask100(clientHost, c.watch.server)
	c.Kill("infra1")
	c.Wipe("infra1")
	c.Start("infra1")
	c.WaitStatus("infra1", "plan.action", "wait")
	c.WaitStatus("infra1", "plan.hint", "etcd-dns ")
	c.WaitStatus("infra0", "problems", "no-quorum")
	c.Holds("nothing is removed, and nobody is born", 6*time.Second, func() error {
		if now := c.memberIDs("infra0"); now["infra1"] != ids["infra1"] || len(now) != 2 {
			return errorf("the members were %v and are %v", ids, now)
		}
		return c.NoMember("infra1")
	})
	c.GetAt("infra0", "kept", "1")
	w.Stop()
	all := c.targets("server", "infra0", "infra1")
	unbroken(t, w, "infra0", c.watch.server, all)
	for i, s := range w.Sequence("infra1", c.watch.server) {
		if s.Answer != all && (s.Answer != "SERVFAIL" || i == 0) {
			t.Errorf("infra1 answers %s", s.Answer)
		}
	}
}
