package zone

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// signers returns real signers of one key ring at a time: with one key, and in the middle of a roll-over.
func signers(tb testing.TB, now time.Time) []sign.Signer {
	tb.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("k", 32)))
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := sign.NewRing(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		tb.Fatal(err)
	}
	clock := sign.Clock{Now: now, Plausible: true}
	on, err := sign.SwitchOn(sign.State{}, ring, clock)
	if err != nil {
		tb.Fatal(err)
	}
	on.Announced = true
	rolling, err := sign.RollOver(on, ring, clock)
	if err != nil {
		tb.Fatal(err)
	}
	var out []sign.Signer
	for _, s := range []sign.State{on, rolling} {
		signer, err := sign.New(apex, s, ring)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, signer)
	}
	return out
}

// validator is one (RFC 4035 §5.3) that has the zone's keys as its trust anchors.
type validator struct {
	keys map[uint16]*dns.DNSKEY
	now  time.Time
}

func newValidator(s *Snapshot, now time.Time) *validator {
	v := &validator{keys: map[uint16]*dns.DNSKEY{}, now: now}
	for _, rr := range s.top.set(dns.TypeDNSKEY).rrs {
		k := rr.(*dns.DNSKEY)
		v.keys[k.KeyTag()] = k
	}
	return v
}

// sets wants every RRset of a section to be signed, and every signature to be good and to cover a set. Addresses in
// the additional section may come without signatures, when there was no room: then strict is false.
func (v *validator) sets(section []dns.RR, strict bool) error {
	type key struct {
		name   string
		rrtype uint16
	}
	sets, sigs := map[key][]dns.RR{}, map[key][]*dns.RRSIG{}
	for _, rr := range section {
		name := dns.CanonicalName(rr.Header().Name)
		switch rr := rr.(type) {
		case *dns.OPT:
		case *dns.RRSIG:
			sigs[key{name, rr.TypeCovered}] = append(sigs[key{name, rr.TypeCovered}], rr)
		default:
			sets[key{name, rr.Header().Rrtype}] = append(sets[key{name, rr.Header().Rrtype}], rr)
		}
	}
	for k := range sets {
		if strict && len(sigs[k]) == 0 {
			return fmt.Errorf("%s %s is not signed", k.name, dns.TypeToString[k.rrtype])
		}
	}
	for k, list := range sigs {
		for _, sig := range list {
			signer := v.keys[sig.KeyTag]
			switch {
			case signer == nil || sig.SignerName != apex:
				return fmt.Errorf("%v: no key of the zone", sig)
			case len(sets[k]) == 0:
				return fmt.Errorf("%v covers nothing", sig)
			case !sig.ValidityPeriod(v.now):
				return fmt.Errorf("%v is not valid at %v", sig, v.now)
			case int(sig.Labels) != dns.CountLabel(k.name): // RFC 4035 §5.3.4: fewer are a wildcard's
				return fmt.Errorf("%v has another number of labels than %s", sig, k.name)
			}
			for _, rr := range sets[k] {
				if rr.Header().Ttl > sig.OrigTtl {
					return fmt.Errorf("%v has a TTL above the signed %d", rr, sig.OrigTtl)
				}
			}
			if err := sig.Verify(signer, sets[k]); err != nil {
				return fmt.Errorf("%v: %w", sig, err)
			}
		}
	}
	return nil
}

func (v *validator) message(m *dns.Msg) error {
	return errors.Join(v.sets(m.Answer, true), v.sets(m.Ns, true), v.sets(m.Extra, false))
}

