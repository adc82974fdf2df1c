//go:build linux

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Disks and machines that come twice: copies of a disk, and a machine that is let in under the name of one that lives behind a cut.
func TestCopies(t *testing.T) {
	t.Parallel()
	c := onTrial(t, Options{Later: 2})
	c.trials([]trial{{"ClonedDisk", clonedDisk}})
	if !t.Failed() {
		t.Run("OldNodeBehindACut", func(t *testing.T) { oldNodeReturns(t, c) })
	}
}

// clonedDisk: copies of an earlier state of infra2's disk come up in other machines that say they are the same one, as copies of a
// virtual machine do. One of them is cut off: there nobody can tell it, and its member may start, which alone is no quorum; it
// stops when it hears the others. The other is beside the original, while that is up and while it is down.
func clonedDisk(t *testing.T, c *campaign) {
	c.down("infra2")
	for _, to := range []string{"infra3", "infra4"} {
		c.Must(clientHost, "cp", "-a", c.node("infra2").data(), c.node(to).data())
		id, err := os.ReadFile(filepath.Join("/etc/netns", c.host("infra2").ns, "machine-id"))
		if err == nil {
			err = c.host(to).etc("machine-id", string(id))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.up("infra2")
	c.Wait("the others have seen infra2 again", healthyLimit, func() error {
		for _, at := range []string{"infra0", "infra1"} {
			if s := c.memory(at, "infra2"); s.Life != 2 {
				return errorf("%s remembers %+v", at, s)
			}
		}
		return nil
	})
	c.CutNode("infra4")
	far := c.impersonate("infra4", "infra2")
	near := c.impersonate("infra3", "infra2")
	waits := func(i *impostor, says string) {
		c.Wait(i.host.name+" waits and says why", healthyLimit, func() error {
			if r := c.says(i); r.Code != 1 || !strings.Contains(r.Stdout, "the member does not run") || !strings.Contains(r.Stdout, says) {
				return errorf("%v", r)
			}
			return c.idle(i.host.name)
		})
	}
	waits(near, "give this one a name of its own")
	c.down("infra2")
	c.Wait("the copy that is cut off has started its member", healthyLimit, func() error {
		if c.MemberPID("infra4") == 0 {
			return errorf("%v", c.says(far))
		}
		return nil
	})
	c.Holds("beside the original that is down", time.Second, func() error { return c.idle("infra3") })
	c.HealNode("infra4")
	c.Wait("the copy that was cut off has stopped its member", healthyLimit, func() error { return c.idle("infra4") })
	c.up("infra2")
	waits(far, "give this one a name of its own")
	c.Holds("beside the original that is up again", time.Second, func() error { return errors.Join(c.idle("infra3"), c.idle("infra4")) })
	for _, i := range []*impostor{near, far} {
		c.Kill(i.host.name)
		c.Wipe(i.host.name)
	}
}

// oldNodeReturns: infra2 is behind a cut and lives. A person gives its name to a new machine and has it let in. When the old one hears
// the rack again, it has no part in the cluster, and its data is kept.
func oldNodeReturns(t *testing.T, c *campaign) {
	whole := c.t
	c.t = t
	defer func() { c.t = whole }()
	c.watch = c.newWatch()
	c.watch.changes("infra2")
	c.begin("old")
	defer c.end()
	old := c.memberIDs("infra0")["infra2"]
	c.watch.excuse("infra2")
	c.CutNode("infra2")
	now := c.Addr("infra3")
	for _, n := range []string{"infra0", "infra1"} {
		c.EditCorefile(n, func(s string) string { return strings.Replace(s, "infra2 "+c.Addr("infra2"), "infra2 "+now, 1) })
	}
	if err := c.host("infra3").etc("machine-id", "0123456789abcdef0123456789abcdef\n"); err != nil {
		t.Fatal(err)
	}
	c.Install("infra3", c.operator())
	c.impersonate("infra3", "infra2")
	c.hup("infra0", "infra1")
	c.Wait("infra0 says what the new machine waits for", healthyLimit, func() error {
		if r := c.Tool("infra0", "member", "list"); !strings.Contains(r.Stdout, "etcd-dns member replace infra2") {
			return errorf("%v", r)
		}
		return nil
	})
	c.order("infra2", "replace", "infra2", "--wait", "0")
	c.Wait("the new machine's member votes", 2*healthyLimit, func() error {
		if ids := c.memberIDs("infra0"); len(ids) != 3 || ids["infra2"] == 0 || ids["infra2"] == old {
			return errorf("the members are %v", ids)
		}
		return c.At("infra3", "get", "none").Err()
	})
	db := inodeOf(t, filepath.Join(c.node("infra2").data(), "etcd", "member", "snap", "db"))
	c.HealNode("infra2")
	c.WaitStatus("infra2", "plan.action", "refuse")
	c.WaitStatus("infra2", "plan.hint", "give this one a name of its own")
	c.Holds("the old one's member does not run", time.Second, func() error { return c.idle("infra2") })
	if !kept(t, c.node("infra2").data(), db) {
		t.Error("its data is gone")
	}
	c.end()
	c.watch.Stop()
	for k, v := range c.record.acknowledged("u/") {
		c.acknowledged[k] = v
	}
	err := c.judgeData([]string{"infra0", "infra1", "infra3"}, c.acknowledged)
	if id, e := c.cluster([]string{"infra0", "infra1", "infra3"}); id != c.id {
		err = errors.Join(err, errorf("the cluster was %x and is %x: %v", c.id, id, e))
	}
	if err = errors.Join(err, c.watch.judge([]string{"infra0", "infra1"})); err != nil {
		t.Error(err)
	}
}
