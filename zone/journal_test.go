package zone

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// TestJournalLeadsToThePresent applies what Since gives to each older version and wants the present one.
func TestJournalLeadsToThePresent(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(15, 16))
			p, store := newPublisher(t)
			contents := map[uint32][]string{}
			r, incremental, full := dualStack(12), 0, 0
			for i := range 160 {
				o := Options{Aliases: i%40 == 39}
				if signed {
					o.Signer = testSigner{fmt.Sprint(i / 60)}
				}
				p.SetOptions(o)
				if i%10 == 9 {
					// A peer serves this content by a later serial, which is taken over.
					publish(t, p, r, Published{store.Load().Serial() + 1, store.Load().Digest()})
				} else {
					r = mutate(rng, r)
					publish(t, p, r)
				}
				v := store.Version()
				if v == nil {
					continue
				}
				now := lines(slices.Collect(v.Records()))
				if len(now)+1 != v.Len() {
					t.Fatalf("Len is %d, there are %d records and the SOA", v.Len(), len(now))
				}
				for serial, was := range contents {
					changes, ok := v.Since(serial)
					if !ok {
						full++
						continue
					}
					incremental++
					at := serial
					for _, d := range changes {
						if d.From.Serial != at {
							t.Fatalf("a change leads from %d, want from %d", d.From.Serial, at)
						}
						at = d.To.Serial
						was = apply(t, was, d.Removed, d.Added)
					}
					if at != v.SOA().Serial || !slices.Equal(was, now) {
						t.Fatalf("from %d to %d the journal gives\n%v\nwant\n%v", serial, at, was, now)
					}
				}
				contents[v.SOA().Serial] = now
			}
			if incremental < 100 || full < 100 {
				t.Errorf("%d by the journal, %d without", incremental, full)
			}
		})
	}
}

// mutate changes a born rack a little.
func mutate(rng *rand.Rand, r roster.Roster) roster.Roster {
	r = r.Clone()
	members := r.Clusters[0].Members
	i := rng.IntN(len(members))
	switch rng.IntN(3) {
	case 0:
		members[i].Serving = !members[i].Serving
	case 1:
		r.Nodes[i].Addrs[0] = netip.AddrFrom4([4]byte{10, 9, byte(rng.IntN(250)), byte(i + 1)})
	case 2:
		if len(members) > 3 {
			r.Clusters[0].Members = slices.Delete(members, i, i+1)
		} else {
			r.Clusters = dualStack(12).Clusters
		}
	}
	return r
}

func lines(rrs []dns.RR) (out []string) {
	for _, rr := range rrs {
		out = append(out, rr.String())
	}
	slices.Sort(out)
	return out
}

func apply(t *testing.T, to []string, removed, added []dns.RR) []string {
	t.Helper()
	to = slices.Clone(to)
	for _, l := range lines(removed) {
		i := slices.Index(to, l)
		if i < 0 {
			t.Fatalf("%s is removed, and was not there", l)
		}
		to = slices.Delete(to, i, i+1)
	}
	to = append(to, lines(added)...)
	slices.Sort(to)
	return to
}

func TestNoVersionBeforeAllIsKnown(t *testing.T) {
	for name, src := range sources(t) {
		p, store := newPublisher(t)
		publish(t, p, src.Roster)
		incomplete := slices.Contains([]string{"unknown", "no_address", "no_address_serving", "clusters", "named_only", "named_unknown", "outside"}, name)
		if got := store.Version() == nil; got != incomplete {
			t.Errorf("%s: no version %v, want %v", name, got, incomplete)
		}
	}
}

func TestReverse(t *testing.T) {
	r := dualStack(20)
	r.Nodes[3].PeerAddrs = []netip.Addr{netip.MustParseAddr("10.0.0.200")}
	for _, tc := range []struct {
		zone, prefix string
		want         map[string]string
	}{
		{"0.0.10.in-addr.arpa.", "10.0.0.0/24", map[string]string{
			"1.0.0.10.in-addr.arpa.": "node00.", "20.0.0.10.in-addr.arpa.": "node19.", "200.0.0.10.in-addr.arpa.": "node03-peer.", "21.0.0.10.in-addr.arpa.": ""}},
		{"10.in-addr.arpa.", "10.0.0.0/8", map[string]string{"1.0.0.10.in-addr.arpa.": "node00.", "0.10.in-addr.arpa.": "", "9.10.in-addr.arpa.": ""}},
		{"0/29.0.0.10.in-addr.arpa.", "10.0.0.0/29", map[string]string{"7.0/29.0.0.10.in-addr.arpa.": "node06.", "8.0/29.0.0.10.in-addr.arpa.": ""}},
		{"8.b.d.0.1.0.0.2.ip6.arpa.", "2001:db8::/32", map[string]string{
			"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.": "node01."}},
	} {
		s, err := CompileReverse(Reverse{tc.zone, netip.MustParsePrefix(tc.prefix)}, r, Options{}, testSerial)
		if err != nil {
			t.Fatal(err)
		}
		for name, host := range tc.want {
			a := s.Lookup(name, dns.TypePTR, false)
			switch {
			case host != "" && (len(a.Answer) != 1 || a.Answer[0].(*dns.PTR).Ptr != host+apex || a.Answer[0].Header().Ttl != 30):
				t.Errorf("%s: %+v, want %s", name, a, host)
			case host == "" && (len(a.Answer) > 0 || len(a.Ns) != 1):
				t.Errorf("%s: %+v, want a denial", name, a)
			}
			checkTwin(t, s, name, dns.TypePTR, false, 512)
		}
		if got := s.Lookup(tc.zone, dns.TypeNS, false); len(got.Answer) != 5 || len(got.Extra) != 0 {
			t.Errorf("NS of %s: %+v, want five and no addresses", tc.zone, got)
		}
		if got := s.Lookup("0.10.in-addr.arpa.", dns.TypeTXT, false); tc.zone == "10.in-addr.arpa." && got.Rcode != dns.RcodeSuccess {
			t.Errorf("an empty non-terminal is %s", dns.RcodeToString[got.Rcode])
		}
	}
}

// TestReverseFollowsTheRoster publishes a reverse zone that changes with the nodes only.
func TestReverseFollowsTheRoster(t *testing.T) {
	p, store := newPublisher(t)
	v := NewReversePublisher(store, Reverse{"10.in-addr.arpa.", netip.MustParsePrefix("10.0.0.0/8")}, Options{}, p.serials)
	r := dualStack(4)
	publish(t, v, r)
	first := store.Load()
	r = r.Clone()
	r.Clusters[0].Members[0].Serving = false
	if publish(t, v, r) {
		t.Error("health is a change of a reverse zone")
	}
	r = r.Clone()
	r.Nodes = r.Nodes[1:]
	r.NameServers = r.NameServers[1:]
	r.Clusters[0].Members = r.Clusters[0].Members[1:]
	if !publish(t, v, r) {
		t.Error("a node less is no change")
	}
	changes, ok := store.Version().Since(first.Serial())
	if !ok || len(changes) != 1 || len(changes[0].Removed) != 2 || len(changes[0].Added) != 0 {
		t.Errorf("changes %+v, %v; want one that removes a PTR and an NS record", changes, ok)
	}
}
