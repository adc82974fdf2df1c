package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone"
)

func withRecords(lines ...string) string {
	return strings.Replace(goodCorefile, "        node infra2 10.0.1.12\n", "        node infra2 10.0.1.12\n        ns ns9 10.0.9.9\n        "+
		strings.Join(lines, "\n        ")+"\n", 1)
}

func TestRecords(t *testing.T) {
	for line, want := range map[string]string{
		`record www A 10.0.1.80`:                                           `www.rack1.example.com. 30 IN A 10.0.1.80`,
		`record WWW.Rack1.example.com 5m a 10.0.1.80`:                      `www.rack1.example.com. 300 IN A 10.0.1.80`,
		`record a.b 1d AAAA FD00::80`:                                      `a.b.rack1.example.com. 86400 IN AAAA fd00::80`,
		`record www.rack1.example.com. 1 CNAME @`:                          `www.rack1.example.com. 1 IN CNAME rack1.example.com.`,
		`record www CNAME infra0`:                                          `www.rack1.example.com. 30 IN CNAME infra0.rack1.example.com.`,
		`record www CNAME web.example.net`:                                 `www.rack1.example.com. 30 IN CNAME web.example.net.`,
		`record www CNAME com.`:                                            `www.rack1.example.com. 30 IN CNAME com.`,
		`record @ MX 10 mail`:                                              `rack1.example.com. 30 IN MX 10 mail.rack1.example.com.`,
		`record @ MX 0 .`:                                                  `rack1.example.com. 30 IN MX 0 .`,
		`record @ CAA 0 issue "letsencrypt.org; validationmethods=x"`:      `rack1.example.com. 30 IN CAA 0 issue "letsencrypt.org; validationmethods=x"`,
		`record @ TXT "v=spf1 -all"`:                                       `rack1.example.com. 30 IN TXT "v=spf1 -all"`,
		`record note TXT one "two words" "say \"hi\"" "back\slash" ü`:      `note.rack1.example.com. 30 IN TXT "one" "two words" "say \"hi\"" "back\\slash" "\195\188"`,
		`record note TXT ""`:                                               `note.rack1.example.com. 30 IN TXT ""`,
		`record note TXT "a;b (c) $x @"`:                                   `note.rack1.example.com. 30 IN TXT "a;b (c) $x @"`,
		`record _http._tcp SRV 0 0 80 www.example.net.`:                    `_http._tcp.rack1.example.com. 30 IN SRV 0 0 80 www.example.net.`,
		`record 10 PTR infra0`:                                             `10.rack1.example.com. 30 IN PTR infra0.rack1.example.com.`,
		`record host SSHFP 4 2 ` + strings.Repeat("AB", 32):                `host.rack1.example.com. 30 IN SSHFP 4 2 ` + strings.Repeat("AB", 32),
		`record _2379._tcp.infra0 TLSA 3 1 1 ` + strings.Repeat("ab ", 32): `_2379._tcp.infra0.rack1.example.com. 30 IN TLSA 3 1 1 ` + strings.Repeat("ab", 32),
	} {
		o, err := ParseCorefile("Corefile", []byte(withRecords(line)))
		if err != nil || len(o.Records) != 1 {
			t.Errorf("%s: %v", line, err)
			continue
		}
		got := strings.Join(strings.Fields(o.Records[0].String()), " ")
		if d := cmp.Diff(strings.Join(strings.Fields(want), " "), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestRecordsRefused(t *testing.T) {
	for _, c := range []struct{ lines, what string }{
		{`record`, "record without a name and a type"},
		{`record www`, "record without a name and a type"},
		{`record www 30`, "record www without a type"},
		{`record www 0 A 10.0.0.1`, "not a TTL"},
		{`record www 2d A 10.0.0.1`, "not a TTL"},
		{`record www 1500ms A 10.0.0.1`, "not a TTL"},
		{`record www 5x A 10.0.0.1`, "not a TTL"},
		{`record www NS ns1.example.net`, `"NS" is not a type that record takes`},
		{`record www DS 1 13 2 ab`, "is not a type"},
		{`record www DNAME example.net`, "is not a type"},
		{`record * A 10.0.0.1`, "is not a name below"},
		{`record *.www A 10.0.0.1`, "is not a name below"},
		{`record www.example.net. A 10.0.0.1`, "is not a name below"},
		{`record w\.w A 10.0.0.1`, "is not a name below"},
		{`record a..b A 10.0.0.1`, "is not a name below"},
		{`record "w w" A 10.0.0.1`, "is not a name below"},
		{`record ` + strings.Repeat("a", 64) + ` A 10.0.0.1`, "is not a name below"},
		{`record www A fd00::1`, "not an address"},
		{`record www AAAA 10.0.0.1`, "not an address"},
		{`record www AAAA ::ffff:10.0.0.1`, "not an address"},
		{`record www A`, "A needs 1 fields but has 0"},
		{`record www A 10.0.0.1 10.0.0.2`, `A has "10.0.0.2" left over`},
		{`record www MX mail 10`, "not a number from 0 to 65535"},
		{`record www MX 70000 mail`, "not a number from 0 to 65535"},
		{`record www CNAME "a b"`, "not a host name"},
		{`record www TXT ` + strings.Repeat("a", 256), "a text has 256 octets"},
		{`record www TXT`, "TXT needs 1 fields"},
		{`record www CAA 0 is-sue ca`, "not a property"},
		{`record www SSHFP 4 2 abcd`, "the digest has 2 octets, its type has 32"},
		{`record www SSHFP 4 9 abcd`, "no fingerprint type 9"},
		{`record www SSHFP 4 2 xyz`, "not hexadecimal"},
		{`record www TLSA 4 0 0 ab`, "not assigned"},
		{`record @ A 10.0.0.1`, "A at the domain itself is the zone's own"},
		{`record @ CNAME www.example.net`, "the zone's own"},
		{`record infra0 TXT x`, "the name infra0 is a node's, in line 5"},
		{`record infra0-peer A 10.0.0.1`, "the name infra0-peer is a node's"},
		{`record ns9 TXT x`, "is a name server's"},
		{`record _tcp TXT x`, "the name _tcp is the zone's own"},
		{`record _etcd-server-ssl._tcp SRV 0 0 2380 infra0`, "all that begin with _etcd are"},
		{`record a._etcdv3._tcp TXT x`, "all that begin with _etcd are"},
		{`record _acme-challenge TXT x`, "_acme-challenge"},
		{`record _acme-challenge.infra0 TXT x`, "_acme-challenge"},
		{"record www A 10.0.0.1\nrecord www A 10.0.0.1", "the same record stands in line 9"},
		{"record www A 10.0.0.1\nrecord www 60 A 10.0.0.2", "line 9 has 30"},
		{"record www A 10.0.0.1\nrecord www CNAME infra0", "a CNAME stands alone"},
		{"record www CNAME infra1\nrecord www CNAME infra0", "a CNAME stands alone"},
		{"record www CNAME infra1\nrecord www TXT x", "a CNAME stands alone"},
		{"record mail CNAME infra1\nrecord @ MX 1 mail", "the target mail.rack1.example.com. is an alias"},
		{"record a CNAME b\nrecord b CNAME a", "leads back to"},
	} {
		_, err := ParseCorefile("Corefile", []byte(withRecords(c.lines)))
		var bad *ConfigError
		if !errors.As(err, &bad) || !strings.Contains(bad.What, c.what) || bad.Fix == "" || bad.Line < 9 {
			t.Errorf("%s: got %v, want %q with a line and a hint", c.lines, err, c.what)
		}
	}
	inCluster := strings.Replace(goodCorefile, "node infra2 10.0.1.12", "cluster foo {\n record www A 10.0.0.1\n node infra2 10.0.1.12\n}", 1)
	if _, err := ParseCorefile("Corefile", []byte(inCluster)); err == nil {
		t.Error("a cluster block takes record lines")
	}
}

// The compiler takes what the parser lets through, beside the zone's own names.
func TestRecordsCompile(t *testing.T) {
	o := mustParse(t, withRecords(`record @ TXT "v=spf1 -all"`, `record @ MX 0 .`, `record @ CAA 0 issue ";"`, `record www 5m A 10.0.1.80`,
		`record grafana CNAME www`, `record _http._tcp SRV 0 0 80 www`, `record _2379._tcp.infra0 TLSA 3 1 1 `+strings.Repeat("ab", 32)))
	snap, err := zone.Compile(o.Roster(func(name string) int { return int(name[len(name)-1] - '0') }), zone.Options{Records: o.Records}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range o.Records {
		h := rr.Header()
		a := snap.Lookup(h.Name, h.Rrtype, false)
		if len(a.Answer) == 0 || !dns.IsDuplicate(a.Answer[0], rr) || a.Answer[0].Header().Ttl != h.Ttl {
			t.Errorf("%s %s is answered with %+v, want %v", h.Name, dns.TypeToString[h.Rrtype], a, rr)
		}
	}
	if a := snap.Lookup("grafana.rack1.example.com.", dns.TypeA, false); len(a.Answer) != 2 {
		t.Errorf("the alias is answered with %+v", a)
	}
}

// Any octets in a TXT record come back from master format as they went in.
func FuzzRecordText(f *testing.F) {
	f.Add("a \"b\" \\ ; $ ( ) \x00\xff")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r := recordLine{owner: "x", kind: "TXT", fields: recordTypes["TXT"], words: []string{s}, ttl: defaultRecordTTL}
		rr, problem, _ := r.parse("rack1.example.com.")
		if problem != "" {
			if len(s) <= maxString {
				t.Fatalf("%q is refused: %s", s, problem)
			}
			return
		}
		again, err := dns.NewRR(rr.String())
		if err != nil || !dns.IsDuplicate(rr, again) {
			t.Fatalf("%q: %v reads back as %v, %v", s, rr, again, err)
		}
		buf := make([]byte, 1024)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil || string(buf[n-len(s):n]) != s || int(buf[n-len(s)-1]) != len(s) {
			t.Fatalf("%q is %q on the wire, %v", s, buf[:n], err)
		}
	})
}

// Whatever the words of a record line are, the outcome is one record below the domain, or an error.
func FuzzRecordLine(f *testing.F) {
	for _, s := range []string{"www A 10.0.0.1", "@ 5m MX 10 mail", "x TXT a b", "_a._tcp SRV 0 0 1 .", "x CAA 0 issue a", "h SSHFP 1 1 ab", "h TLSA 3 1 1 ab", "w CNAME v", "1 PTR x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := &stanza{Dispenser: nil, path: "Corefile", o: &Options{Domain: "rack1.example.com."}}
		words := strings.Split(s, " ")
		if len(words) < 2 {
			return
		}
		kind := strings.ToUpper(words[1])
		r := recordLine{owner: words[0], kind: kind, fields: recordTypes[kind], words: words[2:], ttl: defaultRecordTTL}
		if r.fields == nil {
			return
		}
		p.records = []recordLine{r}
		if p.checkRecords() != nil {
			return
		}
		rr := p.o.Records[0]
		again, err := dns.NewRR(rr.String())
		if err != nil || !dns.IsDuplicate(rr, again) || rr.Header().Name != dns.CanonicalName(rr.Header().Name) || !dns.IsSubDomain(p.o.Domain, rr.Header().Name) {
			t.Fatalf("%q gives %v, read back as %v, %v", s, rr, again, err)
		}
		if fmt.Sprint(dns.TypeToString[rr.Header().Rrtype]) != kind {
			t.Fatalf("%q gives %v", s, rr)
		}
	})
}
