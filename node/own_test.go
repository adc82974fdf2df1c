package node

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func mustParse(t *testing.T, text string) *Options {
	t.Helper()
	o, err := ParseCorefile("/x/Corefile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func prefixes(t *testing.T, list ...string) (out []netip.Prefix) {
	t.Helper()
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestOwnName(t *testing.T) {
	for _, c := range []struct {
		name, line, host string
		local            []string
		want, err        string
	}{
		{"by address", "", "elsewhere", []string{"127.0.0.1/8", "10.0.1.11/24"}, "infra1", ""},
		{"by IPv6 address", "", "elsewhere", []string{"fd00::11/64"}, "infra1", ""},
		{"by peer address", "", "elsewhere", []string{"10.9.0.11/24"}, "infra1", ""},
		{"the network is not the address", "", "infra0.rack1.example.com", []string{"10.0.1.99/24"}, "infra0", ""},
		{"by host name", "", "Infra2.example.com", nil, "infra2", ""},
		{"by line, whatever is local", "name infra2", "infra0", []string{"10.0.1.10/24"}, "infra2", ""},
		{"ambiguous", "", "infra0", []string{"10.0.1.10/24", "10.0.1.12/24"}, "", "could be any of infra0, infra2"},
		{"nobody", "", "elsewhere", []string{"10.0.1.99/24"}, "", `host name "elsewhere" is not among infra0, infra1, infra2`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := mustParse(t, strings.Replace(goodCorefile, "    etcdsrv {", "    etcdsrv {\n"+c.line, 1))
			got, err := o.ownName(prefixes(t, c.local...), c.host)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got error %v, want %q", err, c.err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAwaitAddrs(t *testing.T) {
	up := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.9.9.9")}
	if err := awaitAddrs(t.Context(), up, func(m []string) { t.Errorf("waits for %v", m) }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var told []string
	err := awaitAddrs(ctx, append(up, netip.MustParseAddr("192.0.2.77")), func(m []string) { told = m })
	if err == nil || len(told) != 1 || told[0] != "192.0.2.77" {
		t.Errorf("got %v after being told %v, want to wait for 192.0.2.77", err, told)
	}
}

func TestDelegation(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "    etcdsrv {", "    etcdsrv {\n ns infra1\n ns ns1.example.net\n ns ns2 10.0.1.53", 1))
	var got []string
	for _, rr := range o.Delegation() {
		got = append(got, strings.Join(strings.Fields(rr.String()), " "))
	}
	want := []string{
		"rack1.example.com. 3600 IN NS infra1.rack1.example.com.", "rack1.example.com. 3600 IN NS ns1.example.net.", "rack1.example.com. 3600 IN NS ns2.rack1.example.com.",
		"infra1.rack1.example.com. 3600 IN A 10.0.1.11", "infra1.rack1.example.com. 3600 IN AAAA fd00::11", "ns2.rack1.example.com. 3600 IN A 10.0.1.53",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
