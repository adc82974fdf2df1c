package xfr

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

var everyone = Policy{Any: true, Unsigned: true}

// One row for each rule about a request: what it gets, all sections and flags.
func TestRules(t *testing.T) {
	delta := map[uint32][]Delta{9: {{From: soa(9), To: soa(10), Removed: numbered(1), Added: []dns.RR{record("new." + origin + " 30 IN A 10.9.9.9")}}}}
	zone := newZone(10, numbered(40), delta)
	broken := newZone(10, numbered(40), map[uint32][]Delta{9: {{From: soa(8), To: soa(10)}}})
	longer := newZone(10, numbered(2), map[uint32][]Delta{9: {{From: soa(9), To: soa(10), Added: numbered(9)}}})
	keyed := Policy{Any: true}
	here := Policy{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	elsewhere := Policy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, Unsigned: true}
	with := func(m *dns.Msg, f func(*dns.Msg)) *dns.Msg { f(m); return m }
	edns := func(m *dns.Msg) *dns.Msg { return m.SetEdns0(1232, true) }
	for _, tt := range []struct {
		name    string
		network string
		zone    Zone
		policy  Policy
		q       *dns.Msg
		rcode   int
		ede     int
		kind    Kind
		answers int
		aa      bool
	}{
		{"AXFR", "tcp", zone, everyone, axfr(), 0, noEDE, Full, 42, true},
		{"AXFR with EDNS", "tcp", zone, everyone, edns(axfr()), 0, noEDE, Full, 42, true},
		{"AXFR, mixed case", "tcp", zone, everyone, new(dns.Msg).SetAxfr("Rack1.EXAMPLE.com."), 0, noEDE, Full, 42, true},
		{"AXFR with CD", "tcp", zone, everyone, with(axfr(), func(m *dns.Msg) { m.CheckingDisabled, m.RecursionDesired = true, true }), 0, noEDE, Full, 42, true},
		{"AXFR signed", "tcp", zone, here, signed(axfr()), 0, noEDE, Full, 42, true},
		{"AXFR signed, with EDNS", "tcp", zone, here, signed(edns(axfr())), 0, noEDE, Full, 42, true},
		{"AXFR over UDP", "udp", zone, everyone, edns(axfr()), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"IXFR from an older serial", "tcp", zone, everyone, ixfr(9), 0, noEDE, Incremental, 6, true},
		{"IXFR from an older serial over UDP", "udp", zone, everyone, ixfr(9), 0, noEDE, Incremental, 6, true},
		{"IXFR signed over UDP", "udp", zone, keyed, signed(ixfr(9)), 0, noEDE, Incremental, 6, true},
		{"IXFR from our serial", "tcp", zone, everyone, ixfr(10), 0, noEDE, Current, 1, true},
		{"IXFR from our serial over UDP", "udp", zone, everyone, ixfr(10), 0, noEDE, Current, 1, true},
		{"IXFR from a newer serial", "tcp", zone, everyone, ixfr(11), 0, noEDE, Current, 1, true},
		{"IXFR from a serial behind the turn", "tcp", zone, everyone, ixfr(1<<32 - 5), 0, noEDE, Full, 42, true},
		{"IXFR from half the circle away", "tcp", zone, everyone, ixfr(10 + 1<<31), 0, noEDE, Full, 42, true},
		{"IXFR from an unknown serial", "tcp", zone, everyone, ixfr(8), 0, noEDE, Full, 42, true},
		{"IXFR from an unknown serial over UDP", "udp", zone, everyone, ixfr(8), 0, noEDE, Retry, 1, true},
		{"IXFR over UDP with room for the zone", "udp", zone, everyone, edns(ixfr(8)), 0, noEDE, Full, 42, true},
		{"IXFR with a broken journal", "tcp", broken, everyone, ixfr(9), 0, noEDE, Full, 42, true},
		{"IXFR longer than the zone", "tcp", longer, everyone, ixfr(9), 0, noEDE, Full, 4, true},
		{"no TSIG", "tcp", zone, keyed, edns(axfr()), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"no TSIG, no EDNS", "tcp", zone, keyed, axfr(), dns.RcodeRefused, noEDE, Refused, 0, false},
		{"no TSIG over UDP", "udp", zone, keyed, edns(ixfr(9)), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"another known key", "tcp", zone, keyed, edns(axfr()).SetTsig("other.", dns.HmacSHA256, 300, time.Now().Unix()), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"an address off the list", "tcp", zone, elsewhere, edns(axfr()), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"an address off the list, signed", "tcp", zone, elsewhere, signed(edns(axfr())), dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited), Refused, 0, false},
		{"no such zone", "tcp", zone, everyone, edns(new(dns.Msg).SetAxfr("infra0." + origin)), dns.RcodeNotAuth, int(dns.ExtendedErrorCodeNotAuthoritative), Refused, 0, false},
		{"class CH", "tcp", zone, everyone, with(axfr(), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeNotAuth, noEDE, Refused, 0, false},
		{"not ready", "tcp", &memory{}, everyone, edns(axfr()), dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNotReady), Refused, 0, false},
		{"IXFR without SOA", "tcp", zone, everyone, with(ixfr(9), func(m *dns.Msg) { m.Ns = nil }), dns.RcodeFormatError, noEDE, Refused, 0, false},
		{"IXFR with another record", "tcp", zone, everyone, with(ixfr(9), func(m *dns.Msg) { m.Ns = numbered(1) }), dns.RcodeFormatError, noEDE, Refused, 0, false},
		{"IXFR with another zone's SOA", "tcp", zone, everyone, with(ixfr(9), func(m *dns.Msg) { m.Ns[0].Header().Name = "example.com." }), dns.RcodeFormatError, noEDE, Refused, 0, false},
		{"AXFR with authority", "tcp", zone, everyone, with(axfr(), func(m *dns.Msg) { m.Ns = []dns.RR{soa(9)} }), dns.RcodeFormatError, noEDE, Refused, 0, false},
		{"AXFR with an answer", "tcp", zone, everyone, with(axfr(), func(m *dns.Msg) { m.Answer = []dns.RR{soa(9)} }), dns.RcodeFormatError, noEDE, Refused, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, tt.zone, tt.policy)
			secrets := testKey.Secrets()
			secrets["other."] = secrets[testKey.Name]
			c := dns.Client{Net: tt.network, TsigSecret: secrets, UDPSize: 4096}
			q := tt.q.Copy()
			got, _, err := c.Exchange(tt.q, f.addr)
			if err != nil {
				t.Fatal(err)
			}
			checkAnswer(t, q, got)
			if got.Rcode != tt.rcode || edeOf(got) != tt.ede || len(got.Answer) != tt.answers || got.Authoritative != tt.aa {
				t.Errorf("want %s, EDE %d, %d answers, AA %v:\n%v", dns.RcodeToString[tt.rcode], tt.ede, tt.answers, tt.aa, got)
			}
			if e := f.event(t); e.Kind != tt.kind || e.Rcode != tt.rcode || (e.Err != nil) != (tt.kind == Refused) || !e.Client.IsValid() {
				t.Errorf("event %+v, want %s", e, tt.kind)
			}
		})
	}
}

