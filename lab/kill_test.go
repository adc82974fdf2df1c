//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// boot starts a rack and waits until all is well.
func boot(t testing.TB, o Options) *Lab {
	t.Helper()
	l := New(t, o)
	l.StartAll()
	l.WaitHealthy()
	return l
}

// TestDeaths kills what can die in a rack that runs, the lesser things first.
func TestDeaths(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("before", "1")
	born := l.OneCluster()
	t.Run("Member", func(t *testing.T) { killMember(t, l) })
	t.Run("Hang", func(t *testing.T) { hangMember(t, l) })
	t.Run("Node", func(t *testing.T) { killNode(t, l) })
	t.Run("Etcd5180Power", func(t *testing.T) { powerCycle(t, l) })
	t.Run("Etcd15062NoResolver", func(t *testing.T) { noResolver(t, l) })
	if now := l.OneCluster(); now != born {
		t.Errorf("the cluster is %s now and was %s", now, born)
	}
}

// killMember: every DNS query in the meantime is answered with the complete set, and the member comes back by itself.
func killMember(t *testing.T, l *Lab) {
	server := Question{l.service("server"), dns.TypeSRV}
	node := Question{"infra0." + l.Domain, dns.TypeA}
	w := l.Ask100(clientHost, server, node)
	parent, pid := l.PID("infra0"), l.KillMember("infra0")
	l.Wait("another member runs on infra0", 30*time.Second, func() error {
		if now := l.MemberPID("infra0"); now == 0 || now == pid {
			return fmt.Errorf("its process is %d", now)
		}
		return nil
	})
	l.WaitHealthy()
	w.Stop()
	if l.PID("infra0") != parent {
		t.Error("the node's own process was replaced")
	}
	for _, n := range l.Names() {
		unbroken(t, w, n, server, l.complete("server"))
		unbroken(t, w, n, node, l.Addr("infra0"))
	}
	l.GetAt("infra0", "before", "1")
}

// hangMember: a member that is stopped, not dead, leaves the client set of every node and is named by its own.
func hangMember(t *testing.T, l *Lab) {
	client := l.service("client")
	pid := l.MemberPID("infra1")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for _, n := range l.Names() {
		l.Wait(n+" publishes the other two", 20*time.Second, func() error {
			if got := l.Ask(clientHost, l.Addr(n), client, dns.TypeSRV); strings.Contains(got, "infra1") || !strings.Contains(got, "infra0") || !strings.Contains(got, "infra2") {
				return fmt.Errorf("it answers %s", got)
			}
			return nil
		})
	}
	if r := l.Tool("infra1", "status"); r.Code != 1 || !strings.Contains(r.Stdout, fmt.Sprintf("hangs, it has said nothing for two seconds; to have it started again: kill -9 %d", pid)) {
		t.Errorf("status of infra1: %v", r)
	}
	if r := l.Tool("infra0", "status"); r.Code != 1 {
		t.Errorf("status of infra0 says that all is well: %v", r)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.Wait(n+" publishes all", 20*time.Second, func() error {
			if got := l.Ask(clientHost, l.Addr(n), client, dns.TypeSRV); got != l.complete("client") {
				return fmt.Errorf("it answers %s", got)
			}
			return nil
		})
	}
}

// unbroken checks that a node gave one answer to a question all the time and never fell silent.
func unbroken(t *testing.T, w *Watcher, node string, q Question, want string) {
	t.Helper()
	seq := w.Sequence(node, q)
	if silent := w.Silent(node, q); silent > 0 || len(seq) != 1 || seq[0].Answer != want {
		t.Errorf("%s, asked for %s: %d questions without an answer, want none, and always %s:\n%s", node, q.Name, silent, want, story(seq))
	}
	if len(seq) == 1 && seq[0].Count < 10 { // a node may be back within half a second, which is fifty questions
		t.Errorf("%s was asked for %s only %d times", node, q.Name, seq[0].Count)
	}
}

