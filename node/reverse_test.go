package node

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
)

func TestReverseZones(t *testing.T) {
	for _, c := range []struct{ key, name, prefix, addr, owner string }{
		{"10.0.1.0/24", "1.0.10.in-addr.arpa.", "10.0.1.0/24", "10.0.1.10", "10.1.0.10.in-addr.arpa."},
		{"1.0.10.IN-ADDR.ARPA", "1.0.10.in-addr.arpa.", "10.0.1.0/24", "10.0.1.10", "10.1.0.10.in-addr.arpa."},
		{"10.in-addr.arpa.", "10.in-addr.arpa.", "10.0.0.0/8", "10.9.8.7", "7.8.9.10.in-addr.arpa."},
		{"10.0.0.0/16:5300", "0.10.in-addr.arpa.", "10.0.0.0/16", "10.0.1.10", "10.1.0.10.in-addr.arpa."},
		{"0/25.1.0.10.in-addr.arpa", "0/25.1.0.10.in-addr.arpa.", "10.0.1.0/25", "10.0.1.10", "10.0/25.1.0.10.in-addr.arpa."},
		{"128-255.1.0.10.in-addr.arpa", "128-255.1.0.10.in-addr.arpa.", "10.0.1.128/25", "10.0.1.200", "200.128-255.1.0.10.in-addr.arpa."},
		{"8/32.1.0.10.in-addr.arpa", "8/32.1.0.10.in-addr.arpa.", "10.0.1.8/32", "10.0.1.8", "8.8/32.1.0.10.in-addr.arpa."},
		{"rack1.1.0.10.in-addr.arpa", "rack1.1.0.10.in-addr.arpa.", "10.0.1.0/24", "10.0.1.10", "10.rack1.1.0.10.in-addr.arpa."},
		{"fd00:1::/32", "1.0.0.0.0.0.d.f.ip6.arpa.", "fd00:1::/32", "fd00:1::a", "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa."},
		{"d.f.ip6.arpa", "d.f.ip6.arpa.", "fd00::/8", "fd12::", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.1.d.f.ip6.arpa."},
	} {
		text := strings.Replace(goodCorefile, "rack1.example.com {", "rack1.example.com "+c.key+" {", 1)
		o, err := ParseCorefile("Corefile", []byte(text))
		if err != nil || len(o.Reverse) != 1 || o.Domain != "rack1.example.com." {
			t.Errorf("%s: %v", c.key, err)
			continue
		}
		z := o.Reverse[0]
		if z.Zone != c.name || z.Prefix.String() != c.prefix {
			t.Errorf("%s: got %s for %s, want %s and %s", c.key, z.Zone, z.Prefix, c.name, c.prefix)
			continue
		}
		// The compiler publishes the address at the name that a resolver asks for.
		r := roster.Roster{Domain: o.Domain, Nodes: []roster.Node{{Name: "infra0", Addrs: []netip.Addr{netip.MustParseAddr(c.addr)}}},
			NameServers: []roster.NameServer{{Name: "ns.example.net."}}}
		snap, err := zone.CompileReverse(z, r, zone.Options{}, 1)
		if err != nil {
			t.Errorf("%s: %v", c.key, err)
			continue
		}
		if a := snap.Lookup(c.owner, dns.TypePTR, false); len(a.Answer) != 1 || a.Answer[0].(*dns.PTR).Ptr != "infra0.rack1.example.com." {
			t.Errorf("%s: %s PTR is %v", c.key, c.owner, a)
		}
	}
}

func TestReverseZonesRefused(t *testing.T) {
	for keys, what := range map[string]string{
		"10.0.1.10/32":             "is the name of one address",
		"10.0.1.0/25":              "is the name of one address", // CoreDNS makes 128 names of it
		"300.0.10.in-addr.arpa":    "is not a reverse zone",
		"01.0.10.in-addr.arpa":     "is not a reverse zone",
		"in-addr.arpa":             "is not a reverse zone",
		"home.arpa":                "is not a reverse zone",
		"g.ip6.arpa":               "is not a reverse zone",
		"10.d.f.ip6.arpa":          "is not a reverse zone",
		"5/25.1.0.10.in-addr.arpa": "stands for no part of 10.0.1.0/24",
		"0/24.1.0.10.in-addr.arpa": "stands for no part of 10.0.1.0/24",
		"10.0.0.0/9":               "more than 64 reverse zones",
		"10.0.1.0/24 10.0.0.0/16":  "overlap",
		"10.0.1.0/24 1.0.10.in-addr.arpa 0/25.1.0.10.in-addr.arpa": "overlap",
	} {
		text := strings.Replace(goodCorefile, "rack1.example.com {", "rack1.example.com "+keys+" {", 1)
		_, err := ParseCorefile("Corefile", []byte(text))
		var hint interface{ Hint() string }
		if err == nil || !errors.As(err, &hint) || hint.Hint() == "" || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v, want %q", keys, err, what)
		}
	}
}

func TestReverseZoneWithoutNodes(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "rack1.example.com {", "rack1.example.com 10.0.2.0/24 {", 1))
	if len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], "2.0.10.in-addr.arpa. (10.0.2.0/24) has no node's address") {
		t.Errorf("warnings %q", o.Warnings)
	}
}

// What CoreDNS hands to the plugin's setup gives the same zones as the keys in the file.
func TestReverseKeysOfCoreDNS(t *testing.T) {
	keys := []string{"rack1.example.com", "10.0.0.0/20", "0/25.1.1.10.in-addr.arpa", "fd00::/8"}
	want := mustParse(t, strings.Replace(goodCorefile, "rack1.example.com {", strings.Join(keys, " ")+" {", 1)).Reverse
	if len(want) != 16+1+1 {
		t.Fatalf("%d zones", len(want))
	}
	var names []string
	for _, k := range keys {
		names = append(names, plugin.Host(k).NormalizeExact()...)
	}
	for i := range names {
		names[i] = "dns://" + names[i] + ":" + dnsserver.Port
	}
	text := goodCorefile[strings.Index(goodCorefile, "{")+1:]
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader("x {"+text), Directives())
	if err != nil {
		t.Fatal(err)
	}
	d := caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens[pluginName])
	o, err := parseStanza(&d, "Corefile", names)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Reverse) != len(want) {
		t.Fatalf("got %d zones, want %d", len(o.Reverse), len(want))
	}
	for i := range want {
		if o.Reverse[i] != want[i] {
			t.Errorf("got %v, want %v", o.Reverse[i], want[i])
		}
	}
}
