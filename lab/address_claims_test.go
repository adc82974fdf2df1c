//go:build linux

package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// etcd-io/etcd#5244, two members with one address, by Corefiles that differ, so that neither shows it: infra2's alone gives infra2 the address
// of infra1, and infra1 one that nobody has. Every node says who differs and how. The others' records stay right, and no member is lost.
// infra2 itself follows its own Corefile while it runs; it does not start at an address that its machine has not.
func TestEtcd5244OneAddressByTwoCorefiles(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	before, others := l.memberIDs("infra0"), []string{"infra0", "infra1"}
	right, taken := l.corefile("infra2"), l.Addr("infra1")
	server := Question{l.service("server"), dns.TypeSRV}
	addresses := map[Question]string{}
	for _, n := range l.Names() {
		addresses[Question{n + "." + l.Domain, dns.TypeA}] = l.Addr(n)
	}
	w := l.Ask100(clientHost, append(slices.Collect(maps.Keys(addresses)), server)...)

	l.write(l.host("infra2"), "Corefile", strings.NewReplacer("infra1 "+taken, "infra1 10.0.1.99", "infra2 "+l.Addr("infra2"), "infra2 "+taken).Replace(right))
	l.hup("infra2")
	for _, n := range others {
		l.WaitStatus(n, "warnings", fmt.Sprintf("infra2 has another Corefile: only there: `node infra1 10.0.1.99`, `node infra2 %s`", taken))
		l.WaitStatus("infra2", "warnings", n+" has another Corefile: only there: `node infra1 "+taken)
	}
	for q, addr := range addresses {
		t.Logf("infra2 says that %s is at %s; it is at %s", q.Name, l.Ask(clientHost, l.Addr("infra2"), q.Name, q.Type), addr)
	}
	l.Put("while it runs", "2")
	l.Kill("infra2")
	l.Start("infra2")
	l.Wait("infra2 says what it waits for", healthyLimit, func() error {
		if log := l.Log("infra2"); !strings.Contains(log, `"waiting for addresses that are on no interface","addresses":["`+taken+`"]`) {
			return errorf("%s", tail(log, 5))
		}
		return nil
	})
	for _, n := range others {
		l.WaitStatus(n, "problems", "infra2 does not answer: ask infra2: at "+l.Addr("infra2"))
	}
	l.Put("while it waits", "3")

	l.Kill("infra2")
	l.write(l.host("infra2"), "Corefile", right)
	l.Start("infra2")
	l.WaitHealthy()
	w.Stop()
	for _, n := range others {
		unbroken(t, w, n, server, l.complete("server"))
		for q, addr := range addresses {
			unbroken(t, w, n, q, addr)
		}
	}
	for _, n := range l.Names() {
		if after := l.memberIDs(n); !maps.Equal(before, after) {
			t.Errorf("the members were %v, and %s lists %v", before, n, after)
		}
		l.GetAt(n, "while it waits", "3")
	}
	for i, s := range w.Sequence("infra2", server) {
		if s.Answer != l.complete("server") {
			t.Errorf("infra2, answer %d: %s", i, s.Answer)
		}
	}
}
