//go:build linux

package lab

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What people do to a rack's membership, and do wrong, one thing after the other while clients write.
func TestMembershipTrials(t *testing.T) {
	t.Parallel()
	c := onTrial(t, Options{Later: 1})
	c.trials([]trial{
		{"AdminPortBlocked", adminPortBlocked}, // first: a membership that changed lately is left alone for a while
		{"ForcedRemoval", forcedRemoval},
		{"RemovedWhileDown", removedWhileDown},
		{"RemovedAndAddedInOneSecond", removedAndAdded},
		{"AnotherBundle", anotherBundle},
		{"Etcd16002WrongAddressesOnAJoiner", wrongJoiner},
		{"FalseGossip", falseGossip},
		{"Renamed", renamed},
	})
}

// forcedRemoval: a removal that leaves no quorum connected is refused, and done with --force. The rack stops, as it was told, until
// the dead node is back.
func forcedRemoval(t *testing.T, c *campaign) {
	c.down("infra1")
	// Before the leader has missed infra1, etcd refuses by itself.
	c.Wait("the removal is refused with a reason", healthyLimit, func() error {
		r := c.Tool("infra0", "member", "remove", "infra2")
		if r.Code == 0 {
			t.Fatalf("the removal: %v", r)
		}
		if !strings.Contains(r.Stderr, "quorum") || !strings.Contains(r.Stderr, "--force") {
			return errorf("%v", r)
		}
		return nil
	})
	c.watch.changes("infra2")
	c.Wait("the forced removal", healthyLimit, func() error { return c.Tool("infra0", "member", "remove", "--force", "infra2").Err() })
	c.up("infra1")
	c.voters("infra0", "infra1")
	c.order("infra2", "add", "infra2", "--wait", "0")
}

// removedWhileDown: a node is removed while it is down. It comes back with its data, which is set aside; its line in every Corefile
// lets it in no more, a person's word does.
func removedWhileDown(t *testing.T, c *campaign) {
	before := c.memberIDs("infra0")["infra2"]
	c.watch.changes("infra2")
	c.down("infra2")
	c.order("infra2", "remove", "infra2")
	c.voters("infra0", "infra1")
	db := inodeOf(t, filepath.Join(c.node("infra2").data(), "etcd", "member", "snap", "db"))
	c.up("infra2")
	c.WaitStatus("infra2", "phase", "removed")
	c.WaitStatus("infra2", "plan.hint", "etcd-dns member add infra2")
	c.Holds("it stays out", time.Second, func() error { return c.NoMember("infra2") })
	if !kept(t, c.node("infra2").data(), db) {
		t.Error("its data is gone")
	}
	if r := c.Tool("infra2", "member", "add", "infra2", "--wait", "0"); r.Code != 0 {
		t.Fatal(r)
	}
	c.voters("infra0", "infra1", "infra2")
	if now := c.memberIDs("infra0")["infra2"]; now == before {
		t.Errorf("it came back as member %x, which was removed", now)
	}
}

// removedAndAdded: etcd makes a member's ID from its address and the second, so that two commands in a hurry meet the removed ID again.
func removedAndAdded(t *testing.T, c *campaign) {
	c.watch.changes("infra2")
	before := c.memberIDs("infra0")["infra2"]
	began := time.Now()
	c.order("infra2", "remove", "infra2")
	c.order("infra2", "add", "infra2", "--wait", "0")
	t.Logf("removed and let in again within %v", time.Since(began).Round(time.Millisecond))
	c.Wait("it is another member", healthyLimit, func() error {
		if now := c.memberIDs("infra0")["infra2"]; now == 0 || now == before {
			return errorf("it is %x, and was %x", now, before)
		}
		return nil
	})
}

