package parent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	testKey   = "key \"update.example.com\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=\";\n};\n"
	namedConf = `include "%[1]s/update.key";
key "other.example.com" { algorithm hmac-sha256; secret "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="; };
options {
  directory "%[1]s";
  pid-file none;
  session-keyfile none;
  managed-keys-directory "%[1]s";
  listen-on port %[2]d { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion yes;
  allow-recursion { 127.0.0.0/8; };
  dnssec-validation no;
  empty-zones-enable no;
};
controls { };
zone "." { type primary; file "root.zone"; };
zone "example.com" {
  type primary;
  file "example.com.zone";
  update-policy { grant update.example.com subdomain rack1.example.com ANY; };
};
`
	rootZone = `$TTL 60
. SOA a.root. h.root. 1 1800 900 604800 60
. NS a.root.
a.root. A 127.0.0.1
example.com. NS ns.example.com.
ns.example.com. A 127.0.0.1
`
	parentZone = `$ORIGIN example.com.
$TTL 60
@  SOA ns hostmaster 1 1800 900 604800 60
@  NS  ns
@  NS  ns2
ns A   127.0.0.1
ns2 A  127.0.0.2
rack1 NS infra0.rack1
rack1 NS infra9.rack1
infra0.rack1 A 10.0.1.99
infra9.rack1 A 10.0.1.19
keep.rack1 TXT "not ours to touch"
`
)

// startNamed runs BIND on a free port of the loopback interface as the primary of example.com, and as the resolver that
// finds it.
func startNamed(t *testing.T) (Asker, Key) {
	t.Helper()
	path := lookFor(t, "named", "bind9")
	dir := t.TempDir()
	port := freePort(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("update.key", testKey)
	write("named.conf", fmt.Sprintf(namedConf, dir, port))
	write("root.zone", rootZone)
	write("example.com.zone", parentZone)
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "named") // AppArmor confines the packaged path to its own directories, not a copy
	if err := os.WriteFile(own, program, 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), own, "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context killed it
		if t.Failed() {
			t.Logf("named:\n%s", log.String())
		}
	})
	a := Asker{Resolvers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}, port: port}
	for end := time.Now().Add(20 * time.Second); ; {
		_, err := a.lookup(t.Context(), "example.com.", dns.TypeSOA)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("named does not answer: %v", err)
		}
	}
	k, err := ReadKeyFile(filepath.Join(dir, "update.key"))
	if err != nil {
		t.Fatal(err)
	}
	return a, k
}

