package sign

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// content is one RRset of each type that a zone of ours may hold.
const content = `
rack1.example.com. 30 IN SOA infra0.rack1.example.com. hostmaster.rack1.example.com. 7 14400 3600 1209600 5
rack1.example.com. 3600 IN NS infra0.rack1.example.com.
rack1.example.com. 3600 IN NS infra1.rack1.example.com.
rack1.example.com. 3600 IN NS NS.Example.NET.
infra0.rack1.example.com. 30 IN A 192.0.2.10
infra0.rack1.example.com. 30 IN AAAA 2001:db8::10
_etcd-server-ssl._tcp.rack1.example.com. 30 IN SRV 0 0 2380 infra0.rack1.example.com.
_etcd-server-ssl._tcp.rack1.example.com. 30 IN SRV 0 0 2380 infra1.rack1.example.com.
_etcd-server-ssl._tcp.rack1.example.com. 30 IN SRV 0 0 2380 Infra2.rack1.example.com.
rack1.example.com. 5 IN NSEC _tcp.rack1.example.com. A NS SOA RRSIG NSEC DNSKEY
t.rack1.example.com. 5 IN TXT "a" "B"
t.rack1.example.com. 5 IN TXT "aa"
rack1.example.com. 3600 IN CAA 0 issue "ca.example.net"
m.rack1.example.com. 30 IN MX 10 Mail.example.net.
c.rack1.example.com. 30 IN CNAME Other.rack1.example.com.
rack1.example.com. 3600 IN CSYNC 0 1 A NS AAAA
s.rack1.example.com. 30 IN SSHFP 4 2 ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789
`

func rrsets(tb testing.TB) (out [][]dns.RR) {
	tb.Helper()
	for rr, err := range parseAll(content) {
		if err != nil {
			tb.Fatal(err)
		}
		h := rr.Header()
		if n := len(out); n > 0 && out[n-1][0].Header().Name == h.Name && out[n-1][0].Header().Rrtype == h.Rrtype {
			out[n-1] = append(out[n-1], rr)
			continue
		}
		out = append(out, []dns.RR{rr})
	}
	return out
}

