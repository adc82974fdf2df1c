package zone

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testSigner makes records of the right form whose signatures are digests: what signatures have to do with keys is
// package sign's.
type testSigner struct{ epoch string }

func (s testSigner) ID() string { return "test " + s.epoch }

func (s testSigner) Keys() []dns.RR {
	rr, err := dns.NewRR(apex + " 3600 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")
	if err != nil {
		panic(err)
	}
	return []dns.RR{rr}
}

func (s testSigner) Sign(rrset []dns.RR) ([]*dns.RRSIG, error) {
	h := sha256.New()
	h.Write([]byte(s.epoch))
	lines := []string{}
	for _, rr := range rrset {
		lines = append(lines, rr.String())
	}
	slices.Sort(lines)
	h.Write([]byte(strings.Join(lines, "\n")))
	sum := h.Sum(nil)
	head := rrset[0].Header()
	return []*dns.RRSIG{{Hdr: header(head.Name, dns.TypeRRSIG, head.Ttl), TypeCovered: head.Rrtype, Algorithm: dns.ECDSAP256SHA256,
		Labels: uint8(dns.CountLabel(head.Name)), OrigTtl: head.Ttl, Expiration: 2000000000, Inception: 1700000000, KeyTag: binary.BigEndian.Uint16(sum),
		SignerName: apex, Signature: base64.StdEncoding.EncodeToString(append(sum, sum...))}}, nil
}

var testRecords = mustRecords(
	"www."+apex+" 60 IN CNAME node00."+apex,
	"far."+apex+" 60 IN CNAME www.example.net.",
	"loop."+apex+" 60 IN CNAME loop."+apex,
	"broken."+apex+" 60 IN CNAME nosuch."+apex,
	"chain."+apex+" 60 IN CNAME www."+apex,
	"a.b.c."+apex+" 60 IN TXT \"deep\"",
	"_443._tcp.node00."+apex+" 60 IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	"_ldap._tcp."+apex+" 60 IN SRV 0 0 389 node00."+apex,
)

func mustRecords(lines ...string) (out []dns.RR) {
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		out = append(out, rr)
	}
	return out
}

// TestSignedZonesExpireEarlier wants secondaries to stop before signatures end.
func TestSignedZonesExpireEarlier(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		want uint32
	}{{Options{}, 1209600}, {Options{Signer: testSigner{"1"}}, 604800}} {
		if got := mustCompile(t, dualStack(3), tc.o).SOA().Expire; got != tc.want {
			t.Errorf("SOA expire %d, want %d", got, tc.want)
		}
	}
}

// TestNSECChain walks the chain of random signed zones and wants every name that owns records in it once, in order.
func TestNSECChain(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	c := new(compiler)
	r := randomRoster(rng)
	for range 300 {
		r = step(rng, r)
		s, _, err := c.compile(r, Options{Signer: testSigner{"1"}, Records: testRecords[5:7]})
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.seal(testSerial); err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for e := range s.all() {
			if !e.empty() {
				want = append(want, e.name)
			}
			if e.empty() != (e.set(dns.TypeNSEC) == nil) {
				t.Fatalf("%s: empty %v, NSEC %v", e.name, e.empty(), e.set(dns.TypeNSEC))
			}
			for _, set := range e.sets {
				if len(set.rrs) > 0 && len(set.sigs) != 1 {
					t.Fatalf("%s %s has %d signatures", e.name, dns.TypeToString[set.rrtype], len(set.sigs))
				}
			}
		}
		at := s.domain
		for range want {
			got = append(got, at)
			at = s.entry(at).set(dns.TypeNSEC).rrs[0].(*dns.NSEC).NextDomain
		}
		if at != s.domain || !slices.Equal(got, want) {
			t.Fatalf("the chain is %v and then %s, want %v and the apex", got, at, want)
		}
	}
}

// TestDenialIsProven asks signed zones for what does not exist and checks the proof by the rules of RFC 4035 §5.4.
func TestDenialIsProven(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	denied := 0
	for i := range 100 {
		s := mustCompile(t, randomRoster(rng), Options{Signer: testSigner{"1"}, Records: [][]dns.RR{nil, testRecords}[i%2]})
		for _, qname := range append(questions(s), "a.b.c.d."+apex, "x.b.c."+apex, "b.c."+apex, "c."+apex, "zzz."+apex, "\\000."+apex) {
			for _, qtype := range []uint16{dns.TypeTXT, dns.TypeSRV, dns.TypeDS} {
				a := s.Lookup(qname, qtype, true)
				if a.AA && len(a.Ns) > 0 && !s.entry(dns.CanonicalName(qname)).isAlias() {
					denied++
					checkProof(t, dns.CanonicalName(qname), qtype, a)
				}
			}
		}
	}
	if denied < 1000 {
		t.Errorf("only %d denials", denied)
	}
}

// checkProof wants one SOA, every set signed, and NSEC records that deny the name and the wildcard, or the type.
func checkProof(t *testing.T, qname string, qtype uint16, a Answer) {
	t.Helper()
	var nsecs []*dns.NSEC
	soa, sigs := 0, map[string]bool{}
	for _, rr := range a.Ns {
		switch rr := rr.(type) {
		case *dns.SOA:
			soa++
		case *dns.NSEC:
			nsecs = append(nsecs, rr)
		case *dns.RRSIG:
			sigs[rr.Hdr.Name+dns.TypeToString[rr.TypeCovered]] = true
		}
	}
	signed := sigs[apex+"SOA"]
	for _, n := range nsecs {
		signed = signed && sigs[n.Hdr.Name+"NSEC"]
	}
	if soa != 1 || !signed {
		t.Fatalf("%s: %d SOA, signed %v: %v", qname, soa, signed, a.Ns)
	}
	if a.Rcode == dns.RcodeSuccess {
		n := nsecs[0]
		matches := n.Hdr.Name == qname && !slices.Contains(n.TypeBitMap, qtype) && !slices.Contains(n.TypeBitMap, dns.TypeCNAME)
		below := covers(n, qname) && dns.IsSubDomain(qname, n.NextDomain) // an empty non-terminal
		if len(nsecs) != 1 || !matches && !below {
			t.Fatalf("%s %d: NODATA is not proven by %v", qname, qtype, nsecs)
		}
		return
	}
	encloser := ""
	name := false
	for _, n := range nsecs {
		if covers(n, qname) {
			name = true
			for _, end := range []string{n.Hdr.Name, n.NextDomain} {
				k := dns.CompareDomainName(qname, end)
				labels := dns.SplitDomainName(qname)
				if c := strings.Join(labels[len(labels)-k:], ".") + "."; len(c) > len(encloser) {
					encloser = c
				}
			}
		}
	}
	wildcard := slices.ContainsFunc(nsecs, func(n *dns.NSEC) bool { return covers(n, "*."+encloser) })
	if !name || !wildcard {
		t.Fatalf("%s: name denied %v, wildcard *.%s denied %v by %v", qname, name, encloser, wildcard, nsecs)
	}
}

// covers reports whether a name lies strictly between an NSEC record's owner and its successor.
func covers(n *dns.NSEC, name string) bool {
	wire := func(name string) []byte {
		w, _ := appendWire(nil, name)
		return w
	}
	after := compareLabels(wire(n.Hdr.Name), wire(name)) < 0
	before := n.NextDomain == apex || compareLabels(wire(name), wire(n.NextDomain)) < 0
	return after && before
}