// lookFor finds a name server. Where it is missing the test is skipped, but not in CI as root on Debian, where
// lab/install.sh ran.
func lookFor(t *testing.T, name, debian string) string {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	_, noDebian := os.Stat("/etc/debian_version")
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 && noDebian == nil {
		t.Fatalf("%s is missing; try: lab/install.sh", name)
	}
	t.Skipf("SKIPPED: %s is missing; on Debian it is in the package %s", name, debian)
	return ""
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func rrs(t testing.TB, lines ...string) (out []dns.RR) {
	t.Helper()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func rackWant(t testing.TB) Want {
	t.Helper()
	ds := rrs(t, "rack1.example.com. 3600 IN DS 12345 13 2 "+strings.Repeat("ab", 32))[0].(*dns.DS)
	return Want{Domain: "rack1.example.com.", DSKnown: true, DS: []*dns.DS{ds}, Records: rrs(t,
		"rack1.example.com. 3600 IN NS infra0.rack1.example.com.", "rack1.example.com. 3600 IN NS infra1.rack1.example.com.",
		"infra0.rack1.example.com. 3600 IN A 10.0.1.10", "infra1.rack1.example.com. 3600 IN A 10.0.1.11", "infra1.rack1.example.com. 3600 IN AAAA fd00::11")}
}

// A wrong delegation in a real parent is seen record by record, mended by an update, and nothing else is touched.
func TestUpdateBIND(t *testing.T) {
	a, key := startNamed(t)
	want := rackWant(t)
	v, err := a.Ask(t.Context(), want.Domain)
	if err != nil {
		t.Fatal(err)
	}
	if v.Zone != "example.com." || v.Primary != "ns.example.com." || len(v.Servers) != 2 {
		t.Fatalf("found the parent %s with the primary %s and the servers %v", v.Zone, v.Primary, v.Servers)
	}
	verdict := v.Judge(want)
	var got []string
	for _, d := range verdict.Differences {
		got = append(got, d.do()+" "+strings.ReplaceAll(strings.TrimPrefix(d.Record.String(), d.Record.Header().String()), "\t", " "))
		if len(d.Servers) != 1 || d.Servers[0] != "ns.example.com. (127.0.0.1)" {
			t.Errorf("%v: want the server that answers", d)
		}
	}
	expect := "publish infra1.rack1.example.com., publish 10.0.1.10, publish 10.0.1.11, publish fd00::11, withdraw 10.0.1.99, withdraw 10.0.1.19, " +
		"withdraw infra9.rack1.example.com., publish 12345 13 2 " + strings.ToUpper(strings.Repeat("ab", 32))
	if verdict.Word != Differs || strings.Join(got, ", ") != expect {
		t.Errorf("verdict %s\n got %s\nwant %s", verdict.Word, strings.Join(got, ", "), expect)
	}
	c, err := a.Plan(t.Context(), v, want, netip.AddrPort{})
	if err != nil || len(c.Differences) != len(verdict.Differences) {
		t.Fatalf("plan %v: %v", c, err)
	}
	for range 2 { // sending it twice does no harm
		if err := c.Send(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	mended(t, a, want)
	if again, err := a.Plan(t.Context(), v, want, netip.AddrPort{}); err != nil || !again.Empty() {
		t.Errorf("a second plan is %v, %v; want nothing to do", again, err)
	}
	// Without the delegation's NS the zone shows what else is below the name.
	gone := Change{Domain: c.Domain, Zone: c.Zone, At: c.At}
	for _, rr := range want.Records {
		gone.Differences = append(gone.Differences, Difference{Record: rr})
	}
	if err := gone.Send(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	m, err := a.lookup(t.Context(), "keep.rack1.example.com.", dns.TypeTXT)
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("the TXT record below the domain was touched: %v %v", m, err)
	}
	empty, err := a.Ask(t.Context(), want.Domain)
	i := slices.IndexFunc(empty.Servers, func(s Server) bool { return s.Err == nil })
	if err != nil || i < 0 || len(empty.Servers[i].NS) != 0 {
		t.Errorf("after the removal the parent shows %+v, %v; want no delegation and no error", empty.Servers, err)
	}
}

func mended(t *testing.T, a Asker, want Want) {
	t.Helper()
	v, err := a.Ask(t.Context(), want.Domain)
	if err != nil {
		t.Fatal(err)
	}
	if verdict := v.Judge(want); verdict.Word != Agrees || len(verdict.Differences) != 0 {
		t.Errorf("after the update: %s %v", verdict.Word, verdict.Differences)
	}
	ds, err := v.DS()
	if err != nil || len(ds.Common) != 1 || len(ds.Any) != 1 || ds.TTL != time.Hour || len(ds.Silent) != 1 {
		t.Errorf("DS %+v, %v; want the one with TTL 1h, and ns2, where nobody listens, silent", ds, err)
	}
}

// Every way in which BIND says no, with the way out.
func TestUpdateRefusedByBIND(t *testing.T) {
	a, key := startNamed(t)
	want := rackWant(t)
	v, err := a.Ask(t.Context(), want.Domain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Plan(t.Context(), v, want, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	wrongSecret, unknown, other := key, key, key
	wrongSecret.Secret = "d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nMTI="
	unknown.Name = "nobody.example.com."
	other.Name, other.Secret = "other.example.com.", "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="
	outside, notServed := c, c
	outside.Differences = []Difference{{Publish: true, Record: rrs(t, "www.example.net. 60 IN A 10.0.0.1")[0]}}
	notServed.Zone = "example.net."
	for _, row := range []struct {
		name       string
		c          Change
		k          Key
		what, hint string
	}{
		{"wrong secret", c, wrongSecret, "BADSIG", "the secrets differ"},
		{"unknown key", c, unknown, "BADKEY", "knows no key nobody.example.com."},
		{"a key without the right", c, other, "REFUSED", "update-policy { grant other.example.com. subdomain rack1.example.com. ANY; }"},
		{"a name outside the zone", outside, key, "NOTZONE", "not the primary of example.com."},
		{"a zone it does not serve", notServed, key, "NOTAUTH", "--server"},
	} {
		err := row.c.Send(t.Context(), row.k)
		var hint interface{ Hint() string }
		if err == nil || !errors.As(err, &hint) || !strings.Contains(err.Error(), row.what) || !strings.Contains(hint.Hint(), row.hint) {
			t.Errorf("%s: error %v with hint %v; want %q and %q", row.name, err, hint, row.what, row.hint)
		}
	}
	if again, err := a.Plan(t.Context(), v, want, netip.AddrPort{}); err != nil || len(again.Differences) != len(c.Differences) {
		t.Errorf("a refused update changed the zone: %v, %v", again, err)
	}
}

// A clock that is off is told from a wrong key, with the server's time.
func TestUpdateClockSkew(t *testing.T) {
	there := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	c := Change{Zone: "example.com.", At: netip.MustParseAddrPort("127.0.0.1:53")}
	r := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNotAuth}, Extra: []dns.RR{&dns.TSIG{
		Hdr: dns.RR_Header{Rrtype: dns.TypeTSIG}, Error: dns.RcodeBadTime, OtherLen: 6, OtherData: fmt.Sprintf("%012x", there.Unix())}}}
	err := c.refusal(r, Key{Name: "k."})
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(err.Error(), "BADTIME") || !strings.Contains(hint.Hint(), "2026-05-04 03:02:01 UTC") {
		t.Errorf("got %v, hint %v", err, hint)
	}
}

// A server that nobody reaches is an error with a hint, not a hang.
func TestUpdateNobodyListens(t *testing.T) {
	c := Change{Domain: "rack1.example.com.", Zone: "example.com.", At: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var hint interface{ Hint() string }
	if err := c.Send(ctx, Key{Name: "k.", Algorithm: dns.HmacSHA256, Secret: "c2VjcmV0"}); !errors.As(err, &hint) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}