// checkAnswer checks what goes for every answer.
func checkAnswer(t *testing.T, q, got *dns.Msg) {
	t.Helper()
	if got.Id != q.Id || !got.Response || got.Opcode != q.Opcode || got.Truncated || got.RecursionAvailable || got.AuthenticatedData ||
		got.CheckingDisabled || got.RecursionDesired != q.RecursionDesired || got.Zero {
		t.Errorf("the header is wrong:\n%v", got)
	}
	if diff := cmp.Diff(q.Question, got.Question); diff != "" {
		t.Errorf("the question differs (-sent +back):\n%s", diff)
	}
	if len(got.Ns) > 0 {
		t.Errorf("records in authority:\n%v", got)
	}
	want := 0
	if asked := q.IsEdns0(); asked != nil {
		want++
		if opt := got.IsEdns0(); opt == nil || opt.Do() != asked.Do() || opt.UDPSize() != front.MaxUDPSize {
			t.Errorf("OPT %v", opt)
		}
	}
	if q.IsTsig() != nil {
		want++
		if got.IsTsig() == nil {
			t.Error("the answer is not signed")
		}
	}
	if len(got.Extra) != want {
		t.Errorf("%d additional records, want %d:\n%v", len(got.Extra), want, got)
	}
	if n := len(got.Answer); n > 0 && (got.Answer[0].Header().Rrtype != dns.TypeSOA || got.Answer[n-1].Header().Rrtype != dns.TypeSOA) {
		t.Errorf("no SOA at both ends:\n%v", got)
	}
}

func edeOf(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode)
			}
		}
	}
	return noEDE
}

