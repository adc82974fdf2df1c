package zone

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// fast asks the packed forms as the front does; nil for a miss.
func fast(t testing.TB, s *Snapshot, qname string, qtype uint16, do bool, limit int) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(qname, qtype)
	q.Response = true
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, 65535)
	n := copy(msg, b)
	wire := append([]byte(nil), b[headerLen:n-4]...)
	lower(wire)
	before := string(msg[:n])
	r := s.Answer(&front.Question{Name: wire, Type: qtype, DO: do}, msg, n, limit)
	if r.Len == 0 {
		if string(msg[:n]) != before {
			t.Fatalf("%s %d: a miss changed the header or the question", qname, qtype)
		}
		return nil
	}
	if r.Len > limit {
		t.Fatalf("%s %d: %d octets, at most %d fit", qname, qtype, r.Len, limit)
	}
	m := new(dns.Msg)
	if err := m.Unpack(msg[:r.Len]); err != nil {
		t.Fatalf("%s %d: %v\n%x", qname, qtype, err, msg[:r.Len])
	}
	if m.Rcode != int(r.Rcode) || r.Owner == 0 {
		t.Fatalf("%s %d: rcode %d, owner %d, message:\n%v", qname, qtype, r.Rcode, r.Owner, m)
	}
	return m
}

// checkTwin compares a packed answer with the message that the handler builds for the same question.
func checkTwin(t testing.TB, s *Snapshot, qname string, qtype uint16, do bool, limit int) (hit bool) {
	t.Helper()
	got := fast(t, s, qname, qtype, do, limit)
	if got == nil {
		return false
	}
	q := new(dns.Msg).SetQuestion(qname, qtype)
	want := new(dns.Msg).SetReply(q)
	a := s.Lookup(qname, qtype, do)
	want.Rcode, want.Authoritative = a.Rcode, a.AA
	want.Answer, want.Ns, want.Extra = ownedBy(a.Answer, qname), slices.Clone(a.Ns), slices.Clone(a.Extra)
	fit(want, limit)
	if got.Truncated != want.Truncated {
		// miekg/dns compresses what we leave, and leaves names in other letter case, so one may fit where the other does not.
		want.Rcode, want.Authoritative = a.Rcode, a.AA
		want.Answer, want.Ns, want.Extra = a.Answer, a.Ns, nil
		want.Compress = true
		if n := want.Len(); n < limit-200 || n > limit+200 {
			t.Fatalf("%s %s, %d octets: truncated %v, message of %d octets", qname, dns.TypeToString[qtype], limit, got.Truncated, n)
		}
		return true
	}
	g, w := repack(t, got), repack(t, want)
	if len(g.Extra) > len(w.Extra) {
		// Pointers into the question save octets that a message of miekg/dns, which has none to SRV targets, needs.
		w.Extra = ownedAll(a.Extra)[:len(g.Extra)]
	}
	if a, b := canonical(g), canonical(w); a != b || !strings.EqualFold(g.Question[0].Name, qname) || g.Question[0].Name != w.Question[0].Name {
		t.Fatalf("%s %s, %d octets, DO %v: packed\n%s\nmessage\n%s", qname, dns.TypeToString[qtype], limit, do, a, b)
	}
	return true
}

func ownedAll(rrs []dns.RR) []dns.RR { return slices.Clone(rrs) }

func (e *entry) isAlias() bool { return e != nil && e.alias }

var twinTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNS, dns.TypeSOA, dns.TypeTXT, dns.TypeDS, dns.TypeANY, dns.TypeDNSKEY,
	dns.TypeNSEC, dns.TypeRRSIG, dns.TypeHTTPS, 65280}

