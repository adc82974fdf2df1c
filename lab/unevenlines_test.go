//go:build linux

package lab

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestLineOnSomeNodes: a node is let in whose line one node's Corefile does not have yet. That node publishes it all the same, also when the
// line changes, and its member finds the new one.
func TestLineOnSomeNodes(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 1})
	const newcomer, behind = "infra3", "infra2"
	first, second := l.peerAddr(newcomer), strings.Replace(l.peerAddr(newcomer), "10.9.", "10.8.", 1)
	l.addAddress(newcomer, first)
	l.addAddress(newcomer, second)
	for _, n := range l.Names()[:3] {
		l.Start(n)
	}
	l.WaitHealthy(l.Names()[:3]...)
	l.order("drain", behind) // the leader's node lets in whom its own Corefile names
	server := Question{l.service("server"), dns.TypeSRV}
	w := l.Ask100(clientHost, server)
	for _, n := range l.Names() {
		if n == behind {
			continue
		}
		l.EditCorefile(n, func(s string) string {
			return strings.Replace(s, "node infra0 ", "node "+newcomer+" "+l.Addr(newcomer)+" peer "+first+"\n        node infra0 ", 1)
		})
		if n != newcomer {
			l.Signal(n, syscall.SIGHUP)
		}
	}
	l.WaitStatus(behind, "warnings", "infra0 has another Corefile: only there: `node "+newcomer)
	l.Start(newcomer)
	targets := strings.ReplaceAll(l.targets("server", l.Names()...), newcomer+".", newcomer+"-peer.")
	l.Wait(newcomer+" at "+behind, 60*time.Second, func() error {
		if got := l.Ask(clientHost, l.Addr(behind), server.Name, dns.TypeSRV); got != targets {
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
	for _, n := range []string{"infra0", "infra1", newcomer} {
		l.EditCorefile(n, func(s string) string { return strings.Replace(s, " peer "+first, " peer "+second, 1) })
		l.Signal(n, syscall.SIGHUP)
	}
	l.Stop(newcomer)
	l.Start(newcomer)
	l.published(newcomer+"-peer", second)
	l.WaitHealthy(l.Names()...)
	l.Kill("infra0", "infra1") // so nothing works but with these two
	l.Start("infra0")
	l.Put("k", "1")
	l.GetAt(behind, "k", "1")
	l.Kill("infra0", newcomer)
	l.Stop(behind) // alone it goes by what it remembers
	l.Start(behind)
	l.Wait(newcomer+" at "+behind+" alone", 10*time.Second, func() error {
		if got := l.Ask(clientHost, l.Addr(behind), newcomer+"-peer."+l.Domain, dns.TypeA); got != second {
			return errorf("it answers %s", got)
		}
		return nil
	})
}
