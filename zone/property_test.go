package zone

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// randomRoster makes a valid roster: up to six nodes, some without an address, and up to three clusters in any state.
func randomRoster(rng *rand.Rand) roster.Roster {
	r := roster.Roster{Domain: apex, NameServers: []roster.NameServer{{Name: "ns1." + apex, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}}}
	slots := rng.Perm(roster.MaxSlot + 1)
	for i := range 1 + rng.IntN(6) {
		n := roster.Node{Name: fmt.Sprintf("n%d", i), Slot: slots[i]}
		for j := range rng.IntN(4) {
			n.Addrs = append(n.Addrs, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(j), byte(i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", j, i+1))}[rng.IntN(2)])
		}
		if rng.IntN(3) == 0 {
			n.PeerAddrs = []netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, byte(i)})}
		}
		r.Nodes = append(r.Nodes, n)
	}
	for _, name := range []string{"", "foo", "foo-bar"} {
		if rng.IntN(4) > 0 {
			r.Clusters = append(r.Clusters, randomCluster(rng, name, r.Nodes))
		}
	}
	return r
}

func randomCluster(rng *rand.Rand, name string, nodes []roster.Node) roster.Cluster {
	c := roster.Cluster{Name: name, Plain: rng.IntN(2) == 0, Knowledge: roster.Knowledge(rng.IntN(3))}
	if c.Knowledge != roster.Born {
		return c
	}
	for _, i := range rng.Perm(len(nodes))[:1+rng.IntN(len(nodes))] {
		c.Members = append(c.Members, roster.Member{Node: nodes[i].Name, PeerHost: nodes[i].PeerHost(),
			PeerPort: uint16(1 + rng.IntN(65535)), ClientPort: uint16(1 + rng.IntN(65535)), Serving: rng.IntN(2) == 0})
	}
	return c
}

func shuffle(rng *rand.Rand, r roster.Roster) roster.Roster {
	r = r.Clone()
	rng.Shuffle(len(r.Nodes), func(i, j int) { r.Nodes[i], r.Nodes[j] = r.Nodes[j], r.Nodes[i] })
	rng.Shuffle(len(r.Clusters), func(i, j int) { r.Clusters[i], r.Clusters[j] = r.Clusters[j], r.Clusters[i] })
	for _, c := range r.Clusters {
		rng.Shuffle(len(c.Members), func(i, j int) { c.Members[i], c.Members[j] = c.Members[j], c.Members[i] })
	}
	return r
}

const rounds = 2000

func TestThreeAnswersNeverAPart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var complete, denied, waiting int
	for range rounds {
		r := randomRoster(rng)
		s := mustCompile(t, r, Options{})
		for _, c := range r.Clusters {
			suffix := ""
			if c.Name != "" {
				suffix = "-" + c.Name
			}
			for _, kind := range []string{"server", "client"} {
				want := wanted(r, c, kind)
				for _, scheme := range []string{"", "-ssl"} {
					a := s.Lookup("_etcd-"+kind+scheme+suffix+"._tcp."+apex, dns.TypeSRV, false)
					switch {
					case c.Knowledge == roster.Unknown || c.Knowledge == roster.Born && c.Plain == (scheme == "") && want == nil:
						waiting++
						if a.Rcode != dns.RcodeServerFailure || a.AA || len(a.Answer)+len(a.Ns)+len(a.Extra) > 0 {
							t.Fatalf("%s%s of %+v: %+v, want SERVFAIL", kind, scheme, c, a)
						}
					case c.Knowledge == roster.Born && c.Plain == (scheme == ""):
						complete++
						if got := targets(a.Answer); !slices.Equal(got, want) {
							t.Fatalf("%s%s of %+v: %v, want %v", kind, scheme, c, got, want)
						}
						checkGlue(t, s, a)
					default:
						denied++
						if a.Rcode != dns.RcodeNameError || len(a.Ns) != 1 {
							t.Fatalf("%s%s of %+v: %+v, want NXDOMAIN", kind, scheme, c, a)
						}
					}
				}
			}
		}
	}
	if complete < rounds/2 || denied < rounds/2 || waiting < rounds/2 {
		t.Errorf("%d complete, %d denied, %d waiting: the rosters do not cover all", complete, denied, waiting)
	}
}

