//go:build linux

package lab

import (
	"strings"
	"testing"
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
