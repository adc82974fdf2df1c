//go:build linux

package lab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Processes that should not be there, or not as they are, one thing after the other in one rack that serves meanwhile.
func TestProcesses(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 1})
	rack := l.Names()[:3]
	for _, n := range rack {
		l.Start(n)
	}
	l.WaitHealthy(rack...)
	l.Put("kept", "1")
	t.Run("ParentKilledMemberStopped", func(t *testing.T) { orphan(t, l) })
	t.Run("TwoRunsOfOneDirectory", func(t *testing.T) { secondRun(t, l) })
	t.Run("NamesakeElsewhere", func(t *testing.T) { namesake(t, l, rack) })
	t.Run("Etcd10002NewAddress", func(t *testing.T) { newAddress(t, l, rack) })
	t.Run("Etcd10002ReplacedInstance", func(t *testing.T) { replacedInstance(t, l, rack) })
}

// orphan: the parent is killed while its member hangs. The next run ends the orphan before it starts another.
func orphan(t *testing.T, l *Lab) {
	pid, parent := l.MemberPID("infra1"), l.node("infra1").proc
	for p, sig := range map[int]syscall.Signal{pid: syscall.SIGSTOP, l.PID("infra1"): syscall.SIGKILL} {
		if err := syscall.Kill(p, sig); err != nil {
			t.Fatal(err)
		}
	}
	if !parent.ended(stopLimit) {
		t.Fatal("the parent does not die")
	}
	l.Start("infra1")
	l.WaitHealthy("infra0", "infra1", "infra2")
	if now := l.MemberPID("infra1"); now == pid || now == 0 {
		t.Errorf("its member is process %d and was %d", now, pid)
	}
	// What the machine's first process has not waited for yet is dead all the same.
	if pids, err := pidsIn(l.host("infra1").ns); err != nil || slices.Contains(pids, pid) {
		t.Errorf("the orphan %d lives beside it: %v, %v", pid, pids, err)
	}
}

// secondRun: a second run of the same directory, and one of the same name with another directory, end at once and say why.
func secondRun(t *testing.T, l *Lab) {
	n := l.node("infra0")
	pid, member := l.PID("infra0"), l.MemberPID("infra0")
	for _, data := range []string{n.data(), filepath.Join(n.dir, "other")} {
		r := l.Run("infra0", l.bin(), "run", "--corefile", filepath.Join(n.dir, "Corefile"), "--name", "infra0", "--data", data)
		if r.Code != 1 || !strings.Contains(r.Stderr, fmt.Sprint(pid)) || !strings.Contains(r.Stderr, "hint:") {
			t.Errorf("a second run with %s, want exit 1, process %d and a hint: %v", data, pid, r)
		}
	}
	if l.PID("infra0") != pid || l.MemberPID("infra0") != member {
		t.Error("the first run was disturbed")
	}
}

// namesake: another machine runs under the name of infra0, blank, with an address of its own. The member of the one that lives is not
// replaced by it, and does not notice.
func namesake(t *testing.T, l *Lab, rack []string) {
	member := l.MemberPID("infra0")
	l.impersonate("infra3", "infra0")
	l.Wait("the newcomer says that there is a member already", healthyLimit, func() error {
		if log := l.Log("infra3"); !strings.Contains(log, "has this node's peer URL") {
			return errorf("%s", tail(log, 5))
		}
		return nil
	})
	l.Holds("it has no member", quiet, func() error { return l.NoMember("infra3") })
	l.Kill("infra3")
	if now := l.MemberPID("infra0"); now != member {
		t.Errorf("the member of infra0 is process %d and was %d", now, member)
	}
	l.WaitHealthy(rack...)
}

// elsewhere starts infra2 at another address, which every node's line says, and waits until all answer it.
func (l *Lab) elsewhere(now string, rack []string) {
	l.t.Helper()
	old := l.Addr("infra2")
	l.move("infra2", now)
	for _, n := range l.Names() {
		l.EditCorefile(n, func(s string) string { return strings.Replace(s, "infra2 "+old, "infra2 "+now, 1) })
	}
	for _, n := range []string{"infra0", "infra1"} {
		l.Signal(n, syscall.SIGHUP)
	}
	l.Start("infra2")
	l.WaitHealthy(rack...)
	for _, n := range rack {
		l.Wait(n+" answers the new address", 20*time.Second, func() error {
			if got := l.Ask(clientHost, l.Addr(n), "infra2."+l.Domain, dns.TypeA); got != now {
				return errorf("%s", got)
			}
			return nil
		})
	}
}

// replacedInstance: etcd-io/etcd#10002 itself. The instance is another one: its disk is blank, its address new, and its name leads to the old
// one in the resolver's cache. It does not wait for the TTL, nor for a person.
func replacedInstance(t *testing.T, l *Lab, rack []string) {
	before := l.memberIDs("infra0")
	l.Wait("the resolver has the address", 2*healthyLimit, func() error {
		if got := l.Ask(clientHost, l.Addr(resolverHost), "infra2."+l.Domain, dns.TypeA); got != l.Addr("infra2") {
			return errorf("%s", got)
		}
		return nil
	})
	l.Kill("infra2")
	l.Wipe("infra2")
	began := time.Now()
	l.elsewhere("10.0.1.98", rack)
	l.voters(rack...)
	t.Logf("it votes after %v", time.Since(began).Round(time.Millisecond))
	if now := l.memberIDs("infra0")["infra2"]; now == 0 || now == before["infra2"] {
		t.Errorf("its member was %x and is %x", before["infra2"], now)
	}
	l.GetAt("infra2", "kept", "1")
}

// newAddress: etcd-io/etcd#10002 and its like, a machine that comes back with another address while records name the old one. A
// person changes its line on every node; names stay, so the member list does too.
func newAddress(t *testing.T, l *Lab, rack []string) {
	before := l.memberIDs("infra0")
	l.Kill("infra2")
	l.elsewhere("10.0.1.99", rack)
	if after := l.memberIDs("infra0"); after["infra2"] != before["infra2"] {
		t.Errorf("its member was %x and is %x", before["infra2"], after["infra2"])
	}
	l.GetAt("infra2", "kept", "1")
}
