package zone

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// TestSameAnswersAsPluginFile loads the zone's text into CoreDNS's own server for zone files and asks both the same
// questions. What differs on purpose is listed here, each with a check of its own elsewhere:
//
//  1. not ready: file does not know of it (TestServeDNS);
//  2. ANY: file answers NODATA for it, etcdsrv by RFC 8482 (TestServeDNS);
//  3. meta types (TestQueryTypesAndOpcodes);
//  4. authority of positive answers: file adds the NS set, etcdsrv nothing;
//  5. negative TTL: file leaves the SOA's own, etcdsrv lowers it to MINIMUM (RFC 2308 §3);
//  6. additional of NS at the apex: file includes glue in the order of its tree, so sections are compared as sets;
//  7. OPT: CoreDNS's server adds it behind plugin file;
//  8. NXDOMAIN with DO: for the wildcard file takes the closest name with records, also where an empty non-terminal is closer
//     (RFC 4592 §2.2.2), and its proof is another one then. That ours suffices is TestDenialIsProven's.
func TestSameAnswersAsPluginFile(t *testing.T) {
	for name, src := range sources(t) {
		t.Run(name, func(t *testing.T) {
			asked := compareWithFile(t, mustCompile(t, src.Roster, src.Options), questions)
			src.Options.Signer = testSigner{}
			asked += compareWithFile(t, mustCompile(t, src.Roster, src.Options), questions)
			if asked < 600 {
				t.Errorf("only %d questions compared", asked)
			}
		})
	}
	rng := rand.New(rand.NewPCG(17, 18))
	asked := 0
	for i := range 60 {
		// Aliases within the zone are left out: file does not answer for the end of a chain that is NXDOMAIN (RFC 6604).
		o := Options{Records: [][]dns.RR{nil, testRecords[5:]}[i%2]}
		if i%3 == 0 {
			o.Signer = testSigner{}
		}
		snap := mustCompile(t, randomRoster(rng), o)
		asked += compareWithFile(t, snap, func(s *Snapshot) []string { return append(questions(s), generated(rng, s)...) })
	}
	if asked < 20000 {
		t.Errorf("only %d generated questions compared", asked)
	}
}

// generated makes names from the labels of the zone's own, in any order and number.
func generated(rng *rand.Rand, s *Snapshot) (out []string) {
	var labels []string
	for e := range s.all() {
		labels = append(labels, dns.SplitDomainName(strings.TrimSuffix(e.name, s.domain))...)
	}
	labels = append(labels, "*", "x", `\000`)
	for range 20 {
		name := s.domain
		for range 1 + rng.IntN(4) {
			name = labels[rng.IntN(len(labels))] + "." + name
		}
		out = append(out, name)
	}
	return out
}

// compareWithFile asks both, with DO as well if the zone is signed, and returns how many questions were compared.
func compareWithFile(t *testing.T, snap *Snapshot, names func(*Snapshot) []string) (asked int) {
	t.Helper()
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNS, dns.TypeSOA, dns.TypeTXT, dns.TypeMX, dns.TypeCNAME, dns.TypeDS,
		dns.TypeCAA, dns.TypePTR, dns.TypeDNSKEY, dns.TypeHTTPS, 65280}
	z, err := file.Parse(strings.NewReader(text(t, snap)), apex, "zone", 0)
	if err != nil {
		t.Fatal(err)
	}
	oracle := file.File{Zones: file.Zones{Z: map[string]*file.Zone{apex: z}, Names: []string{apex}}}
	ours := serving(snap)
	dos := []bool{false}
	if snap.signer != nil {
		dos = append(dos, true)
	}
	for _, qname := range names(snap) {
		for _, qtype := range types {
			for _, do := range dos {
				q := new(dns.Msg).SetQuestion(qname, qtype)
				if do {
					q.SetEdns0(front.MaxUDPSize, true)
				}
				got := ask(t, ours, q)
				if got.Rcode == dns.RcodeServerFailure {
					continue // 1
				}
				asked++
				want := askFrom(t, oracle, q, &test.ResponseWriter{TCP: true})
				if len(want.Answer) > 0 {
					want.Ns = nil // 4
				}
				for _, rr := range want.Ns {
					rr.Header().Ttl = min(rr.Header().Ttl, soaMinimum) // 5
				}
				if do && got.Rcode == dns.RcodeNameError && !shareProof(got, want) {
					t.Errorf("%s %s: no NSEC record is in both denials", qname, dns.TypeToString[qtype])
				}
				if a, b := canonical(got), canonical(want); a != b {
					t.Errorf("%s %s, DO %v: etcdsrv says\n%s\nfile says\n%s", qname, dns.TypeToString[qtype], do, a, b)
				}
			}
		}
	}
	return asked
}

// shareProof leaves the NSEC records in both denials that they have in common (8), and is false when there is none.
func shareProof(a, b *dns.Msg) (shared bool) {
	both := slices.Clone(a.Ns)
	for i, m := range []*dns.Msg{a, b} {
		other := [][]dns.RR{b.Ns, both}[i]
		m.Ns = slices.DeleteFunc(slices.Clone(m.Ns), func(rr dns.RR) bool { return proves(rr) && !contains(other, rr) })
	}
	return slices.ContainsFunc(a.Ns, proves)
}

// proves says whether a record is an NSEC or the signature of one.
func proves(rr dns.RR) bool {
	sig, ok := rr.(*dns.RRSIG)
	return rr.Header().Rrtype == dns.TypeNSEC || ok && sig.TypeCovered == dns.TypeNSEC
}

func contains(section []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(section, func(other dns.RR) bool { return other.String() == rr.String() })
}

// questions returns every name of the zone, names beside, above within the zone and below them, and other letter cases.
func questions(s *Snapshot) (out []string) {
	for e := range s.all() {
		name := e.name
		out = append(out, name, "x."+name, "*."+name, strings.ToUpper(name))
		if _, parent, ok := strings.Cut(name, "."); ok && name != s.domain {
			out = append(out, "a."+parent, "zz."+parent)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// canonical returns what of a message is compared: rcode, flags and the sections as sets (6), owners in lower case.
func canonical(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" AA")
	}
	if m.Truncated {
		b.WriteString(" TC")
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		b.WriteString("\n--")
		lines := []string{}
		for _, rr := range section {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue // 7
			}
			lines = append(lines, strings.ToLower(rr.String()))
		}
		slices.Sort(lines)
		for _, l := range lines {
			b.WriteString("\n" + l)
		}
	}
	return b.String()
}