// wanted works out the targets of a born cluster without the compiler; nil if one has no address.
func wanted(r roster.Roster, c roster.Cluster, kind string) (out []string) {
	some := slices.ContainsFunc(c.Members, func(m roster.Member) bool { return m.Serving })
	for _, m := range c.Members {
		n, _ := r.Node(m.Node)
		host, port, have := m.PeerHost, m.PeerPort, n.Addrs
		if m.PeerHost != m.Node {
			have = n.PeerAddrs
		}
		if kind == "client" {
			if some && !m.Serving {
				continue
			}
			host, port, have = m.Node, m.ClientPort, n.Addrs
		}
		if len(have) == 0 {
			return nil
		}
		out = append(out, fmt.Sprintf("%s.%s:%d", host, apex, port))
	}
	slices.Sort(out)
	return out
}

func targets(rrs []dns.RR) (out []string) {
	for _, rr := range rrs {
		srv := rr.(*dns.SRV)
		out = append(out, fmt.Sprintf("%s:%d", srv.Target, srv.Port))
	}
	slices.Sort(out)
	return out
}

// checkGlue wants every target's addresses, at most one a family, as the targets themselves answer.
func checkGlue(t *testing.T, s *Snapshot, a Answer) {
	t.Helper()
	var want []string
	for _, rr := range a.Answer {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			set := s.Lookup(target(rr), qtype, false).Answer
			if len(set) > 1 {
				t.Fatalf("target %s has %d addresses of one family", target(rr), len(set))
			}
			for _, rr := range set {
				want = append(want, rr.String())
			}
		}
	}
	var got []string
	for _, rr := range a.Extra {
		got = append(got, rr.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(slices.Compact(want), got) {
		t.Fatalf("additional section %v, want %v", got, want)
	}
}

func TestDigestStandsForContent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	contents := map[string]string{}
	for i := range rounds {
		r := randomRoster(rng)
		serial := uint32(i)
		s, err := Compile(r, Options{}, serial)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Compile(shuffle(rng, r), Options{}, serial+1)
		if err != nil {
			t.Fatal(err)
		}
		content := answers(s)
		if again.Digest() != s.Digest() || answers(again) != content {
			t.Fatalf("the order of %+v changes the zone", r)
		}
		if s.Serial() != serial || again.Serial() != serial+1 || text(t, s) == text(t, again) {
			t.Fatal("the serial is not in the zone")
		}
		if other, ok := contents[s.Digest()]; ok && other != content {
			t.Fatalf("one digest for\n%s\nand\n%s", other, content)
		}
		contents[s.Digest()] = content
	}
	seen := map[string]bool{}
	for _, c := range contents {
		if seen[c] {
			t.Fatalf("two digests for\n%s", c)
		}
		seen[c] = true
	}
	if len(contents) < rounds/2 {
		t.Errorf("only %d contents in %d rosters", len(contents), rounds)
	}
}

// answers writes down all that a zone says, without its serial.
func answers(s *Snapshot) string {
	var b strings.Builder
	for e := range s.all() {
		name := e.name
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY} {
			a := s.Lookup(name, qtype, false)
			fmt.Fprintln(&b, name, qtype, a.Rcode, a.AA, a.EDE, a.EDEText)
			for _, rr := range slices.Concat(a.Answer, a.Ns, a.Extra) {
				if soa, ok := rr.(*dns.SOA); ok {
					rr = dns.Copy(rr)
					rr.(*dns.SOA).Serial -= soa.Serial
				}
				fmt.Fprintln(&b, rr)
			}
		}
	}
	return b.String()
}

func TestCompileLeavesItsInputAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		r := shuffle(rng, randomRoster(rng))
		before := fmt.Sprintf("%+v", r)
		mustCompile(t, r, Options{Aliases: true})
		if after := fmt.Sprintf("%+v", r); after != before {
			t.Fatalf("Compile changed its input from\n%s\nto\n%s", before, after)
		}
	}
}
