package zone

import (
	"testing"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

func BenchmarkLookup(b *testing.B) {
	s := mustCompile(b, dualStack(3), Options{})
	for _, name := range []string{server, "nosuch." + apex} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Lookup(name, dns.TypeSRV, false)
			}
		})
	}
}

func BenchmarkServeDNS(b *testing.B) {
	for _, members := range []int{3, 7} {
		for _, edns := range []bool{false, true} {
			b.Run(map[int]string{3: "three", 7: "seven"}[members]+map[bool]string{true: "/edns"}[edns], func(b *testing.B) {
				h := serving(mustCompile(b, dualStack(members), Options{}))
				w := &wire{}
				b.ReportAllocs()
				for b.Loop() {
					q := new(dns.Msg).SetQuestion(server, dns.TypeSRV)
					if edns {
						q.SetEdns0(1232, false)
					}
					if _, err := h.ServeDNS(b.Context(), request.NewScrubWriter(q, w), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	r := dualStack(64)
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, r, Options{})
	}
}
