package node

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy/caddyfile"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
)

func parseTransferText(t *testing.T, text string) ([]transferBlock, error) {
	t.Helper()
	d := caddyfile.NewDispenser("Corefile", strings.NewReader(text))
	return parseTransfer(&d, "Corefile", []string{"Rack1.Example.org:5300"})
}

// A name server outside the zone is told of changes at its address, which is not glue of this zone.
func TestNameServerOutside(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "bundle cluster.bundle", "ns infra0\n ns ns.example.net 192.0.2.53 2001:db8::53\n ns ns1 192.0.2.54", 1))
	if got := fmt.Sprint(outside(o)); got != "[192.0.2.53:53 [2001:db8::53]:53 192.0.2.54:53]" {
		t.Errorf("told of changes: %s", got)
	}
	servers := o.Roster(func(string) int { return 0 }).NameServers
	if got := fmt.Sprint(servers); got != "[{infra0.rack1.example.com. []} {ns.example.net. []} {ns1.rack1.example.com. [192.0.2.54]}]" {
		t.Errorf("in the zone: %s", got)
	}
	for _, rr := range o.Delegation() {
		if rr.Header().Name == "ns.example.net." {
			t.Errorf("glue outside of the zone: %v", rr)
		}
	}
}

func TestParseTransfer(t *testing.T) {
	for text, want := range map[string]string{
		"transfer {\n to 192.0.2.53\n}":                              "[rack1.example.org.] any false from [192.0.2.53/32] to [192.0.2.53:53] source invalid IP",
		"transfer {\n to 192.0.2.53:5300 [2001:db8::1]:54\n}":        "[rack1.example.org.] any false from [192.0.2.53/32 2001:db8::1/128] to [192.0.2.53:5300 [2001:db8::1]:54] source invalid IP",
		"transfer {\n to 2001:db8::1 ::ffff:192.0.2.1\n}":            "[rack1.example.org.] any false from [2001:db8::1/128 192.0.2.1/32] to [[2001:db8::1]:53 192.0.2.1:53] source invalid IP",
		"transfer {\n to 192.0.2.0/24\n to 2001:db8::/64\n}":         "[rack1.example.org.] any false from [192.0.2.0/24 2001:db8::/64] to [] source invalid IP",
		"transfer A.example b.example {\n to *\n source 10.0.0.1\n}": "[a.example. b.example.] any true from [] to [] source 10.0.0.1",
	} {
		blocks, err := parseTransferText(t, text)
		if err != nil || len(blocks) != 1 {
			t.Errorf("%s: %v, %d blocks", text, err, len(blocks))
			continue
		}
		b := blocks[0]
		if got := fmt.Sprintf("%v any %v from %v to %v source %v", b.zones, b.any, b.from, b.to, b.source); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestParseTransferRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"transfer":                                            "1: transfer without a `to` line",
		"transfer {\n}":                                       "1: transfer without a `to` line",
		"transfer {\n to\n}":                                  "2: `to` without an address",
		"transfer {\n to ns1.example.net\n}":                  `2: "ns1.example.net" is not an address of a secondary`,
		"transfer {\n to 192.0.2.53:0\n}":                     `2: "192.0.2.53:0" is not an address of a secondary`,
		"transfer {\n to 0.0.0.0\n}":                          `2: "0.0.0.0" is not an address of a secondary`,
		"transfer {\n to fe80::1%eth0\n}":                     `2: "fe80::1%eth0" is not an address of a secondary`,
		"transfer {\n to fe80::1\n}":                          `2: "fe80::1" is not an address of a secondary`,
		"transfer {\n to [::ffff:0.0.0.0]:53\n}":              `2: "[::ffff:0.0.0.0]:53" is not an address of a secondary`,
		"transfer {\n to *\n source fe80::1%eth0\n}":          `3: fe80::1%eth0 cannot be where NOTIFY comes from`,
		"transfer {\n to *\n source ::\n}":                    `3: :: cannot be where NOTIFY comes from`,
		"transfer {\n to 192.0.2.53/24\n}":                    `2: "192.0.2.53/24" is not a network`,
		"transfer {\n to 192.0.2.0/33\n}":                     `2: "192.0.2.0/33" is not a network`,
		"transfer {\n to *\n source a\n}":                     `3: "a" is not an IP address`,
		"transfer {\n to *\n source 10.0.0.1\n source ::1\n}": "4: expected one source",
		"transfer {\n too *\n}":                               `2: unknown property "too" of transfer`,
	} {
		_, err := parseTransferText(t, text)
		var e *ConfigError
		if !errors.As(err, &e) || !strings.Contains(e.Error(), want) || e.Hint() == "" {
			t.Errorf("%s: %v, want %s and a hint", text, err, want)
		}
	}
}

// Who is told: the single addresses, and name servers that are not nodes; signed unless the Corefile says otherwise.
func TestNotices(t *testing.T) {
	o := &Options{Nodes: []NodeLine{{Name: "infra0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}}}, NameServers: []roster.NameServer{
		{Name: "infra0." + testDomain, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}},
		{Name: "ns1.example.net.", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.99")}}, {Name: "ns2.example.net."}}}
	store, zones := zone.NewStore(), &zone.Zones{}
	zones.Set(store)
	publishTest(t, zone.NewPublisher(store, zone.Options{}, zone.NewSerials(filepath.Join(t.TempDir(), "serial"), 1, time.Now)), 3)
	tr := newTransfers(zap.NewNop(), bundleKey, func() *Options { return o }, func() []netip.Addr { return o.Nodes[0].Addrs },
		zones.Transferable)
	if len(tr.notices()) != 0 {
		t.Error("somebody is told before a Corefile serves")
	}
	blocks, err := parseTransferText(t, "transfer {\n to 192.0.2.53 10.0.0.0/8 *\n}")
	if err != nil {
		t.Fatal(err)
	}
	tr.serving(blocks)
	n := tr.notices()
	if len(n) != 1 || n[0].Unsigned {
		t.Fatalf("%+v", n)
	}
	want := []string{"192.0.2.53:53", "192.0.2.99:53"}
	if diff := cmp.Diff(want, strings.Fields(strings.Trim(fmt.Sprint(n[0].To), "[]"))); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	for to, from := range map[string]string{"192.0.2.53": "10.0.1.10", "2001:db8::1": "invalid IP"} {
		if got := n[0].Source(netip.MustParseAddr(to)).String(); got != from {
			t.Errorf("to %s from %s, want %s", to, got, from)
		}
	}
	blocks[0].source = netip.MustParseAddr("10.0.1.99")
	o.TransferInsecure = true
	tr.serving(blocks)
	if n = tr.notices(); n[0].Source(netip.MustParseAddr("192.0.2.1")) != blocks[0].source || !n[0].Unsigned {
		t.Errorf("%+v", n)
	}
	tr.serving(nil)
	if len(tr.notices()) != 0 {
		t.Error("somebody is told without a transfer directive")
	}
}
