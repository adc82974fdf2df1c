package zone

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
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

// FuzzRecordFile feeds what may be in the file of the zone's serial: what is read has a counter that serials can hold.
func FuzzRecordFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"serial":1795638594,"digest":"d","reserved":28056853}`))
	f.Add([]byte(`{"format":1,"reserved":67108864}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte("null"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		file := recordFile{path: filepath.Join(t.TempDir(), "serial"), write: func(path string, content []byte) error { return os.WriteFile(path, content, 0o600) }}
		if err := os.WriteFile(file.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := file.load()
		if err != nil {
			return
		}
		if r.Reserved > counterMask {
			t.Fatalf("%+v of %q", r, content)
		}
		if err := file.save(r); err != nil {
			t.Fatal(err)
		}
		if again, err := file.load(); err != nil || again != r {
			t.Errorf("%+v of %q becomes %+v: %v", r, content, again, err)
		}
	})
}

// FuzzViews feeds what another node may say of a cluster, or what is on the disk: the roster is refused or compiled, and what
// is served of the cluster is the whole list or SERVFAIL.
func FuzzViews(f *testing.F) {
	f.Add([]byte(`[{"Cluster":"","Knowledge":2,"Generation":1,"Index":9,"Members":[{"Node":"infra0","PeerHost":"infra0","PeerPort":2380,"ClientPort":2379}]}]`))
	f.Add([]byte(`[{"Knowledge":2,"Members":[{"Node":"infra9","PeerHost":"x","PeerPort":1},{"Node":"infra9"}]}]`))
	f.Add([]byte(`[{"Knowledge":7,"Members":null},{"Knowledge":-1},{"Knowledge":1}]`))
	f.Add([]byte(`[{"Knowledge":2,"Members":[{"Node":"","PeerHost":""},{"Node":"a.b","PeerHost":"\u0000"}]}]`))
	f.Add([]byte(`[{"Knowledge":2}]`))
	r := roster.Roster{Domain: "rack1.example.org.", Clusters: []roster.Cluster{{}}}
	for i, name := range []string{"infra0", "infra1", "infra2"} {
		r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: i, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)})}})
		r.NameServers = append(r.NameServers, roster.NameServer{Name: name + ".rack1.example.org."})
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var views []roster.View
		if json.Unmarshal(text, &views) != nil {
			return
		}
		merged := roster.Merge(r, views...)
		s, err := Compile(merged, Options{}, testSerial)
		if err != nil {
			return
		}
		c, _ := merged.Cluster("")
		if c.Knowledge.String() == "" {
			t.Errorf("knowledge %d has no word", c.Knowledge)
		}
		for _, name := range []string{"_etcd-server-ssl._tcp.rack1.example.org.", "_etcd-client-ssl._tcp.rack1.example.org."} {
			a := s.Lookup(name, dns.TypeSRV, false)
			switch {
			case a.Rcode == dns.RcodeSuccess && c.Knowledge == roster.Born && len(a.Answer) > 0 && (strings.Contains(name, "client") || len(a.Answer) == len(c.Members)):
			case a.Rcode == dns.RcodeNameError && c.Knowledge == roster.Unborn:
			case a.Rcode == dns.RcodeServerFailure:
			default:
				t.Errorf("%s, %s: %+v of %s", name, c.Knowledge, a, text)
			}
		}
	})
}
