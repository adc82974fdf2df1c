package certs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestNewBundleRefuses(t *testing.T) {
	ok := map[string][]string{"": {"infra0"}}
	one := func(names ...string) map[string][]string { return map[string][]string{"": names} }
	tests := []struct {
		name    string
		options InitOptions
		want    string // part of the message
	}{
		{"no domain", InitOptions{Names: ok}, "at least two labels"},
		{"root zone", InitOptions{Domain: ".", Names: ok}, "at least two labels"},
		{"one label", InitOptions{Domain: "rack1", Names: ok}, "at least two labels"},
		{"empty label", InitOptions{Domain: "rack1..example.com", Names: ok}, `label ""`},
		{"two dots at the end", InitOptions{Domain: "example.com..", Names: ok}, `label ""`},
		{"underscore", InitOptions{Domain: "rack_1.example.com", Names: ok}, `label "rack_1"`},
		{"space", InitOptions{Domain: "rack 1.example.com", Names: ok}, `label "rack 1"`},
		{"hyphen first", InitOptions{Domain: "-rack.example.com", Names: ok}, `label "-rack"`},
		{"address", InitOptions{Domain: "10.0.1.10", Names: ok}, "looks like an address"},
		{"long label", InitOptions{Domain: strings.Repeat("a", 64) + ".example.com", Names: ok}, "host label"},
		{"long domain", InitOptions{Domain: strings.Repeat("a23456789.", 24) + "com", Names: ok}, "at most 253"},
		{"no names", InitOptions{Domain: testDomain}, "no node names"},
		{"empty cluster", InitOptions{Domain: testDomain, Names: map[string][]string{"foo": {}}}, `cluster "foo" has no nodes`},
		{"empty name", InitOptions{Domain: testDomain, Names: one("")}, "host label"},
		{"dotted name", InitOptions{Domain: testDomain, Names: one("infra0.rack1")}, "host label"},
		{"underscore name", InitOptions{Domain: testDomain, Names: one("infra_0")}, "host label"},
		{"Kelvin sign", InitOptions{Domain: testDomain, Names: one("\u212aelvin")}, "host label"},
		{"not ASCII", InitOptions{Domain: testDomain, Names: one("infra\u00e9")}, "host label"},
		{"all digits", InitOptions{Domain: testDomain, Names: one("12")}, "all digits"},
		{"localhost", InitOptions{Domain: testDomain, Names: one("localhost")}, "reserved"},
		{"long name", InitOptions{Domain: testDomain, Names: one(strings.Repeat("a", 59))}, "1 to 58"},
		{"long in all", InitOptions{Domain: strings.Repeat("a23456789.", 20) + "com", Names: one(strings.Repeat("a", 50))}, "at most 253"},
		{"duplicate", InitOptions{Domain: testDomain, Names: one("infra0", "infra1", "infra0")}, `"infra0" is given twice`},
		{"duplicate after folding", InitOptions{Domain: testDomain, Names: one("infra0", "INFRA0")}, `"infra0" is given twice`},
		{"in two clusters", InitOptions{Domain: testDomain, Names: map[string][]string{"": {"infra0"}, "foo": {"infra0"}}}, "given twice"},
		{"peer host name", InitOptions{Domain: testDomain, Names: one("infra0", "infra0-peer")}, `"infra0-peer" is also`},
		{"65 names", InitOptions{Domain: testDomain, Names: one(numbered(65)...)}, "at most 64"},
		{"srv-name ssl", InitOptions{Domain: testDomain, Names: map[string][]string{"ssl": {"a"}}}, "TLS name of another"},
		{"srv-name ssl-x", InitOptions{Domain: testDomain, Names: map[string][]string{"SSL-x": {"a"}}}, "TLS name of another"},
		{"long srv-name", InitOptions{Domain: testDomain, Names: map[string][]string{strings.Repeat("a", 47): {"a"}}}, "1 to 46"},
		{"srv-name twice", InitOptions{Domain: testDomain, Names: map[string][]string{"foo": {"a"}, "Foo": {"b"}}}, `"foo" is given twice`},
		{"negative time", InitOptions{Domain: testDomain, Names: ok, GenesisWithin: -1}, "positive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, key, err := NewBundle(tt.options)
			if err == nil || b != nil || key != nil {
				t.Fatalf("accepted: %v", tt.options)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			mustHint(t, err)
		})
	}
}