// killNode: a machine that lost power rejoins with its data, and the others serve on.
func killNode(t *testing.T, l *Lab) {
	server := Question{l.service("server"), dns.TypeSRV}
	w := l.Ask100(clientHost, server)
	l.Kill("infra1")
	l.Put("while", "down")
	l.Start("infra1")
	l.WaitHealthy()
	w.Stop()
	l.GetAt("infra1", "before", "1")
	l.GetAt("infra1", "while", "down")
	for _, n := range []string{"infra0", "infra2"} {
		unbroken(t, w, n, server, l.complete("server"))
	}
	// The node that was dead was silent, but never said anything else.
	if seq := w.Sequence("infra1", server); len(seq) != 1 || seq[0].Answer != l.complete("server") {
		t.Errorf("infra1 said something else than the complete set:\n%s", story(seq))
	}
}

// powerCycle: all nodes lose power at once, and come back one after the other.
func powerCycle(t *testing.T, l *Lab) {
	server := Question{l.service("server"), dns.TypeSRV}
	l.Put("last", "words")
	w := l.Ask100(clientHost, server)
	l.KillAll()
	for _, n := range l.Names() {
		l.Start(n)
		l.waitNodes(n)
	}
	l.WaitHealthy()
	w.Stop()
	l.Get("last", "words")
	for _, n := range l.Names() {
		if seq := w.Sequence(n, server); len(seq) != 1 || seq[0].Answer != l.complete("server") {
			t.Errorf("%s said something else than the complete set:\n%s", n, story(seq))
		}
		l.GetAt(n, "last", "words")
	}
}

// noResolver: resolver and parent are gone while the power fails. Members of stock etcd look each other up at every connection, for
// half a minute at a time (etcd-io/etcd#15062, #7798, #11197); here they need nobody.
func noResolver(t *testing.T, l *Lab) {
	for _, h := range []string{resolverHost, parentHost} {
		l.CutNode(h)
		defer l.HealNode(h)
	}
	l.KillAll()
	began := time.Now()
	l.StartAll()
	l.WaitHealthy()
	t.Logf("all is well %v after the power came back", time.Since(began).Round(10*time.Millisecond))
	pid := l.KillMember("infra1")
	l.Wait("another member runs on infra1", 30*time.Second, func() error {
		if now := l.MemberPID("infra1"); now == 0 || now == pid {
			return fmt.Errorf("its process is %d", now)
		}
		return nil
	})
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.GetAt(n, "last", "words")
	}
}

// The leader's node stops in time, and in order, while the machine hangs that it would hand its leadership to: etcd by itself
// waits for that for longer than a service may take to stop.
func TestStopBesideHungNode(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	leader := l.StatusText("infra0", "leader")
	rest := slices.DeleteFunc(l.Names(), func(n string) bool { return n == leader })
	// etcd hands over to the member that it has been connected to for longest.
	l.KillMember(rest[1])
	l.WaitHealthy()
	for _, pid := range l.pids(rest[0]) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	l.Stop(leader)
}

// From the first boot on, each node asked 100 times a second says SERVFAIL, then NXDOMAIN or nothing, then the
// complete set for ever, for servers and clients alike.
func TestEtcd12434FirstAnswers(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	server, client := Question{l.service("server"), dns.TypeSRV}, Question{l.service("client"), dns.TypeSRV}
	w := l.Ask100(clientHost, server, client)
	for _, n := range []string{"infra2", "infra0", "infra1"} {
		l.Start(n)
		l.waitNodes(n)
	}
	l.WaitHealthy()
	l.Put("a", "b")
	w.Stop()
	for _, n := range l.Names() {
		if err := firstAnswers(w.Sequence(n, server), l.complete("server")); err != nil {
			t.Errorf("%s, %s: %v", n, server.Name, err)
		}
		if err := firstClients(w.Sequence(n, client), l.complete("client")); err != nil {
			t.Errorf("%s, %s: %v", n, client.Name, err)
		}
	}
}
