//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"
)

// firstPeerLags is C10 of the design: infra0 lags behind, for it hears nobody but infra4, and infra4 is blank and comes back. infra0 comes
// first in every list, and still lists the member that was removed; etcd believes the first peer that answers. The newcomer waits until every
// peer that it reaches lists it, and never runs under the old ID.
func firstPeerLags(t *testing.T, c *campaign) {
	before := c.memberIDs("infra1")["infra4"]
	c.down("infra4")
	c.blank("infra4")
	for _, n := range []string{"infra1", "infra2", "infra3"} {
		c.Cut("infra0", n)
	}
	c.up("infra4")
	c.Wait("the rest has another member for infra4", 2*healthyLimit, func() error {
		now := c.memberIDs("infra1")
		if _, old := now["infra4"]; old || now["infra4 (learner)"] == 0 {
			return errorf("infra1 lists %v; infra4: %s", now, c.StatusText("infra4", "plan"))
		}
		return nil
	})
	if ids := c.memberIDs("infra0"); ids["infra4"] != before {
		t.Errorf("infra0 lists %v, so it does not lag", ids)
	}
	c.Wait("it waits for infra0", healthyLimit, func() error {
		if log := c.Log("infra4"); !strings.Contains(log, "waiting for the peers to list this member") {
			return errorf("%s", tail(log, 5))
		}
		return nil
	})
	c.Holds("it does not run meanwhile", time.Second, func() error { return c.NoMember("infra4") })
	for _, n := range []string{"infra1", "infra2", "infra3"} {
		c.Heal("infra0", n)
	}
	c.voters(c.Names()...)
	if now := c.memberIDs("infra0")["infra4"]; now == before {
		t.Errorf("infra4 runs as %x, which was removed", now)
	}
}
