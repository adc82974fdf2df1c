package front

import (
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// engineQueries are the queries whose cost counts.
func engineQueries(t testing.TB) map[string][]byte {
	const srv = "_etcd-server._tcp.example.org."
	const learned = "2464c4abcf10c957010000005cf79f111f8130c3eee29480"
	return map[string][]byte{
		"plain":     query1(t, srv, dns.TypeSRV, nil),
		"EDNS":      query1(t, srv, dns.TypeSRV, withOPT(1232, false)),
		"EDNS+DO":   query1(t, srv, dns.TypeSRV, withOPT(1232, true)),
		"COOKIE+DO": query1(t, srv, dns.TypeSRV, withOPT(1232, true, cookieOption(learned))),
		"NXDOMAIN":  query1(t, "no.such.example.org.", dns.TypeA, nil),
	}
}

func TestEngineDoesNotAllocate(t *testing.T) {
	queries := engineQueries(t)
	queries["client cookie and NSID"] = query1(t, "n0.example.org.", dns.TypeA,
		withOPT(1232, true, cookieOption(testClientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
	queries["malformed cookie"] = query1(t, "n0.example.org.", dns.TypeA, withOPT(1232, true, cookieOption("11")))
	queries["miss"] = query1(t, "example.com.", dns.TypeA, nil)
	queries["empty"] = nil
	for name, packet := range queries {
		for _, rate := range []int{0, 10, maxRate} {
			for _, tcp := range []bool{false, true} {
				e := newTestEngine(t)
				e.shared.SetSettings(Settings{NSID: []byte("x"), RatePerSecond: rate})
				out := make([]byte, dns.MaxMsgSize)
				if n := testing.AllocsPerRun(100, func() {
					e.handle(packet, testClient, tcp, out)
					e.handle(packet, testClient6, tcp, out)
				}); n != 0 {
					t.Errorf("%s, rate %d, tcp %v: %v allocations, want 0", name, rate, tcp, n)
				}
			}
		}
	}
}

func BenchmarkEngine(b *testing.B) {
	for _, name := range []string{"plain", "EDNS", "EDNS+DO", "COOKIE+DO", "NXDOMAIN"} {
		packet := engineQueries(b)[name]
		for _, limited := range []bool{false, true} {
			label, set := name, Settings{NSID: []byte("infra0")}
			if limited {
				label, set.RatePerSecond = name+"+limit", maxRate
			}
			b.Run(label, func(b *testing.B) {
				e := newTestEngine(b)
				e.shared.SetSettings(set)
				out := make([]byte, MaxUDPSize)
				b.ReportAllocs()
				for b.Loop() {
					e.handle(packet, testClient, false, out)
				}
			})
		}
	}
}