// adminPortBlocked: a firewall loses what goes to the admin ports, and raft goes on. Nobody is removed; a node that comes back blank
// meanwhile cannot be heard, and waits.
func adminPortBlocked(t *testing.T, c *campaign) {
	before := c.memberIDs("infra0")
	for _, n := range c.nodes {
		c.BlockTCP(n, adminPort)
	}
	for _, n := range []string{"infra1", "infra2"} {
		c.Wait("infra0 says that "+n+" does not answer", healthyLimit, func() error {
			if r := c.Tool("infra0", "status"); r.Code != 1 || !strings.Contains(r.Stdout, n+" does not answer") {
				return errorf("%v", r)
			}
			return nil
		})
	}
	for _, n := range c.nodes {
		if r := c.At(n, "endpoint", "health"); r.Code != 0 {
			t.Errorf("etcd at %s: %v", n, r)
		}
	}
	c.UnblockTCP("infra0", adminPort)
	c.UnblockTCP("infra1", adminPort)
	c.down("infra2")
	c.blank("infra2")
	c.up("infra2")
	c.WaitStatus("infra2", "plan.action", "ask")
	c.Holds("a node that cannot be heard is not replaced", 6*time.Second, func() error { // more than a voter has to be silent for
		if now := c.memberIDs("infra0"); now["infra2"] != before["infra2"] {
			return errorf("the members were %v and are %v", before, now)
		}
		return c.NoMember("infra2")
	})
	c.UnblockTCP("infra2", adminPort)
}

// withLine gives a node its line in every Corefile; without takes it out again.
func (c *campaign) withLine(name, addr string) {
	c.reload(func(s string) string {
		return strings.Replace(s, "node infra0 ", fmt.Sprintf("node %s %s\n        node infra0 ", name, addr), 1)
	})
}

func (c *campaign) without(name string) {
	c.reload(func(s string) string { return dropLine(s, name) })
}

