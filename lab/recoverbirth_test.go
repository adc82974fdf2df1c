//go:build linux

package lab

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A machine that is dead on arrival: the others wait, status names the command, a person gives it on one of them, and the
// rest is born. The machine joins when it works.
func TestDeadOnArrival(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	l.Start("infra0")
	l.Start("infra1")
	l.WaitStatus("infra0", "waiting", "infra2")
	l.WaitStatus("infra1", "waiting", "infra2")
	l.WaitStatus("infra0", "plan.hint", "etcd-dns recover birth --without infra2")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--without", "infra1"}, "answers"},
		{[]string{"--without", "infra1", "--without", "infra2"}, "answers"},
		{[]string{"--without", "nobody"}, "infra2"},
		{[]string{"--finish", "no-such-id", "--without", "infra2"}, "no node that answers accepted"},
		{[]string{"--abandon", "no-such-id"}, "no node that answers accepted"},
	} {
		if r := l.Tool("infra0", append([]string{"recover", "birth"}, c.args...)...); r.Code != 1 || !strings.Contains(r.Stderr, c.says) || !strings.Contains(r.Stderr, "hint:") {
			t.Errorf("%v: %v, want a refusal that says %q", c.args, r, c.says)
		}
	}
	l.Holds("nobody is born", quiet, l.NoMembers)
	if r := l.Tool("infra1", "recover", "birth", "--without", "infra2"); r.Code != 0 || !strings.Contains(r.Stderr, "infra0, infra1") {
		t.Fatal(r)
	}
	l.voters("infra0", "infra1")
	l.Put("before it came", "1")
	if r := l.Tool("infra0", "recover", "birth", "--without", "infra2"); r.Code != 1 || !strings.Contains(r.Stderr, "member remove") {
		t.Errorf("after the birth: %v", r)
	}
	l.Start("infra2")
	l.voters(l.Names()...)
	l.WaitHealthy()
	l.OneCluster()
	l.GetAt("infra2", "before it came", "1")
}

// A cluster that comes into the Corefile after the bundle's permission for birth has ended waits, status names the command, and
// once a person has given it on one of its nodes, it is born.
func TestClusterAddedLate(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Nodes: 1, Later: 2, Clocks: true})
	l.Start("infra0")
	l.WaitHealthy("infra0")
	block := fmt.Sprintf("cluster foo {\n            node infra1 %s\n            node infra2 %s\n        }\n        ", l.Addr("infra1"), l.Addr("infra2"))
	for _, n := range l.Names() {
		l.SetClock(n, 8*24*time.Hour)
		l.EditCorefile(n, func(text string) string { return strings.Replace(text, "node infra0 ", block+"node infra0 ", 1) })
	}
	l.Signal("infra0", syscall.SIGHUP)
	late := []string{"infra1", "infra2"}
	for _, n := range late {
		l.Start(n)
	}
	for _, n := range late {
		l.WaitStatus(n, "waiting", "permission for birth ended")
		l.WaitStatus(n, "plan.hint", "etcd-dns recover birth --new")
	}
	l.Holds("nobody of foo is born", quiet, func() error { return errors.Join(l.NoMember("infra1"), l.NoMember("infra2")) })
	if got := l.Ask(clientHost, l.Addr("infra0"), l.srv("_etcd-server-ssl-foo"), dns.TypeSRV); got != "NXDOMAIN" && got != "SERVFAIL" {
		t.Errorf("before its birth infra0 says %s", got)
	}
	if r := l.Tool("infra2", "recover", "birth", "--new"); r.Code != 0 || !strings.Contains(r.Stderr, "infra1, infra2") {
		t.Fatal(r)
	}
	l.WaitHealthy()
	l.everyoneSays("all publish foo", l.Names(), map[string]string{
		"_etcd-server-ssl-foo": fmt.Sprintf("0 0 2380 infra1.%s., 0 0 2380 infra2.%s.", l.Domain, l.Domain),
	})
	if r := l.Tool("infra1", "recover", "birth", "--new"); r.Code != 1 || !strings.Contains(r.Stderr, "born") {
		t.Errorf("after its birth: %v", r)
	}
}
