//go:build linux

package lab

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestLineOnSomeNodes: a node is let in whose line one node's Corefile does not have yet. That node publishes it all the same, and its member
// finds the new one.
func TestLineOnSomeNodes(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 1})
	const newcomer, behind = "infra3", "infra2"
	for _, n := range l.Names()[:3] {
		l.Start(n)
	}
	l.WaitHealthy(l.Names()[:3]...)
	server := Question{l.service("server"), dns.TypeSRV}
	w := l.Ask100(clientHost, server)
	for _, n := range l.Names() {
		if n == behind {
			continue
		}
		l.EditCorefile(n, func(s string) string {
			return strings.Replace(s, "node infra0 ", "node "+newcomer+" "+l.Addr(newcomer)+"\n        node infra0 ", 1)
		})
		if n != newcomer {
			l.Signal(n, syscall.SIGHUP)
		}
	}
	l.WaitStatus(behind, "warnings", "infra0 has another Corefile: only there: `node "+newcomer)
	l.Start(newcomer)
	l.Wait(newcomer+" at "+behind, 60*time.Second, func() error {
		if got := l.Ask(clientHost, l.Addr(behind), server.Name, dns.TypeSRV); got != l.targets("server", l.Names()...) {
			return errorf("it answers %s", got)
		}
		return nil
	})
	if got := l.Ask(clientHost, l.Addr(behind), newcomer+"."+l.Domain, dns.TypeA); got != l.Addr(newcomer) {
		t.Errorf("%s says that %s is at %s", behind, newcomer, got)
	}
	w.Stop()
	for _, s := range w.Sequence(behind, server) {
		if s.Answer == "SERVFAIL" {
			t.Errorf("%s answered SERVFAIL from %v to %v", behind, s.First, s.Last)
		}
	}
	l.Kill("infra0", "infra1") // so nothing works but with these two
	l.Start("infra0")
	l.Put("k", "1")
	l.GetAt(behind, "k", "1")
}
