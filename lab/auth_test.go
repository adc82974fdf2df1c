//go:build linux

package lab

import (
	"testing"

	"github.com/miekg/dns"
)

// A cluster with authentication refuses everybody without a user, the nodes among them. Its members count as serving all the same, and the
// nodes look after the membership as ever: a removal, an addition, and a lost disk.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	for _, args := range [][]string{{"user", "add", "root:secret"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"}} {
		l.Wait("etcdctl "+args[0]+" "+args[1], healthyLimit, func() error { return l.Etcdctl(args...).Err() })
	}
	if r := l.Etcdctl("get", "kept"); r.Code == 0 {
		t.Fatalf("a client without a user reads: %v", r)
	}
	all := l.complete("client")
	serving := func() error { return l.allSay(l.Names(), Question{l.service("client"), dns.TypeSRV}, all) }
	l.Holds("every member serves clients", 2*quiet, serving)
	l.WaitHealthy()

	l.order("remove", "infra2")
	l.Wait("infra2 is out", healthyLimit, func() error {
		return l.allSay(l.Names(), Question{l.service("server"), dns.TypeSRV}, l.targets("server", "infra0", "infra1"))
	})
	l.order("add", "infra2")
	l.voters(l.Names()...)
	l.WaitHealthy()

	before := l.memberIDs("infra0")["infra2"]
	l.Kill("infra2")
	l.Wipe("infra2")
	l.Start("infra2")
	l.voters(l.Names()...)
	l.WaitHealthy()
	if now := l.memberIDs("infra0")["infra2"]; now == before {
		t.Errorf("infra2 is member %x, whose data it lost", now)
	}
	l.Wait("every member is in the client records", healthyLimit, serving)
	l.Wait("infra2 has the data", healthyLimit, func() error {
		return isValue(l.At("infra2", "--user", "root:secret", "get", "kept", "--print-value-only"), "1")
	})
}