// dropLine is a Corefile without the line of a node.
func dropLine(s, name string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.Contains(line, "node "+name+" ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// reload edits every Corefile, and has the nodes that run take it.
func (c *campaign) reload(edit func(string) string) {
	for _, n := range c.names {
		c.EditCorefile(n, edit)
	}
	c.hup(c.names...)
}

// hup has nodes read their Corefiles again, those that run.
func (l *Lab) hup(names ...string) {
	l.t.Helper()
	for _, n := range names {
		if l.node(n).up() {
			l.Signal(n, syscall.SIGHUP)
		}
	}
}

// anotherBundle: a machine with the bundle of another init, and a line in everybody's Corefile, is no node of this rack.
func anotherBundle(_ *testing.T, c *campaign) {
	c.withLine("infra3", c.Addr("infra3"))
	other, own := c.operator()+"-other", c.corefile("infra3")
	c.initRack(other)
	c.Install("infra3", other)
	c.write(c.host("infra3"), "Corefile", own)
	c.Start("infra3")
	for at, other := range map[string]string{"infra0": "infra3", "infra3": "infra0"} {
		c.Wait(at+" says why it does not hear "+other, healthyLimit, func() error {
			want := other + " does not answer: ask " + other + ": at " + c.Addr(other) + ": who answers at its address has the certificate of another bundle"
			if r := c.Tool(at, "status"); r.Code != 1 || !strings.Contains(r.Stdout, want) {
				return errorf("%v", r)
			}
			return nil
		})
	}
	c.Holds("it is no member", time.Second, func() error { return c.NoMember("infra3") })
	c.Kill("infra3")
	c.Wipe("infra3")
	c.without("infra3")
	c.Install("infra3", c.operator())
}

// wrongJoiner: etcd-io/etcd#16002, a mistake in the names that a new machine is given, by which one member's name leads to another.
// It took the whole cluster down there. Here it waits and says what it found, and the mistake is one Corefile's.
func wrongJoiner(_ *testing.T, c *campaign) {
	c.withLine("infra3", c.Addr("infra3"))
	right := c.corefile("infra3")
	swapped := strings.NewReplacer("infra0 "+c.Addr("infra0"), "infra0 "+c.Addr("infra1"), "infra1 "+c.Addr("infra1"), "infra1 "+c.Addr("infra0")).Replace(right)
	c.write(c.host("infra3"), "Corefile", swapped)
	c.Start("infra3")
	c.WaitStatus("infra3", "waiting", "there is another machine: ask infra")
	c.WaitStatus("infra3", "plan.hint", "compare this Corefile with that of infra2")
	c.WaitStatus("infra2", "warnings", "infra3 has another Corefile: only there: `node infra0 "+c.Addr("infra1"))
	c.Holds("it is no member", 2*time.Second, func() error { return c.NoMember("infra3") })
	// A line that gives the newcomer a member's address is refused on every node.
	good := c.corefile("infra0")
	c.write(c.host("infra0"), "Corefile", strings.Replace(good, "infra3 "+c.Addr("infra3"), "infra3 "+c.Addr("infra1"), 1))
	c.Signal("infra0", syscall.SIGHUP)
	c.WaitStatus("infra0", "corefile_error", c.Addr("infra1")+" stands here and at node infra3")
	c.write(c.host("infra0"), "Corefile", good)
	c.Kill("infra3")
	c.Wipe("infra3")
	c.write(c.host("infra3"), "Corefile", right)
	c.without("infra3")
}

// renamed: the line of infra2 is given another name. Nothing is removed by an edit; the machine does not start under the new name with
// the data of the old one, and says whose it is. Its way out is a data directory of its own, and a word that the old name is gone.
func renamed(t *testing.T, c *campaign) {
	before := c.memberIDs("infra0")
	addr := c.Addr("infra2")
	rename := func(from, to string) {
		c.reload(func(s string) string { return strings.Replace(s, "node "+from+" "+addr, "node "+to+" "+addr, 1) })
	}
	c.down("infra2")
	rename("infra2", "infra9")
	n := c.node("infra2")
	run := []string{"run", "--corefile", filepath.Join(n.dir, "Corefile"), "--name", "infra9", "--data"}
	r := c.Run("infra2", c.bin(), append(run, n.data())...)
	if r.Code != 1 || !strings.Contains(r.Stderr, "belongs to node infra2") || !strings.Contains(r.Stderr, "hint:") {
		t.Errorf("with the old data: %v", r)
	}
	for _, at := range []string{"infra0", "infra1"} {
		c.Wait(at+" warns", healthyLimit, func() error {
			if r := c.Tool(at, "status"); !strings.Contains(r.Stdout, "etcd-dns member remove infra2") {
				return errorf("%v", r)
			}
			return nil
		})
		if now := c.memberIDs(at); now["infra2"] != before["infra2"] {
			t.Errorf("%s lists %v, and listed %v", at, now, before)
		}
	}
	// The new name, on a directory of its own.
	other := filepath.Join(n.dir, "infra9")
	c.watch.starts("infra2") // it knows nothing yet
	p, err := spawn(n.host, "log", append(append([]string{c.bin()}, run...), other))
	if err != nil {
		t.Fatal(err)
	}
	n.proc = p
	c.watch.changes("infra2")
	c.watch.changes("infra9")
	c.order("infra2", "remove", "infra2")
	c.Wait("infra9 votes", healthyLimit, func() error {
		want := c.targets("server", "infra0", "infra1", "infra9")
		for _, at := range []string{"infra0", "infra1"} {
			if ids := c.memberIDs(at); len(ids) != 3 || ids["infra9"] == 0 {
				return errorf("%s lists %v", at, ids)
			}
			if got := c.Ask(clientHost, c.Addr(at), c.watch.server.Name, dns.TypeSRV); got != want {
				return errorf("%s answers %s", at, got)
			}
		}
		return nil
	})
	// And back, for the rack's sake.
	c.order("infra9", "remove", "infra9")
	c.Kill("infra2")
	rename("infra9", "infra2")
	c.blank("infra2")
	c.up("infra2")
	c.order("infra2", "add", "infra2", "--wait", "0")
}
