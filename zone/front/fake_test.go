package front

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fakeZone answers for example.org from a static map, packed before: the smallest Answerer that keeps to its contract.
type fakeZone struct {
	names map[string]map[uint16]fakeAnswer // wire form of the name, lower case
}

// fakeAnswer is an answer's records, for the reference, and their wire forms.
type fakeAnswer struct {
	rcode         uint8
	an, ns, extra []dns.RR
	anWire, all   []byte // answer; answer and authority are one of both empty; with additional
}

const fakeTTL = "example.org. 5 "

var fakeRecords = map[string][]string{
	"_etcd-server._tcp.example.org.": {
		"_etcd-server._tcp.example.org. 30 SRV 0 0 2380 n0.example.org.",
		"_etcd-server._tcp.example.org. 30 SRV 0 0 2380 n1.example.org.",
		"_etcd-server._tcp.example.org. 30 SRV 0 0 2380 n2.example.org.",
	},
	"n0.example.org.":  {"n0.example.org. 30 A 192.0.2.1"},
	"big.example.org.": {"big.example.org. 30 TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 6)},
}

var fakeExtra = []string{
	"n0.example.org. 30 A 192.0.2.1", "n1.example.org. 30 A 192.0.2.2", "n2.example.org. 30 A 192.0.2.3",
	"n0.example.org. 30 AAAA 2001:db8::1", "n1.example.org. 30 AAAA 2001:db8::2", "n2.example.org. 30 AAAA 2001:db8::3",
}

const fakeSOA = fakeTTL + "SOA n0.example.org. hostmaster.example.org. 1 14400 3600 1209600 5"

func newFakeZone(t testing.TB) *fakeZone {
	t.Helper()
	z := &fakeZone{names: map[string]map[uint16]fakeAnswer{}}
	soa := parse(t, fakeSOA)
	for name, lines := range fakeRecords {
		a := fakeAnswer{an: parse(t, lines...)}
		if a.an[0].Header().Rrtype == dns.TypeSRV {
			a.extra = parse(t, fakeExtra...)
		}
		z.names[wire(t, name)] = map[uint16]fakeAnswer{
			a.an[0].Header().Rrtype: a.pack(t),
			dns.TypeANY:             a.pack(t),
			0:                       fakeAnswer{ns: soa}.pack(t), // NODATA
		}
	}
	z.names[""] = map[uint16]fakeAnswer{0: fakeAnswer{rcode: dns.RcodeNameError, ns: soa}.pack(t)}
	return z
}

func (a fakeAnswer) pack(t testing.TB) fakeAnswer {
	t.Helper()
	b := make([]byte, dns.MaxMsgSize)
	off := 0
	for i, section := range [][]dns.RR{a.an, a.ns, a.extra} {
		for _, rr := range section {
			var err error
			if off, err = dns.PackRR(rr, b, off, nil, false); err != nil {
				t.Fatal(err)
			}
		}
		if i == 1 {
			a.anWire = b[:off]
		}
	}
	a.all = b[:off]
	return a
}

// find returns the answer to a question; false outside of the zone and for AXFR.
func (z *fakeZone) find(name []byte, qtype uint16) (fakeAnswer, bool) {
	const apex = "\x07example\x03org\x00"
	if len(name) < len(apex) || string(name[len(name)-len(apex):]) != apex || qtype == dns.TypeAXFR {
		return fakeAnswer{}, false
	}
	types, ok := z.names[string(name)]
	if !ok {
		types = z.names[""]
	}
	a, ok := types[qtype]
	if !ok {
		a = types[0]
	}
	return a, true
}

func (z *fakeZone) Answer(q *Question, msg []byte, n, limit int) Result {
	a, ok := z.find(q.Name, q.Type)
	if !ok {
		return Result{}
	}
	body, extra, truncated := a.cut(limit - n)
	msg[2] |= 0x04
	msg[3] |= a.rcode
	if truncated {
		msg[2] |= flagTC
		return Result{Len: n, Rcode: a.rcode, Owner: uint64(len(q.Name))}
	}
	binary.BigEndian.PutUint16(msg[6:], uint16(len(a.an)))
	binary.BigEndian.PutUint16(msg[8:], uint16(len(a.ns)))
	if extra {
		binary.BigEndian.PutUint16(msg[10:], uint16(len(a.extra)))
	}
	owner := uint64(len(q.Name))
	if a.rcode == dns.RcodeNameError {
		owner = 1
	}
	return Result{Len: n + copy(msg[n:], body), Rcode: a.rcode, Owner: owner}
}

func (a *fakeAnswer) cut(limit int) (body []byte, extra, truncated bool) {
	switch {
	case len(a.all) <= limit:
		return a.all, true, false
	case len(a.anWire) <= limit:
		return a.anWire, false, false
	}
	return nil, false, true
}

// parse returns the records that lines describe.
func parse(t testing.TB, lines ...string) (rrs []dns.RR) {
	t.Helper()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// wire returns a name's wire form, in the letter case that it has.
func wire(t testing.TB, name string) string {
	t.Helper()
	b := make([]byte, 256)
	n, err := dns.PackDomainName(name, b, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

var (
	testClient  = netip.MustParseAddr("198.51.100.100")
	testClient6 = netip.MustParseAddr("2001:db8:220:1:59de:d0f4:8769:82b8")
	testTime    = time.Unix(1559731985, 0) // of RFC 9018 A.1
)

const testSecret, testClientCookie = "e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957"

// newTestShared returns the parts of a front for the fake zone with NSID, a cookie secret, no limit and a clock that
// stands.
func newTestShared(t testing.TB) *Shared {
	t.Helper()
	s := NewShared(newFakeZone(t))
	s.Clock.Set(testTime)
	if err := s.Cookies.Set(unhex(t, testSecret), nil); err != nil {
		t.Fatal(err)
	}
	s.SetSettings(Settings{NSID: []byte("infra0")})
	return s
}

func newTestEngine(t testing.TB) *engine {
	t.Helper()
	s := newTestShared(t)
	e := newEngine(s, s.newCounters())
	e.keepalive = 100
	return e
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// query1 returns a query; edit, when it is not nil, changes it before it is packed.
func query1(t testing.TB, name string, qtype uint16, edit func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 0xbeef
	if edit != nil {
		edit(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withOPT returns an edit that adds an OPT record with a size, DO and options.
func withOPT(size uint16, do bool, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: options}
		opt.SetUDPSize(size)
		opt.SetDo(do)
		m.Extra = append(m.Extra, opt)
	}
}

func cookieOption(hexCookie string) dns.EDNS0 {
	return &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hexCookie}
}
