//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// newSized is a rack whose Corefile says how many of its nodes are to be members.
func newSized(t *testing.T, size, nodes int) *Lab {
	t.Helper()
	return New(t, Options{Nodes: nodes, Edit: func(_, text string) string {
		return strings.Replace(text, "etcdsrv {", fmt.Sprintf("etcdsrv {\n        size %d of %d", size, nodes), 1)
	}})
}

// spares waits until these nodes say that they are spares and well, with no member and the zone of the others.
func (l *Lab) spares(members []string, names ...string) {
	l.t.Helper()
	for _, n := range names {
		l.WaitStatus(n, "plan.spare", "true")
		l.WaitStatus(n, "waiting", fmt.Sprintf("the cluster has its %d members; this node is a spare", len(members)))
		l.Wait(n+" serves the zone", healthyLimit, func() error {
			if got, want := l.Ask(clientHost, l.Addr(n), l.service("server"), dns.TypeSRV), l.targets("server", members...); got != want {
				return errorf("%s, want %s", got, want)
			}
			return l.NoMember(n)
		})
	}
	l.WaitHealthy(append(slices.Clone(names), members...)...)
}

// Three of four: the fourth machine never started, and the others are born without it, whole at once. When it comes it is a spare:
// all is well there, checks pass, and it takes the place of a member that a person removes.
func TestSizeWithoutOne(t *testing.T) {
	t.Parallel()
	l := newSized(t, 3, 4)
	server := Question{l.service("server"), dns.TypeSRV}
	first := l.Names()[:3]
	w := l.Ask100(clientHost, server)
	for _, n := range first {
		l.Start(n)
	}
	l.voters(first...)
	w.Stop()
	for _, n := range first {
		if err := firstAnswers(w.Sequence(n, server), l.targets("server", first...)); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		if slices.ContainsFunc(w.Sequence(n, server), func(s Seen) bool { return s.Answer == "NXDOMAIN" }) {
			t.Errorf("%s denied that there is a cluster, and infra3 had not said so:\n%s", n, story(w.Sequence(n, server)))
		}
	}
	l.Put("before it came", "1")
	if got := l.StatusText("infra0", "size"); got != "3 of 4" {
		t.Errorf("the size is %q", got)
	}
	l.Start("infra3")
	l.spares(first, "infra3")
	for _, args := range [][]string{{"status"}, {"check"}} {
		if r := l.Tool("infra3", args...); r.Code != 0 || !strings.Contains(r.Stdout, "this node is a spare") {
			t.Errorf("%s on the spare: %v", args[0], r)
		}
	}
	if r := l.Tool("infra1", "member", "list"); r.Code != 0 || !strings.Contains(r.Stdout, "infra3: the cluster has its 3 members; this node is a spare") {
		t.Errorf("the list does not say why infra3 has no member: %v", r)
	}
	// A member that is down keeps its place.
	l.Kill("infra1")
	l.Holds("the spare waits", 2*quiet, func() error { return l.NoMember("infra3") })
	l.Start("infra1")
	l.WaitHealthy()
	// etcd refuses while its members have been connected for less than five seconds.
	l.Wait("the removal", healthyLimit, func() error { return l.Tool("infra3", "member", "remove", "infra1").Err() })
	l.voters("infra0", "infra2", "infra3")
	l.GetAt("infra3", "before it came", "1")
	l.WaitStatus("infra1", "phase", "removed")
	l.Holds("infra1 stays out", quiet, func() error { return l.NoMember("infra1") })
	if r := l.Tool("infra1", "member", "add", "infra1"); r.Code != 0 { // by a word, beyond the size
		t.Fatal(r)
	}
	l.voters(l.Names()...)
	l.WaitHealthy()
	l.OneCluster()
}

// Three of five in two parts: neither may be the only one that is born, also not the one with three. Together they are, with the
// first three, and two spares.
func TestSizeSplit(t *testing.T) {
	t.Parallel()
	l := newSized(t, 3, 5)
	server := Question{l.service("server"), dns.TypeSRV}
	one, other := l.Names()[:3], l.Names()[3:]
	part := func(change func(a, b string)) {
		for _, a := range one {
			for _, b := range other {
				change(a, b)
			}
		}
	}
	part(l.Cut)
	w := l.Ask100(clientHost, server)
	l.StartAll()
	l.WaitStatus("infra0", "waiting", "birth needs an answer of every node; waiting for infra3")
	l.WaitStatus("infra3", "waiting", "birth needs an answer of every node; waiting for infra0")
	l.Holds("neither part is born", 15*time.Second, l.NoMembers) // longer than silence is waited for
	for _, n := range l.Names() {
		for _, s := range w.Sequence(n, server) {
			if s.Answer != "SERVFAIL" {
				t.Errorf("%s answers %s before it heard of all", n, s.Answer)
			}
		}
	}
	part(l.Heal)
	l.voters(one...)
	l.spares(one, other...)
	w.Stop()
	for _, n := range l.Names() {
		if err := firstAnswers(w.Sequence(n, server), l.targets("server", one...)); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	l.Put("a", "b")
	l.Get("a", "b")
}