func TestNewBundle(t *testing.T) {
	at := time.Date(2026, 11, 22, 20, 0, 0, 5, time.FixedZone("", 3600))
	b, key, err := NewBundle(InitOptions{
		Domain: "Rack1.Example.COM",
		Names:  map[string][]string{"foo": {"Bar", "alpha"}, "": {"infra1", "INFRA0"}, "Aa": {"x"}},
		Plain:  true, GenesisWithin: time.Hour,
		Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	created := time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC)
	got := []any{b.Domain(), b.SrvNames(), b.Names(""), b.Names("aa"), b.Names("foo"), b.Names("bar"), b.Plain(), b.Generation(), b.Created(), b.BirthUntil()}
	want := []any{"rack1.example.com.", []string{"", "aa", "foo"}, []string{"infra1", "infra0"}, []string{"x"}, []string{"bar", "alpha"}, []string(nil),
		true, uint64(1), created, created.Add(time.Hour)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for slot, name := range []string{"infra1", "infra0", "x", "bar", "alpha"} {
		if got, ok := b.Slot(name); !ok || got != slot {
			t.Errorf("slot of %s: %d %v, want %d", name, got, ok, slot)
		}
	}
	if slot, ok := b.Slot("stranger"); ok || slot != 0 {
		t.Errorf("a stranger has slot %d", slot)
	}
	if got := fingerprint(b.roots[0])[:32]; b.ID() != got {
		t.Errorf("id %s, want %s", b.ID(), got)
	}
	if root := rootOf(t, b, key); !samePublicKey(b.roots[0], root.key) {
		t.Error("the root key is not the root's")
	}
	if strings.Contains(string(b.raw), string(key[100:130])) {
		t.Error("the bundle holds the root key")
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(shown, "PRIVATE") {
		t.Errorf("the root key shows itself: %s", shown)
	}
}

func TestDefaultsAndSecrets(t *testing.T) {
	a, _ := newTestBundle(t)
	b, _ := newTestBundle(t)
	if got := a.BirthUntil().Sub(a.Created()); got != 7*24*time.Hour {
		t.Errorf("birth allowed for %s, want 168h", got)
	}
	if names := numbered(64); true {
		full, _, err := NewBundle(InitOptions{Domain: testDomain, Names: map[string][]string{"": names}})
		if err != nil {
			t.Fatal(err)
		}
		if slot, _ := full.Slot("node63"); slot != 63 || !slices.Equal(full.Names(""), names) {
			t.Errorf("64 names: last slot %d", slot)
		}
	}
	sa, sb := a.Secrets(), b.Secrets()
	for what, pair := range map[string][2][]byte{"gossip": {a.GossipKeys()[0], b.GossipKeys()[0]}, "tsig": {sa.TSIG, sb.TSIG}, "cookie": {sa.Cookie, sb.Cookie}, "zone": {sa.ZoneKey, sb.ZoneKey}} {
		if len(pair[0]) < 16 || slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: short, or the same in two bundles", what)
		}
	}
	if a.ID() == b.ID() || sa.TSIGName != "transfer.rack1.example.com." || sa.TSIGAlgorithm != "hmac-sha256." || sa.PreviousCookie != nil {
		t.Errorf("id or names: %v", sa)
	}
	keys := a.GossipKeys()[0]
	keys[0] ^= 1
	if a.GossipKeys()[0][0] == keys[0] {
		t.Error("the caller can change the bundle's secrets")
	}
}

// FuzzNames: what is accepted is a name that DNS, etcd and certificates take, and folding it again changes nothing.
func FuzzNames(f *testing.F) {
	f.Add("rack1.example.com", "infra0", "foo")
	f.Add("RACK1.Example.com.", "Infra-0", "")
	f.Add("10.0.1.10", "12", "ssl")
	f.Add("\u0130.example.com", "\u212a", "\u017f") // each has an ASCII lower or upper case
	f.Fuzz(func(t *testing.T, domain, node, srvName string) {
		d, err := foldDomain(domain)
		if err != nil {
			mustHint(t, err)
			return
		}
		if again, err := foldDomain(d); err != nil || again != d || !dns.IsFqdn(d) || !strings.EqualFold(strings.TrimSuffix(domain, "."), strings.TrimSuffix(d, ".")) {
			t.Fatalf("domain %q → %q → %q %v", domain, d, again, err)
		}
		if n, err := foldNode(node, d); err == nil {
			again, err := foldNode(n, d)
			if _, ok := dns.IsDomainName(n + "-peer." + d); err != nil || again != n || !ok || !isHostLabel(n) {
				t.Fatalf("node %q → %q → %q %v", node, n, again, err)
			}
		}
		if s, err := foldSrvName(srvName, d); err == nil && s != "" {
			again, err := foldSrvName(s, d)
			if _, ok := dns.IsDomainName("_etcd-server-ssl-" + s + "._tcp." + d); err != nil || again != s || !ok {
				t.Fatalf("srv-name %q → %q → %q %v", srvName, s, again, err)
			}
		}
	})
}
