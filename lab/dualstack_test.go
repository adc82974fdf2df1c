//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The reverse zones of the dual-stack rack: 10.0.1.0/24 and fd00::10:0:1:0/112.
const (
	reverse4 = "1.0.10.in-addr.arpa"
	reverse6 = "1.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
)

// A rack whose nodes have both families, with its reverse zones and with secondaries of one family each. infra1 has a second
// IPv6 address, and infra2 binds the wildcard.
func TestDualStack(t *testing.T) {
	t.Parallel()
	second := addr6(netip.MustParseAddr("10.0.1.111")).String()
	s := bootSecondaries(t, Options{IPv6: true, Edit: func(node, corefile string) string {
		if node == "infra2" {
			corefile = withWildcard(corefile)
		}
		corefile = strings.Replace(corefile, "rack1.example.com {", "rack1.example.com 10.0.1.0/24 fd00::10:0:1:0/112 {", 1)
		return strings.Replace(corefile, "fd00::10:0:1:11\n", "fd00::10:0:1:11 "+second+"\n", 1)
	}}, knotHost, bindHost)
	s.zones = append(s.zones, reverse4, reverse6)
	s.addAddress("infra1", second)
	s.StartAll()
	s.WaitHealthy()
	t.Run("Glue", func(t *testing.T) { s.glue(t) })
	t.Run("Checks", func(t *testing.T) { s.checks(t, second+" of node infra1 is not published") })
	t.Run("OnePerFamily", func(t *testing.T) { s.onePerFamily(t) })
	t.Run("FastPath", func(t *testing.T) {
		for _, n := range s.names {
			for _, addr := range s.Addrs(n) {
				bound := net.JoinHostPort(addr, "53")
				if n == "infra2" {
					bound = "[::]:53"
				}
				s.answersAt(t, door{s.host(clientHost).ns, n, addr, bound})
			}
		}
	})
	t.Run("Reverse", func(t *testing.T) { s.reverse(t, second) })
	t.Run("Secondaries", func(t *testing.T) { s.followAll(t) })
	t.Run("FamilyCut", func(t *testing.T) {
		for _, family := range []string{ipv4, ipv6} {
			s.withoutFamily(t, family)
		}
	})
	s.booted(t)
}

// onePerFamily: each SRV target has one A and one AAAA record, those that its node line names first, and they come along.
func (s *secondaries) onePerFamily(t *testing.T) {
	var want []string
	for _, n := range s.names {
		want = append(want, "A "+s.Addrs(n)[0], "AAAA "+s.Addrs(n)[1])
	}
	slices.Sort(want)
	for _, n := range s.names {
		m, err := s.Query(clientHost, s.Addr(n), s.service("server"), dns.TypeSRV)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rr := range m.Extra {
			switch rr := rr.(type) {
			case *dns.A:
				got = append(got, "A "+rr.A.String())
			case *dns.AAAA:
				got = append(got, "AAAA "+rr.AAAA.String())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || Answer(m) != s.complete("server") {
			t.Errorf("the targets' addresses at %s are %v, want %v, in\n%v", n, got, want, m)
		}
	}
}

// reverse: every node answers PTR for each node's published addresses and denies the others, with one serial a zone.
func (s *secondaries) reverse(t *testing.T, unpublished string) {
	serials := map[string]bool{}
	for _, asked := range s.names {
		for _, at := range s.Addrs(asked) {
			for _, n := range s.names {
				for _, a := range s.Addrs(n) {
					s.pointer(t, at, a, n+"."+s.Domain+".")
				}
			}
			s.pointer(t, at, unpublished, "NXDOMAIN")
			for _, zone := range []string{reverse4, reverse6} {
				serials[zone+" "+s.Ask(clientHost, at, zone, dns.TypeSOA)] = true
			}
		}
	}
	if len(serials) != 2 {
		t.Errorf("the nodes do not serve each reverse zone with one SOA: %v", serials)
	}
}

func (l *Lab) pointer(t *testing.T, server, addr, want string) {
	t.Helper()
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Ask(clientHost, server, name, dns.TypePTR); got != want {
		t.Errorf("%s PTR at %s is %s, want %s", name, server, got, want)
	}
}

// followAll: the secondaries of either family get all three zones, follow a change of them as soon as TestSecondaries wants
// it, and hold what each node hands out.
func (s *secondaries) followAll(t *testing.T) {
	s.startSecondaries()
	before := map[string]uint32{}
	watchers := map[string]*serials{}
	for _, zone := range s.zones {
		watchers[zone] = s.watchSerials(zone, s.hosts()...)
		defer watchers[zone].stop()
		s.settled(watchers[zone], "the first transfer of "+zone, 0)
		s.equal(t, zone)
	}
	for zone, w := range watchers {
		before[zone] = s.quiet(w)
	}
	s.reload("email ops@example.com")
	for zone, w := range watchers {
		s.pickUp(t, w, zone, before[zone])
	}
	for zone, w := range watchers {
		s.quiet(w)
		s.equal(t, zone)
		s.incremental(t, zone)
	}
	s.told(t)
	s.notified(t)
}

// withoutFamily: without one family every node answers DNS over the other all the time, resolvers and etcd's clients find their
// way, and the cluster is healthy again before long.
func (s *secondaries) withoutFamily(t *testing.T, family string) {
	other := map[string]string{ipv4: ipv6, ipv6: ipv4}[family]
	// A client whose first resolver is gone waits for it in any case.
	if err := s.host(clientHost).etc("resolv.conf", "nameserver "+s.host(resolverHost).in(other).String()+"\n"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s.CutFamily(family)
	defer s.HealFamily(family)
	if got := s.Ask(clientHost, s.host("infra0").in(family).String(), s.Domain, dns.TypeNS); !strings.HasPrefix(got, "no answer") {
		t.Errorf("without %s infra0 answers at its address of that family: %s", family, got)
	}
	s.Holds("answers over the other family", 3*time.Second, func() error {
		for _, n := range s.names {
			if got := s.Ask(clientHost, s.host(n).in(other).String(), s.service("server"), dns.TypeSRV); got != s.complete("server") {
				return fmt.Errorf("%s: %s", n, got)
			}
		}
		return nil
	})
	s.WaitHealthy()
	t.Logf("without %s: healthy after %v", family, time.Since(start).Round(100*time.Millisecond))
	s.Flush()
	s.Wait("an answer of the resolver", 30*time.Second, func() error {
		if got := s.Ask(clientHost, s.host(resolverHost).in(other).String(), s.service("client"), dns.TypeSRV); got != s.complete("client") {
			return errors.New(got)
		}
		return nil
	})
	t.Logf("without %s: through the resolver after %v", family, time.Since(start).Round(100*time.Millisecond))
	s.Put("without"+family, "x")
	t.Logf("without %s: a write through SRV after %v", family, time.Since(start).Round(100*time.Millisecond))
	s.HealFamily(family)
	s.WaitHealthy()
}
