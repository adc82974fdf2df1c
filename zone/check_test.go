package zone

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"
)

func TestCompileRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*source)
		want   string
	}{
		{"no domain", func(s *source) { s.Roster.Domain = "" }, `domain "" is not an absolute name`},
		{"root", func(s *source) { s.Roster.Domain = "." }, `domain "." is not an absolute name`},
		{"relative domain", func(s *source) { s.Roster.Domain = "rack1.example.org" }, `is not an absolute name`},
		{"bad domain", func(s *source) { s.Roster.Domain = "_a.example.org." }, `label "_a"`},
		{"long names", func(s *source) {
			long := strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 50) + "."
			s.Roster.Domain, s.Roster.NameServers = long, []roster.NameServer{{Name: "infra0." + long}}
		}, "octets, at most 255 fit"},
		{"node name", func(s *source) { s.Roster.Nodes[0].Name = "Infra0" }, `node name "Infra0"`},
		{"digits", func(s *source) { s.Roster.Nodes[0].Name = "007" }, "digits only"},
		{"node twice", func(s *source) { s.Roster.Nodes[1].Name = "infra0" }, `node name "infra0" is taken twice`},
		{"peer name taken", func(s *source) {
			s.Roster.Nodes[1].Name = "infra0-peer"
			s.Roster.Nodes[0].PeerAddrs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		}, `node name "infra0-peer" is taken twice`},
		{"slot", func(s *source) { s.Roster.Nodes[0].Slot = 64 }, "slot 64"},
		{"slot twice", func(s *source) { s.Roster.Nodes[0].Slot = 1 }, "both have slot 1"},
		{"address", func(s *source) { s.Roster.Nodes[0].Addrs[0] = netip.MustParseAddr("fe80::1%eth0") }, "address fe80::1%eth0"},
		{"unset address", func(s *source) { s.Roster.Nodes[0].PeerAddrs = make([]netip.Addr, 1) }, "peer of node infra0"},
		{"no name server", func(s *source) { s.Roster.NameServers = nil }, "no name server"},
		{"name server twice", func(s *source) { s.Roster.NameServers[0] = s.Roster.NameServers[1] }, "listed twice"},
		{"apex as name server", func(s *source) { s.Roster.NameServers[0].Name = apex }, "is the zone itself"},
		{"bad name server", func(s *source) { s.Roster.NameServers[0].Name = "infra0" }, `name server "infra0"`},
		{"lame name server", func(s *source) { s.Roster.NameServers[0].Name = "ns." + apex }, "has no address"},
		{"node without address as name server", func(s *source) { s.Roster.Nodes[0].Addrs = nil }, "has no address"},
		{"foreign glue", func(s *source) {
			s.Roster.NameServers[0] = roster.NameServer{Name: "ns.example.net.", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		}, "outside of rack1.example.org."},
		{"glue of a node", func(s *source) { s.Roster.NameServers[0].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }, "is a node"},
		{"cluster ssl", func(s *source) { s.Roster.Clusters[0].Name = "ssl" }, "would collide"},
		{"cluster ssl-a", func(s *source) { s.Roster.Clusters[0].Name = "ssl-a" }, "would collide"},
		{"long cluster", func(s *source) { s.Roster.Clusters[0].Name = strings.Repeat("a", 47) }, "at most 46 octets"},
		{"cluster name", func(s *source) { s.Roster.Clusters[0].Name = "a.b" }, `cluster name "a.b"`},
		{"cluster twice", func(s *source) { s.Roster.Clusters = append(s.Roster.Clusters, s.Roster.Clusters[0]) }, "listed twice"},
		{"born and empty", func(s *source) { s.Roster.Clusters[0].Members = nil }, "is born and has no members"},
		{"knowledge", func(s *source) { s.Roster.Clusters[0].Knowledge = 3 }, "knowledge 3"},
		{"port", func(s *source) { s.Roster.Clusters[0].Members[0].ClientPort = 0 }, "client port 0"},
		{"member twice", func(s *source) { s.Roster.Clusters[0].Members[0].Node = "infra1" }, `member "infra1" is listed twice`},
		{"peer host twice", func(s *source) { s.Roster.Clusters[0].Members[0].PeerHost = "infra1" }, `have the peer host "infra1"`},
		{"member name", func(s *source) { s.Roster.Clusters[0].Members[0].PeerHost = "a.b" }, `peer host "a.b"`},
		{"contact", func(s *source) { s.Options.Contact = "ops@example.org" }, "is a mail address"},
		{"contact name", func(s *source) { s.Options.Contact = "a..b" }, "is not a domain name"},
		{"ttl", func(s *source) { s.Options.TTL = 1 }, "ttl 1ns"},
		{"record of a node", func(s *source) {
			s.Options.Records = mustRecords("infra0." + apex + " 30 IN A 192.0.2.99")
		}, "stands at a name of a node"},
		{"long ttl", func(s *source) { s.Options.TTL = 2 * maxTTL }, "ttl 2h0m0s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := sources(t)["born"]
			tc.change(&src)
			_, err := Compile(src.Roster, src.Options, testSerial)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			var h interface{ Hint() string }
			if !errors.As(err, &h) || h.Hint() == "" {
				t.Errorf("error %v has no hint", err)
			}
		})
	}
}