// A signature that is not good is NOTAUTH with the reason in an answer's TSIG (RFC 8945 §5.2).
func TestBadSignatures(t *testing.T) {
	wrong := Key{Name: testKey.Name, Algorithm: testKey.Algorithm, Secret: []byte("another secret of more than 16 octets")}
	for _, tt := range []struct {
		name   string
		key    Key
		at     time.Time
		error  uint16
		signed bool
	}{
		{"wrong secret", wrong, time.Now(), dns.RcodeBadSig, false},
		{"another algorithm", Key{Name: testKey.Name, Algorithm: dns.HmacSHA512, Secret: testKey.Secret}, time.Now(), dns.RcodeBadKey, false},
		{"unknown key", Key{Name: "nobody.", Algorithm: testKey.Algorithm, Secret: testKey.Secret}, time.Now(), dns.RcodeBadKey, false},
		{"an hour old", testKey, time.Now().Add(-time.Hour), dns.RcodeBadTime, true},
		{"an hour early", testKey, time.Now().Add(time.Hour), dns.RcodeBadTime, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, newZone(10, numbered(3), nil), everyone)
			q := axfr().SetTsig(tt.key.Name, tt.key.Algorithm, 300, tt.at.Unix())
			wire, _, err := dns.TsigGenerate(q, tt.key.Secrets()[tt.key.Name], "", false)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := dns.DialTimeout("tcp", f.addr, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(wire); err != nil {
				t.Fatal(err)
			}
			got, err := conn.ReadMsg()
			if err != nil && got == nil {
				t.Fatal(err)
			}
			sig := got.IsTsig()
			if got.Rcode != dns.RcodeNotAuth || got.Authoritative || len(got.Answer) > 0 || sig == nil || sig.Error != tt.error || (sig.MACSize > 0) != tt.signed {
				t.Errorf("want NOTAUTH and %s:\n%v", dns.RcodeToString[int(tt.error)], got)
			}
			if tt.error == dns.RcodeBadTime && (sig.OtherLen != 6 || int64(sig.TimeSigned) != tt.at.Unix()) {
				t.Errorf("BADTIME with other data %q, time %d, want ours and %d", sig.OtherData, sig.TimeSigned, tt.at.Unix())
			}
		})
	}
}

// A second TSIG, or one that is not last, is FORMERR (RFC 8945 §5.1): only the first would have been verified.
func TestMisplacedTSIG(t *testing.T) {
	f := serve(t, newZone(10, numbered(3), nil), everyone)
	secret := testKey.Secrets()[testKey.Name]
	good, _, err := dns.TsigGenerate(signed(new(dns.Msg).SetQuestion("nothing.", dns.TypeA)), secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	inner := new(dns.Msg)
	if err := inner.Unpack(good); err != nil {
		t.Fatal(err)
	}
	for name, extra := range map[string][]dns.RR{
		"twice": {inner.Extra[0], inner.Extra[0]}, "first": {inner.Extra[0], &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}},
	} {
		q := axfr()
		q.Extra = extra
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := dns.DialTimeout("tcp", f.addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(wire); err != nil {
			t.Fatal(err)
		}
		got, err := conn.ReadMsg()
		if err != nil || got.Rcode != dns.RcodeFormatError || len(got.Answer) > 0 {
			t.Errorf("%s: %v, want FORMERR:\n%v", name, err, got)
		}
		_ = conn.Close()
	}
}

// A big zone comes in messages of a sane size, whole, in order, each signed; and it is one version though a newer one is
// published meanwhile.
func TestManyMessages(t *testing.T) {
	records := numbered(20000)
	zone := newZone(10, records, nil)
	f := serve(t, zone, Policy{Any: true})
	messages, err := receive(t, f.addr, signed(axfr().SetEdns0(1232, false)))
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(messages...)
	want := slices.Concat([]dns.RR{soa(10)}, records, []dns.RR{soa(10)})
	if diff := cmp.Diff(texts(want), texts(all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(messages) < 20 {
		t.Errorf("%d messages, want many small ones", len(messages))
	}
	if e := f.event(t); e.Kind != Full || e.Records != 20002 || e.Messages != len(messages) || e.Serial != 10 {
		t.Errorf("event %+v", e)
	}
}

// The changes come in the order of RFC 1995 §4.
func TestIncrementalOrder(t *testing.T) {
	h := numbered(8)
	since := map[uint32][]Delta{8: {{From: soa(8), To: soa(9), Removed: h[:1], Added: h[1:3]}, {From: soa(9), To: soa(10), Removed: h[3:4]}}}
	f := serve(t, newZone(10, numbered(30), since), Policy{Any: true})
	messages, err := receive(t, f.addr, signed(ixfr(8)))
	if err != nil {
		t.Fatal(err)
	}
	want := []dns.RR{soa(10), soa(8), h[0], soa(9), h[1], h[2], soa(9), h[3], soa(10), soa(10)}
	if diff := cmp.Diff(texts(want), texts(slices.Concat(messages...))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
