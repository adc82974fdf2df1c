package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// dualStack is a born rack of n dual-stack nodes.
func dualStack(n int) roster.Roster {
	r := roster.Roster{Domain: apex, Clusters: []roster.Cluster{{Knowledge: roster.Born}}}
	for i := range n {
		name := fmt.Sprintf("node%02d", i)
		r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: i, Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))}})
		r.Clusters[0].Members = append(r.Clusters[0].Members,
			roster.Member{Node: name, PeerHost: name, PeerPort: 2380, ClientPort: 2379, Serving: true})
		if i < 5 {
			r.NameServers = append(r.NameServers, roster.NameServer{Name: name + "." + apex})
		}
	}
	return r
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		members int
		size    uint16 // 0: no EDNS
		tcp     bool
		// whole says that every address came along, tc that the answer did not fit.
		whole, tc bool
		opt       uint16
	}{
		{members: 3, whole: true},
		{members: 7},
		{members: 9},
		{members: 7, size: 512, opt: 512},
		{members: 7, size: 1, opt: 512},
		{members: 7, size: 4096, whole: true, opt: 1232},
		{members: 9, size: 65535, whole: true, opt: 1232},
		{members: 30, tc: true},
		{members: 25, size: 4096, opt: 1232},
		{members: 64, size: 4096, tc: true, opt: 1232},
		{members: 64, size: 4096, tcp: true, whole: true, opt: 1232},
		{members: 64, tcp: true, whole: true},
	} {
		t.Run(fmt.Sprintf("%d members, %d octets, tcp %v", tc.members, tc.size, tc.tcp), func(t *testing.T) {
			q := new(dns.Msg).SetQuestion(server, dns.TypeSRV)
			if tc.size > 0 {
				q.SetEdns0(tc.size, true)
			}
			h := serving(mustCompile(t, dualStack(tc.members), Options{}))
			w := &wire{}
			code, err := h.ServeDNS(t.Context(), request.NewScrubWriter(q, w.over(tc.tcp)), q)
			if code != dns.RcodeSuccess || err != nil {
				t.Fatalf("ServeDNS = %d, %v", code, err)
			}
			got := w.message(t)
			limit := min(max(int(tc.size), 512), 1232)
			if !tc.tcp && len(w.packed) > limit {
				t.Errorf("%d octets, at most %d fit", len(w.packed), limit)
			}
			want := tc.members
			if tc.tc {
				want = 0
			}
			if got.Truncated != tc.tc || len(got.Answer) != want {
				t.Errorf("TC %v with %d records, want %v with %d", got.Truncated, len(got.Answer), tc.tc, want)
			}
			extra := len(got.Extra)
			if opt := got.IsEdns0(); opt != nil {
				extra--
				if opt.UDPSize() != tc.opt || !opt.Do() {
					t.Errorf("OPT %v, want size %d and DO", opt, tc.opt)
				}
			} else if tc.opt != 0 {
				t.Error("no OPT")
			}
			if whole := extra == 2*tc.members; whole != tc.whole {
				t.Errorf("%d addresses, all: want %v", extra, tc.whole)
			}
		})
	}
}

// wire is a writer that keeps the octets.
type wire struct {
	test.ResponseWriter
	packed []byte
}

func (w *wire) over(tcp bool) *wire { w.TCP = tcp; return w }

func (w *wire) WriteMsg(m *dns.Msg) (err error) {
	w.packed, err = m.Pack()
	return err
}