// TestAnswersValidate asks random signed zones for what exists and what does not, by both paths, and validates
// signatures and denials.
func TestAnswersValidate(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	signers := signers(t, today)
	positive, denied, packed := 0, 0, 0
	for i := range 12 {
		s := mustCompile(t, randomRoster(rng), Options{Signer: signers[i%2], Aliases: i%3 == 0, Records: [][]dns.RR{nil, testRecords}[i/2%2]})
		v := newValidator(s, today)
		h := serving(s)
		names := append(questions(s), "a.b.c.d."+apex, "x.b.c."+apex, "b.c."+apex, "zzz."+apex, "\\000."+apex)
		for _, qname := range names {
			for _, qtype := range []uint16{dns.TypeSRV, dns.TypeA, dns.TypeSOA, dns.TypeNS, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeNSEC, dns.TypeCSYNC, dns.TypeDS}[rng.IntN(3):] {
				slow := ask(t, h, new(dns.Msg).SetQuestion(qname, qtype).SetEdns0(65535, true))
				for path, m := range map[string]*dns.Msg{"message": slow, "packed, 1232": fast(t, s, qname, qtype, true, 1232), "packed": fast(t, s, qname, qtype, true, 65535)} {
					if m == nil || !m.Authoritative || m.Truncated {
						continue
					}
					if err := v.message(m); err != nil {
						t.Fatalf("%s %s, %s: %v", qname, dns.TypeToString[qtype], path, err)
					}
					if path != "message" {
						packed++
					}
					last := end(qname, m.Answer)
					if slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == qtype }) || !dns.IsSubDomain(apex, last) {
						positive++
						continue
					}
					if len(m.Ns) == 0 {
						if len(m.Answer) == 0 {
							t.Fatalf("%s %s, %s: neither an answer nor a denial:\n%v", qname, dns.TypeToString[qtype], path, m)
						}
						continue // aliases in a circle
					}
					denied++
					for _, rr := range m.Ns { // packed owners point into the question, and have its letter case
						rr.Header().Name = dns.CanonicalName(rr.Header().Name)
					}
					checkProof(t, last, qtype, Answer{Rcode: m.Rcode, Ns: m.Ns})
				}
			}
		}
	}
	t.Logf("%d answers and %d denials validated, %d of them packed", positive, denied, packed)
	if positive < 1000 || denied < 1000 || packed < 2000 {
		t.Errorf("%d answers, %d denials, %d packed: too few", positive, denied, packed)
	}
}

// end follows the aliases of an answer.
func end(name string, answer []dns.RR) string {
	name = dns.CanonicalName(name)
	for range answer {
		for _, rr := range answer {
			if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == name {
				name = dns.CanonicalName(c.Target)
			}
		}
	}
	return name
}

// TestAliasesInACircle wants each record once (RFC 2181 §5).
func TestAliasesInACircle(t *testing.T) {
	records := append(mustRecords("to."+apex+" 60 IN CNAME fro."+apex, "fro."+apex+" 60 IN CNAME to."+apex), testRecords[2])
	s := mustCompile(t, dualStack(3), Options{Records: records})
	for name, want := range map[string]int{"loop.": 1, "to.": 2, "fro.": 2} {
		if a := s.Lookup(name+apex, dns.TypeA, false); len(a.Answer) != want || a.Rcode != dns.RcodeSuccess || !a.AA {
			t.Errorf("%s: %+v, want %d records", name, a, want)
		}
	}
}

// TestValidatorRefuses is the control: what was changed after signing, what is not signed, and what has ended.
func TestValidatorRefuses(t *testing.T) {
	s := mustCompile(t, dualStack(3), Options{Signer: signers(t, today)[0]})
	good := func() *dns.Msg {
		return ask(t, serving(s), new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(65535, true)).Copy()
	}
	if err := newValidator(s, today).message(good()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		now   time.Time
		spoil func(m *dns.Msg)
	}{
		{"another port", today, func(m *dns.Msg) { m.Answer[0].(*dns.SRV).Port++ }},
		{"a record less", today, func(m *dns.Msg) { m.Answer = m.Answer[1:] }},
		{"a greater TTL", today, func(m *dns.Msg) {
			for _, rr := range m.Answer {
				rr.Header().Ttl++
			}
		}},
		{"no signature", today, func(m *dns.Msg) {
			m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
		}},
		{"too late", sign.Expiration(sign.EpochAt(today)).Add(time.Second), func(*dns.Msg) {}},
		{"too early", sign.Inception(sign.EpochAt(today)).Add(-time.Second), func(*dns.Msg) {}},
	} {
		m := good()
		tc.spoil(m)
		if err := newValidator(s, tc.now).message(m); err == nil {
			t.Errorf("%s: the answer is taken:\n%v", tc.name, m)
		}
	}
}
