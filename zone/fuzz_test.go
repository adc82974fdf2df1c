package zone

import (
	"context"
	"slices"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// FuzzServeDNS feeds whatever unpacks to the handler as CoreDNS would: it never panics, and what it writes can be
// packed into the size that the asker takes.
func FuzzServeDNS(f *testing.F) {
	seed := func(change func(*dns.Msg)) {
		q := new(dns.Msg).SetQuestion(server, dns.TypeSRV)
		change(q)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	seed(func(*dns.Msg) {})
	seed(func(q *dns.Msg) { q.SetEdns0(1232, true) })
	seed(func(q *dns.Msg) { q.SetEdns0(100, true).SetEdns0(65535, false) })
	seed(func(q *dns.Msg) { q.SetQuestion(apex, dns.TypeANY) })
	seed(func(q *dns.Msg) { q.SetQuestion(apex, dns.TypeSOA) })
	seed(func(q *dns.Msg) { q.SetQuestion("nosuch."+apex, dns.TypeA).SetEdns0(512, false) })
	seed(func(q *dns.Msg) { q.SetIxfr(apex, 1, apex, apex) })
	seed(func(q *dns.Msg) { q.SetNotify(apex) })
	seed(func(q *dns.Msg) { q.SetUpdate(apex) })
	seed(func(q *dns.Msg) {
		q.SetQuestion("example.net.", dns.TypeA).SetEdns0(512, false)
		q.CheckingDisabled = true
	})
	seed(func(q *dns.Msg) {
		q.SetQuestion("version.bind.", dns.TypeTXT).SetEdns0(512, false)
		q.Question[0].Qclass = dns.ClassCHAOS
	})
	seed(func(q *dns.Msg) { q.Question = nil })
	seed(func(q *dns.Msg) { q.SetTsig("rack1.", dns.HmacSHA256, 300, 1).SetEdns0(512, false) })

	var handlers []*Handler
	for _, name := range []string{"born", "unknown", "clusters", "no_address"} {
		handlers = append(handlers, serving(load(f, name)))
	}
	handlers = append(handlers, serving(mustCompile(f, dualStack(40), Options{Aliases: true})), NewHandler(zonesOf(NewStore()), nil))
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		for _, h := range handlers {
			for _, scrub := range []bool{false, true} {
				serveFuzzed(t, h, packet, tcp, scrub)
			}
		}
	})
}

func serveFuzzed(t *testing.T, h *Handler, packet []byte, tcp, scrub bool) {
	q := new(dns.Msg)
	if q.Unpack(packet) != nil {
		return
	}
	limit := dns.MaxMsgSize
	if !tcp {
		limit = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			limit = min(max(int(opt.UDPSize()), dns.MinMsgSize), front.MaxUDPSize)
		}
	}
	w := (&wire{}).over(tcp)
	var writer dns.ResponseWriter = w
	if scrub && q.IsTsig() == nil {
		writer = request.NewScrubWriter(q, w)
	}
	code, err := h.ServeDNS(context.WithValue(t.Context(), dnsserver.LoopKey{}, 0), writer, q)
	if err != nil {
		t.Fatalf("ServeDNS(%v): %v", q, err)
	}
	if !plugin.ClientWrite(code) {
		if w.packed != nil {
			t.Fatalf("rcode %d and an answer", code)
		}
		return
	}
	if len(w.packed) == 0 || len(w.packed) > limit {
		t.Fatalf("%d octets, at most %d fit, for %v", len(w.packed), limit, q)
	}
	got := w.message(t)
	if got.Id != q.Id || !got.Response || got.Opcode != q.Opcode || len(got.Question) != 1 || got.Question[0] != q.Question[0] {
		t.Fatalf("answer\n%v\nto\n%v", got, q)
	}
	if (got.IsEdns0() != nil) != (q.IsEdns0() != nil) {
		t.Fatalf("OPT in the answer\n%v\nto\n%v", got, q)
	}
	if got.Authoritative && got.Rcode != dns.RcodeSuccess && got.Rcode != dns.RcodeNameError {
		t.Fatalf("AA with rcode %d", got.Rcode)
	}
	if got.CheckingDisabled || got.AuthenticatedData || got.RecursionAvailable || got.Zero {
		t.Fatalf("flags of\n%v", got)
	}
	opt := got.IsEdns0()
	explained := opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE })
	if opt != nil && !explained && (got.Rcode == dns.RcodeRefused || got.Rcode == dns.RcodeServerFailure) {
		t.Fatalf("no extended error in\n%v", got)
	}
}

// FuzzLookup compares Lookup with the plain reading of the zone: a name is there, or above one that is, or is not.
func FuzzLookup(f *testing.F) {
	snap := load(f, "clusters")
	for e := range snap.all() {
		name := e.name
		f.Add(name, dns.TypeSRV)
		f.Add(name, dns.TypeA)
	}
	f.Add(`a\.rack1.example.org.`, dns.TypeA)
	f.Fuzz(func(t *testing.T, qname string, qtype uint16) {
		if _, ok := dns.IsDomainName(qname); !ok {
			return
		}
		a := snap.Lookup(qname, qtype, false)
		exists := snap.entry(dns.CanonicalName(qname)) != nil
		if a.AA && exists == (a.Rcode == dns.RcodeNameError) {
			t.Fatalf("%q exists: %v; rcode %d", qname, exists, a.Rcode)
		}
		if len(a.Answer) > 0 && len(a.Ns) > 0 || a.AA && len(a.Answer) == 0 && len(a.Ns) != 1 {
			t.Fatalf("%q: %+v", qname, a)
		}
	})
}