func (w *wire) message(t testing.TB) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(w.packed); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRoomForSignatureAndNSID(t *testing.T) {
	// Whatever the plugins in front add, the answer stays within the size, and additionals make room without TC.
	h := serving(mustCompile(t, dualStack(5), Options{}))
	for size := uint16(512); size <= 1300; size += 7 {
		q := new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(size, false)
		opt := q.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		q.SetTsig("rack1.example.org.", dns.HmacSHA256, 300, 1789312064)
		// The wire form of a signed query has a MAC of 32 octets.
		q.IsTsig().MACSize, q.IsTsig().MAC = 32, strings.Repeat("ab", 32)
		got := ask(t, h, q)
		answerOPT := got.IsEdns0()
		answerOPT.Option = append(answerOPT.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: strings.Repeat("61", 64)})
		got.Extra = append(got.Extra, q.IsTsig())
		got.Compress = true
		b, err := got.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if limit := min(int(size), 1232); len(b) > limit || got.Truncated {
			t.Errorf("size %d: %d octets, TC %v", size, len(b), got.Truncated)
		}
	}
}

func TestTargetsAreNotCompressed(t *testing.T) {
	// RFC 2782: no name compression of the target. Twenty members do not fit uncompressed.
	q := new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(1232, false)
	w := &wire{}
	h := serving(mustCompile(t, dualStack(20), Options{}))
	if _, err := h.ServeDNS(t.Context(), request.NewScrubWriter(q, w), q); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		target := fmt.Sprintf("\x06node%02d\x05rack1\x07example\x03org\x00", i)
		if strings.Count(string(w.packed), target) != 1 {
			t.Errorf("target %q is not there in full, once", target)
		}
	}
}

func TestQueryOptionsDoNotComeBack(t *testing.T) {
	h := serving(load(t, "born"))
	q := new(dns.Msg).SetQuestion(apex, dns.TypeNS).SetEdns0(1232, false)
	opt := q.IsEdns0()
	opt.SetZ(0x1234)
	opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
	w := &wire{}
	if _, err := h.ServeDNS(t.Context(), request.NewScrubWriter(q, w), q); err != nil {
		t.Fatal(err)
	}
	got := w.message(t).IsEdns0()
	if got == nil || len(got.Option) != 0 || got.Z() != 0 || got.Do() || got.Version() != 0 {
		t.Errorf("OPT %v (Z %#x), want an empty one", got, got.Z())
	}
}

func TestAdditionalsGoByWholeSets(t *testing.T) {
	// RFC 2181 §5: an RRset is complete or not there.
	r := dualStack(1)
	r.NameServers = []roster.NameServer{{Name: "ns1." + apex}, {Name: "ns2." + apex}}
	for i := range r.NameServers {
		for j := range 20 {
			r.NameServers[i].Addrs = append(r.NameServers[i].Addrs, netip.AddrFrom4([4]byte{192, 0, byte(i), byte(j)}))
		}
	}
	for size, want := range map[uint16]int{512: 20, 1232: 40} {
		got := ask(t, serving(mustCompile(t, r, Options{})), new(dns.Msg).SetQuestion(apex, dns.TypeNS).SetEdns0(size, false))
		if n := len(got.Extra) - 1; n != want || got.Truncated || len(got.Answer) != 2 {
			t.Errorf("size %d: %d additional records, TC %v; want %d", size, n, got.Truncated, want)
		}
	}
}

func TestWritersMayChangeTheSections(t *testing.T) {
	snap := load(t, "born")
	h, before := serving(snap), answers(snap)
	for _, q := range []*dns.Msg{new(dns.Msg).SetQuestion(server, dns.TypeSRV), new(dns.Msg).SetQuestion("nosuch."+apex, dns.TypeA)} {
		w := &wrecker{}
		if _, err := h.ServeDNS(t.Context(), w, q); err != nil || !w.called {
			t.Fatalf("ServeDNS: %v, wrote: %v", err, w.called)
		}
	}
	if after := answers(snap); after != before {
		t.Errorf("answers have become\n%s", after)
	}
}

// wrecker replaces all records of what it is to write.
type wrecker struct {
	test.ResponseWriter
	called bool
}

func (w *wrecker) WriteMsg(m *dns.Msg) error {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for i := range section {
			section[i] = test.TXT("wrecked. 1 IN TXT x")
		}
	}
	w.called = true
	return nil
}