// TestPackedAnswersEqualMessages asks everything of every zone both ways.
func TestPackedAnswersEqualMessages(t *testing.T) {
	zones := map[string]*Snapshot{}
	for name, src := range sources(t) {
		zones[name] = mustCompile(t, src.Roster, src.Options)
	}
	for _, n := range []int{7, 40} {
		zones[fmt.Sprintf("dual stack %d", n)] = mustCompile(t, dualStack(n), Options{Aliases: true})
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 8 {
		zones[fmt.Sprintf("random %d", i)] = mustCompile(t, randomRoster(rng), Options{Signer: []sign.Signer{nil, testSigner{"1"}}[i%2], Records: [][]dns.RR{nil, testRecords}[i/2%2]})
	}
	for name, src := range sources(t) {
		src.Options.Signer = testSigner{"1"}
		zones["signed "+name] = mustCompile(t, src.Roster, src.Options)
	}
	hits, misses := 0, 0
	for name, s := range zones {
		t.Run(name, func(t *testing.T) {
			for _, qname := range questions(s) {
				for _, qtype := range twinTypes {
					for _, limit := range []int{501, 512, 1232, 65535} {
						if checkTwin(t, s, qname, qtype, limit != 512, limit) {
							hits++
							continue
						}
						misses++
						if a := s.Lookup(qname, qtype, limit != 512); a.AA && !(qtype == dns.TypeRRSIG && s.signer != nil) && !s.entry(dns.CanonicalName(qname)).isAlias() {
							t.Errorf("%s %s is a miss, and would be answered %+v", qname, dns.TypeToString[qtype], a)
						}
					}
				}
			}
		})
	}
	if hits < 10000 || misses < 100 {
		t.Errorf("%d answers compared, %d misses", hits, misses)
	}
}

func TestFastMisses(t *testing.T) {
	s := load(t, "born")
	for qtype := range []uint16{0, dns.TypeOPT, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeTSIG, dns.TypeTKEY, dns.TypeNXNAME} {
		if m := fast(t, s, apex, []uint16{0, dns.TypeOPT, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeTSIG, dns.TypeTKEY, dns.TypeNXNAME}[qtype], false, 512); m != nil {
			t.Errorf("meta type answered:\n%v", m)
		}
	}
	for _, name := range []string{".", "org.", "example.org.", "xrack1.example.org.", `a\.rack1.example.org.`, "rack1.example.net."} {
		if m := fast(t, s, name, dns.TypeA, false, 512); m != nil {
			t.Errorf("%s answered:\n%v", name, m)
		}
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	msg := make([]byte, 4096)
	for kind, s := range map[string]*Snapshot{"unsigned": mustCompile(t, dualStack(7), Options{}), "signed": mustCompile(t, dualStack(7), Options{Signer: testSigner{"1"}})} {
		for _, name := range []string{server, "nosuch." + apex, "_tcp." + apex, "x.y.nosuch." + apex, apex} {
			for _, do := range []bool{false, true} {
				for _, limit := range []int{512, 1232, len(msg)} { // cut off, without additional records, and whole
					wire, _ := appendWire(nil, name)
					n := headerLen + copy(msg[headerLen:], wire) + 4
					q := &front.Question{Name: wire, Type: dns.TypeSRV, DO: do}
					if got := testing.AllocsPerRun(100, func() {
						if s.Answer(q, msg, n, limit).Len == 0 {
							t.Fatal("a miss")
						}
					}); got != 0 {
						t.Errorf("%s, %s, DO %v, in %d octets: %v allocations, want 0", kind, name, do, limit, got)
					}
				}
			}
		}
	}
}

// FuzzTwin asks any name and type both ways.
func FuzzTwin(f *testing.F) {
	zones := []*Snapshot{load(f, "born"), load(f, "unknown"), load(f, "dual_stack"), mustCompile(f, dualStack(40), Options{Aliases: true}),
		mustCompile(f, dualStack(5), Options{Signer: testSigner{"1"}})}
	for _, name := range []string{apex, server, "x." + server, "nosuch." + apex, "_TCP." + apex, "."} {
		wire, _ := appendWire(nil, name)
		f.Add(wire, uint16(dns.TypeSRV), uint16(512), true)
		f.Add(wire, uint16(dns.TypeANY), uint16(1232), false)
	}
	f.Fuzz(func(t *testing.T, wire []byte, qtype, limit uint16, do bool) {
		name, _, err := dns.UnpackDomainName(wire, 0)
		if err != nil || limit < 512 {
			return
		}
		for _, s := range zones {
			hit := checkTwin(t, s, name, qtype, do, int(limit))
			if a := s.Lookup(name, qtype, do); !hit && a.AA && !(qtype == dns.TypeRRSIG && s.signer != nil) {
				t.Fatalf("%q %d is a miss, and would be answered %+v", name, qtype, a)
			}
		}
	})
}

// TestIncrementalCompile goes from one random roster to the next and wants what compiling each from nothing gives.
func TestIncrementalCompile(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	c := new(compiler)
	r := randomRoster(rng)
	for i := range rounds {
		r = step(rng, r)
		if i%50 == 7 {
			bad := r.Clone()
			bad.Clusters = append(bad.Clusters, roster.Cluster{Name: "ssl"})
			if _, _, err := c.compile(bad, Options{}); err == nil {
				t.Fatal("a bad roster was taken")
			}
		}
		o := Options{Aliases: i%100 < 10}
		if i%500 > 250 {
			o.Signer = testSigner{fmt.Sprint(i / 600)}
		}
		if i%300 > 200 {
			o.Records = testRecords
		}
		got, _, err := c.compile(r, o)
		if err != nil {
			t.Fatal(err)
		}
		want := mustCompile(t, r, o)
		sealed, err := got.seal(testSerial)
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, sealed, want)
	}
}

// step changes one roster a little, or takes another.
func step(rng *rand.Rand, r roster.Roster) roster.Roster {
	next := r.Clone()
	other := randomRoster(rng)
	switch rng.IntN(5) {
	case 0:
		return other
	case 1:
		next.Clusters = other.Clusters
		for i := range next.Clusters { // members must be nodes of this roster
			if next.Clusters[i].Knowledge == roster.Born {
				next.Clusters[i] = randomCluster(rng, next.Clusters[i].Name, next.Nodes)
			}
		}
	case 2:
		i := rng.IntN(len(next.Nodes))
		next.Nodes[i].Addrs = other.Nodes[0].Addrs
	case 3:
		for i := range next.Clusters {
			if len(next.Clusters[i].Members) > 0 {
				next.Clusters[i].Members[0].Serving = !next.Clusters[i].Members[0].Serving
			}
		}
	case 4:
		next.NameServers = append(next.NameServers[:1:1], roster.NameServer{Name: "ns.outside.example.", Addrs: nil})
		if rng.IntN(2) == 0 {
			next.NameServers = append(next.NameServers, roster.NameServer{Name: "ns.deep.below." + apex, Addrs: other.NameServers[0].Addrs})
		}
	}
	return next
}

// checkSame compares two snapshots down to the packed answers.
func checkSame(t *testing.T, got, want *Snapshot) {
	t.Helper()
	if a, b := text(t, got), text(t, want); a != b {
		t.Fatalf("incrementally\n%s\nfrom nothing\n%s", a, b)
	}
	if got.Digest() != want.Digest() || got.unready != want.unready || got.names.count != want.names.count {
		t.Fatalf("digest %s, %d names, %d unready; want %s, %d, %d", got.Digest(), got.names.count, got.unready, want.Digest(), want.names.count, want.unready)
	}
	for e := range want.all() {
		o := got.entry(e.name)
		if o == nil || string(o.packed) != string(e.packed) {
			t.Fatalf("%s is not packed the same", e.name)
		}
		for i := range e.sets {
			a, b := got.Lookup(e.name, e.sets[i].rrtype, false), want.Lookup(e.name, e.sets[i].rrtype, false)
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("%s: %v, want %v", e.name, a, b)
			}
		}
	}
}
