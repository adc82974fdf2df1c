//go:build linux

package lab

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// denied is for how many seconds a resolver may deny a name that example.com did not have (RFC 2308 §5).
const denied = "5"

// lateName: etcd-io/etcd#15062, a name that does not resolve yet. All nodes have their addresses from the network, so that they find each other by
// the name of the domain alone: its name servers are two of them. The parent does not delegate it yet; the resolver has heard that there is
// no such name, and goes on saying so for a while after the parent has been told.
func lateName(t *testing.T, l *Lab) func() {
	servers := fmt.Sprintf("etcdsrv {\n        ns ns1 %s\n        ns ns2 %s", l.Addr("infra0"), l.Addr("infra1"))
	for _, n := range l.Names() {
		l.EditCorefile(n, func(s string) string {
			return strings.Replace(fromTheNetwork(l.Names()...)(n, s), "etcdsrv {", servers, 1)
		})
	}
	first := l.node("infra0")
	delegation := l.Must(clientHost, l.bin(), "delegation", "--offline", "-o", "zone", "--corefile", filepath.Join(first.dir, "Corefile"), "--name", first.name)
	l.serial++
	empty := l.example(l.serial)
	short := strings.Replace(empty, "604800 60", "604800 "+denied, 1)
	if short == empty {
		t.Fatalf("no minimum to change:\n%s", empty)
	}
	l.write(l.host(parentHost), "example.com.zone", short)
	l.reloadParent()
	l.Flush()
	return func() {
		for _, n := range l.Names() {
			if asked := l.Addr(n) + " " + l.Domain + ". NS IN"; !strings.Contains(l.ResolverLog(), asked) {
				t.Errorf("%s never asked the resolver for the domain: no line has %q", n, asked)
			}
		}
		l.writeDelegation(delegation)
		l.Flush()
		l.wantName(t, resolverHost, "NXDOMAIN")
		l.reloadParent()
		told := time.Now()
		l.wantName(t, resolverHost, "NXDOMAIN") // from its cache
		l.wantName(t, parentHost, "NODATA")     // a referral
		l.Wait("the resolver finds the rack", healthyLimit, func() error {
			if got := l.Ask(clientHost, l.Addr(resolverHost), l.Domain, dns.TypeNS); !strings.Contains(got, "ns1") {
				return errors.New(got)
			}
			return nil
		})
		t.Logf("the resolver finds the rack %v after the parent was told", time.Since(told).Round(10*time.Millisecond))
	}
}

// wantName wants an answer about the domain itself.
func (l *Lab) wantName(t *testing.T, at, want string) {
	t.Helper()
	if got := l.Ask(clientHost, l.Addr(at), l.Domain, dns.TypeNS); got != want {
		t.Errorf("%s says %s of %s, want %s", at, got, l.Domain, want)
	}
}