func parseAll(text string) func(yield func(dns.RR, error) bool) {
	return func(yield func(dns.RR, error) bool) {
		p := dns.NewZoneParser(strings.NewReader(text), ".", "")
		for rr, ok := p.Next(); ok && yield(rr, nil); rr, ok = p.Next() {
		}
		if err := p.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func onState(tb testing.TB, ring *Ring) State {
	tb.Helper()
	return must[State](tb)(SwitchOn(State{}, ring, right(testTime)))
}

// Two nodes that hold one bundle make the same octets from records in any order and any case of names, and a validator
// takes them.
func TestSignaturesAreAPureFunction(t *testing.T) {
	s := onState(t, newTestRing(t, 7))
	a, b := must[Signer](t)(New(apex, s, newTestRing(t, 7))), must[Signer](t)(New("RACK1.example.com.", s, newTestRing(t, 7)))
	if a.ID() != b.ID() {
		t.Errorf("IDs differ: %s; %s", a.ID(), b.ID())
	}
	key := a.Keys()[0].(*dns.DNSKEY)
	for _, set := range rrsets(t) {
		want := must[[]*dns.RRSIG](t)(a.Sign(set))
		if len(want) != 1 {
			t.Fatalf("%d signatures of %v, want 1", len(want), set)
		}
		if err := want[0].Verify(key, set); err != nil {
			t.Errorf("%v: %v", set[0], err)
		}
		h := set[0].Header()
		if got := want[0]; got.Hdr.Ttl != h.Ttl || got.OrigTtl != h.Ttl || got.SignerName != apex || got.TypeCovered != h.Rrtype ||
			int(got.Labels) != dns.CountLabel(h.Name) || got.KeyTag != key.KeyTag() || !got.ValidityPeriod(testTime) {
			t.Errorf("wrong fields: %v", got)
		}
		other := slices.Clone(set)
		rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		for i, rr := range other {
			other[i] = dns.Copy(rr)
			other[i].Header().Name = strings.ToUpper(rr.Header().Name)
		}
		if got := must[[]*dns.RRSIG](t)(b.Sign(other)); got[0].String() != want[0].String() {
			t.Errorf("another node's signature differs:\n%v\n%v", got[0], want[0])
		}
	}
}

// A changed octet, another epoch and another key each give another signature, and the first one does not fit.
func TestSignaturesCoverEverything(t *testing.T) {
	ring := newTestRing(t, 7)
	s := onState(t, ring)
	a := must[Signer](t)(New(apex, s, ring))
	key := a.Keys()[0].(*dns.DNSKEY)
	set := rrsets(t)[2]
	first := must[[]*dns.RRSIG](t)(a.Sign(set))[0]
	changed := []dns.RR{dns.Copy(set[0])}
	changed[0].(*dns.A).A[15]++
	if first.Verify(key, changed) == nil {
		t.Error("the signature fits another address")
	}
	s.Epoch++
	later := must[Signer](t)(New(apex, s, ring))
	if next := must[[]*dns.RRSIG](t)(later.Sign(set))[0]; next.Signature == first.Signature || next.Inception-first.Inception != 345600 || next.Expiration-next.Inception != 1209600 {
		t.Errorf("the next epoch's signature: %v after %v", next, first)
	}
	if later.ID() == a.ID() {
		t.Error("two epochs share an ID")
	}
	if _, err := New(apex, s, newTestRing(t, 8)); err == nil {
		t.Error("a signer with keys of another bundle was made")
	}
}

func TestSignRefuses(t *testing.T) {
	ring := newTestRing(t, 7)
	a := must[Signer](t)(New(apex, onState(t, ring), ring))
	one := func(text string) dns.RR { return must[dns.RR](t)(dns.NewRR(text)) }
	sig := must[[]*dns.RRSIG](t)(a.Sign(rrsets(t)[0]))[0]
	for name, set := range map[string][]dns.RR{
		"empty":         {},
		"outside":       {one("example.com. 30 IN A 192.0.2.1")},
		"a signature":   {sig},
		"two TTLs":      {one("a." + apex + " 30 IN A 192.0.2.1"), one("a." + apex + " 31 IN A 192.0.2.2")},
		"two types":     {one("a." + apex + " 30 IN A 192.0.2.1"), one("a." + apex + " 30 IN AAAA 2001:db8::1")},
		"two owners":    {one("a." + apex + " 30 IN A 192.0.2.1"), one("b." + apex + " 30 IN A 192.0.2.2")},
		"a neighbour's": {one("xrack1.example.com. 30 IN A 192.0.2.1")},
	} {
		if got, err := a.Sign(set); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
	if _, err := New(apex, State{Mode: Off}, ring); err == nil {
		t.Error("a signer of an unsigned zone was made")
	}
}

// The apex records of each stage, and who signs them.
func TestApexRecords(t *testing.T) {
	ring := newTestRing(t, 7)
	s := onState(t, ring)
	tag := func(n uint32) uint16 { return must[*Key](t)(ring.Key(n)).Tag() }
	roll := must[State](t)(RollOver(s, ring, right(testTime)))
	active := roll.Clone()
	active.Announced, active.Keys[0].Phase, active.Keys[1].Phase = true, Retiring, Active
	off := must[State](t)(SwitchOff(s))
	for _, c := range []struct {
		name  string
		state State
		types string
		cds   uint16
		by    []uint16
		data  uint16
	}{
		{"on", s, "DNSKEY", 0, []uint16{tag(0)}, tag(0)},
		{"pre-published", roll, "DNSKEY DNSKEY", 0, []uint16{tag(0), tag(1)}, tag(0)},
		{"retiring", active, "DNSKEY DNSKEY CDS CDNSKEY", tag(1), []uint16{tag(0), tag(1)}, tag(1)},
		{"going off", off, "DNSKEY CDS CDNSKEY", 0, []uint16{tag(0)}, tag(0)},
	} {
		a := must[Signer](t)(New(apex, c.state, ring))
		var types []string
		sets := map[uint16][]dns.RR{}
		for _, rr := range a.Keys() {
			types = append(types, dns.TypeToString[rr.Header().Rrtype])
			sets[rr.Header().Rrtype] = append(sets[rr.Header().Rrtype], rr)
		}
		if got := strings.Join(types, " "); got != c.types {
			t.Errorf("%s: got %s, want %s", c.name, got, c.types)
		}
		if cds := sets[dns.TypeCDS]; len(cds) > 0 && cds[0].(*dns.CDS).KeyTag != c.cds {
			t.Errorf("%s: CDS %v, want tag %d", c.name, cds[0], c.cds)
		}
		for rrtype, set := range sets {
			want := c.by
			var by []uint16
			for _, sig := range must[[]*dns.RRSIG](t)(a.Sign(set)) {
				by = append(by, sig.KeyTag)
				for _, k := range sets[dns.TypeDNSKEY] {
					if k.(*dns.DNSKEY).KeyTag() == sig.KeyTag {
						if err := sig.Verify(k.(*dns.DNSKEY), set); err != nil {
							t.Errorf("%s: %v: %v", c.name, sig, err)
						}
					}
				}
			}
			if !slices.Equal(by, want) {
				t.Errorf("%s: %s signed by %v, want %v", c.name, dns.TypeToString[rrtype], by, want)
			}
		}
		if sig := must[[]*dns.RRSIG](t)(a.Sign(rrsets(t)[0])); len(sig) != 1 || sig[0].KeyTag != c.data {
			t.Errorf("%s: SOA signed by %v, want %d alone", c.name, sig, c.data)
		}
	}
}

// RFC 8078 §4 spells the delete records out.
func TestDeleteRecords(t *testing.T) {
	rrs := deleteRecords(apex)
	if got := strings.Join(strings.Fields(rrs[0].String())[4:], " "); got != "0 0 0 00" {
		t.Errorf("CDS %q, want 0 0 0 00", got)
	}
	if got := strings.Join(strings.Fields(rrs[1].String())[4:], " "); got != "0 3 0 AA==" {
		t.Errorf("CDNSKEY %q, want 0 3 0 AA==", got)
	}
	m := &dns.Msg{Answer: rrs}
	wire := must[[]byte](t)(m.Pack())
	var back dns.Msg
	if err := back.Unpack(wire); err != nil || !IsDelete(back.Answer[0].(*dns.CDS)) {
		t.Errorf("over the wire: %v, %v", back.Answer, err)
	}
}

func BenchmarkSign(b *testing.B) {
	ring := newTestRing(b, 7)
	a := must[Signer](b)(New(apex, onState(b, ring), ring))
	set := rrsets(b)[5]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Sign(set); err != nil {
			b.Fatal(err)
		}
	}
}
