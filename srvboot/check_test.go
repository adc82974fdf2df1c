package srvboot

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// serveZone answers on a loopback port with the records, as a resolver would, and returns its address. A name that
// ends in "broken." gets SERVFAIL.
func serveZone(t *testing.T, records ...string) netip.AddrPort {
	t.Helper()
	var rrs []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		do(t, err)
		rrs = append(rrs, rr)
	}
	return serveDNS(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name, known := strings.ToLower(q.Question[0].Name), false
		for _, rr := range rrs {
			if strings.ToLower(rr.Header().Name) == name {
				known = true
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		if strings.HasSuffix(name, "broken.") {
			m.Rcode = dns.RcodeServerFailure
		}
		_ = w.WriteMsg(m) // the asker may be gone
	})
}

func serveDNS(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	do(t, err)
	started := make(chan struct{})
	s := &dns.Server{PacketConn: c, Handler: handler, NotifyStartedFunc: func() { close(started) }}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }() // ends by Shutdown
	<-started
	t.Cleanup(func() { do(t, s.Shutdown(), <-done) })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func resolverFor(server netip.AddrPort) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.String())
	}}
}

// runCheck runs one check of the list by its name.
func runCheck(t *testing.T, name string, target Target) CheckResult {
	t.Helper()
	i := slices.IndexFunc(Checks(), func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %q", name)
	}
	return Checks()[i].run(t.Context(), target.withDefaults())
}

type checkCase struct {
	name, check string
	target      Target
	want        Level
	says        []string // parts of the detail or the hint
}

func runCases(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.check+"/"+tc.name, func(t *testing.T) {
			r := runCheck(t, tc.check, tc.target)
			if r.Level != tc.want {
				t.Fatalf("got %s (%s), want %s", r.Level, r.Detail, tc.want)
			}
			for _, part := range tc.says {
				if !strings.Contains(r.Detail+" | "+r.Hint, part) {
					t.Errorf("%q | %q does not say %q", r.Detail, r.Hint, part)
				}
			}
			if bad := r.Level == LevelWarn || r.Level == LevelFail; (r.Hint != "") != bad {
				t.Errorf("level %s with hint %q", r.Level, r.Hint)
			}
			if r.Detail == "" || r.Name != tc.check {
				t.Errorf("name %q, detail %q", r.Name, r.Detail)
			}
		})
	}
}

const (
	srvSSL   = "_etcd-server-ssl._tcp.rack.test. 30 IN SRV 0 0 2380 "
	srvPlain = "_etcd-server._tcp.rack.test. 30 IN SRV 0 0 2380 "
)

func threeNodes(srv string) []string {
	return []string{
		srv + "n0.rack.test.", srv + "n1.rack.test.", srv + "n2.rack.test.",
		"n0.rack.test. 30 IN A 10.0.1.10", "n1.rack.test. 30 IN A 10.0.1.11", "n2.rack.test. 30 IN A 10.0.1.12",
	}
}

// nodeTarget is node n0 of rack.test with these records in the DNS.
func nodeTarget(t *testing.T, records ...string) Target {
	return Target{
		Domain: "rack.test.", Scheme: "https", Node: "n0", PeerURLs: []string{"https://n0.rack.test:2380"},
		LocalAddrs: []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("fd00::10")},
		Resolver:   resolverFor(serveZone(t, records...)),
	}
}

func (t Target) with(change func(*Target)) Target {
	change(&t)
	return t
}

func TestDNSChecks(t *testing.T) {
	ssl := nodeTarget(t, threeNodes(srvSSL)...)
	plain := nodeTarget(t, threeNodes(srvPlain)...)
	both := nodeTarget(t, append(threeNodes(srvSSL), threeNodes(srvPlain)...)...)
	none := nodeTarget(t)
	clients := nodeTarget(t, append(threeNodes(srvSSL), "_etcd-client._tcp.rack.test. 5 IN SRV 0 0 2379 n0.rack.test.",
		"_etcd-client-ssl._tcp.rack.test. 5 IN SRV 0 0 2379 n0.rack.test.")...)
	suffix := nodeTarget(t, "_etcd-server-ssl-foo._tcp.rack.test. 30 IN SRV 0 0 2380 n0.rack.test.", "n0.rack.test. 30 IN A 10.0.1.10").
		with(func(t *Target) { t.SrvName = "foo" })
	half := nodeTarget(t, append(threeNodes(srvSSL), srvSSL+"n3.rack.test.")...)
	shared := nodeTarget(t, append(threeNodes(srvSSL), srvSSL+"n3.rack.test.", "n3.rack.test. 30 IN A 10.0.1.12")...)
	onOne := nodeTarget(t, append(threeNodes(srvSSL), "_etcd-server-ssl._tcp.rack.test. 30 IN SRV 0 0 2480 n3.rack.test.", "n3.rack.test. 30 IN A 10.0.1.12")...)
	foreign := nodeTarget(t, srvSSL+"n0.rack.test.", srvSSL+"n1.elsewhere.test.", "n0.rack.test. 30 IN A 10.0.1.10", "n1.elsewhere.test. 30 IN A 10.0.1.11")
	upper := nodeTarget(t, srvSSL+"N0.rack.test.", "n0.rack.test. 30 IN A 10.0.1.10")
	digits := nodeTarget(t, srvSSL+"0.rack.test.", "0.rack.test. 30 IN A 10.0.1.10")
	moved := nodeTarget(t, append(threeNodes(srvSSL), "n9.rack.test. 30 IN A 10.0.1.99", "n8.rack.test. 30 IN A 10.0.1.10", "n8.rack.test. 30 IN A 10.0.1.98")...)
	broken := ssl.with(func(t *Target) { t.Domain = "rack.broken" })
	early := none.with(func(t *Target) { t.SkipDNS = "the cluster is not born yet" })
	url := func(base Target, u string) Target { return base.with(func(t *Target) { t.PeerURLs = []string{u} }) }

	runCases(t, []checkCase{
		{"ssl only", "srv-one-scheme", ssl, LevelOK, []string{"_etcd-server-ssl._tcp.rack.test", "3 records"}},
		{"plain only", "srv-one-scheme", plain.with(func(t *Target) { t.Scheme = "http" }), LevelOK, nil},
		{"whichever", "srv-one-scheme", plain.with(func(t *Target) { t.Scheme = "" }), LevelOK, nil},
		{"srv-name", "srv-one-scheme", suffix, LevelOK, []string{"-ssl-foo"}},
		{"plain for a TLS cluster", "srv-one-scheme", plain, LevelFail, []string{"_etcd-server._tcp", "_etcd-server-ssl._tcp", "https"}},
		{"ssl for a plain cluster", "srv-one-scheme", ssl.with(func(t *Target) { t.Scheme = "http" }), LevelFail, []string{"speak http"}},
		{"both", "srv-one-scheme", both, LevelFail, []string{"both", "withdraw"}},
		{"neither", "srv-one-scheme", none, LevelFail, []string{"neither", "IN SRV 0 0 2380"}},
		{"both for clients", "srv-one-scheme", clients, LevelWarn, []string{"_etcd-client-ssl", "both"}},
		{"server failure", "srv-one-scheme", broken, LevelFail, []string{"rack.broken", "dig"}},
		{"before birth", "srv-one-scheme", early, LevelSkip, []string{"not born yet"}},
		{"no domain", "srv-one-scheme", Target{Resolver: ssl.Resolver}, LevelSkip, nil},
		{"no resolver", "srv-one-scheme", Target{Domain: "rack.test"}, LevelSkip, nil},

		{"listed", "srv-own-name", ssl, LevelOK, []string{"n0.rack.test"}},
		{"not listed", "srv-own-name", ssl.with(func(t *Target) { t.Node, t.PeerURLs = "n7", nil }), LevelFail,
			[]string{"n0.rack.test, n1.rack.test, n2.rack.test", "n7.rack.test", "publish _etcd-server-ssl._tcp.rack.test. 30 IN SRV 0 0 2380 n7.rack.test."}},
		{"by address", "srv-own-name", url(ssl, "https://10.0.1.11:2380"), LevelOK, []string{"n0.rack.test"}},
		{"by a listed address only", "srv-own-name", url(ssl, "https://10.0.1.11:2380").with(func(t *Target) { t.Node = "n7" }), LevelOK, []string{"n1.rack.test", "10.0.1.11:2380"}},
		{"before birth", "srv-own-name", early, LevelSkip, nil},

		{"equal", "srv-peer-url", ssl, LevelOK, nil},
		{"another port", "srv-peer-url", url(ssl, "https://n0.rack.test:2480"), LevelFail, []string{"2480", "2380", "differ in port"}},
		{"another scheme", "srv-peer-url", url(ssl, "http://n0.rack.test:2380"), LevelFail, []string{"differ in scheme", "https"}},
		{"another case", "srv-peer-url", upper, LevelFail, []string{"N0.rack.test", "lower case"}},
		{"the target's address", "srv-peer-url", url(ssl, "https://10.0.1.10:2380"), LevelWarn, []string{"advertise https://n0.rack.test:2380"}},
		{"another name", "srv-peer-url", url(ssl, "https://n7.rack.test:2380"), LevelFail, []string{"n7.rack.test", "https://n2.rack.test:2380"}},
		{"nonsense", "srv-peer-url", url(ssl, "https://%zz"), LevelFail, []string{"cannot be read"}},
		{"none", "srv-peer-url", ssl.with(func(t *Target) { t.PeerURLs = nil }), LevelSkip, nil},

		{"all", "srv-targets-resolve", ssl, LevelOK, []string{"all 3"}},
		{"one does not", "srv-targets-resolve", half, LevelFail, []string{"n3.rack.test", "leave the member out", "IN A"}},

		{"disjoint", "srv-targets-disjoint", ssl, LevelOK, nil},
		{"one address and port", "srv-targets-disjoint", shared, LevelFail, []string{"n2.rack.test", "n3.rack.test", "10.0.1.12:2380"}},
		{"one machine", "srv-targets-disjoint", onOne, LevelWarn, []string{"10.0.1.12", "2480"}},

		{"below the domain", "srv-targets-in-domain", ssl, LevelOK, nil},
		{"elsewhere without a CA file", "srv-targets-in-domain", foreign, LevelFail, []string{"n1.elsewhere.test", "rack.test", "--peer-trusted-ca-file"}},
		{"elsewhere with a CA file", "srv-targets-in-domain", foreign.with(func(t *Target) { t.CustomCA = true }), LevelSkip, nil},
		{"plain", "srv-targets-in-domain", plain.with(func(t *Target) { t.Scheme = "http" }), LevelSkip, nil},

		{"ours", "peer-address", ssl, LevelOK, nil},
		{"another host's", "peer-address", url(moved, "https://n9.rack.test:2380"), LevelFail, []string{"10.0.1.99", "10.0.1.10"}},
		{"ours among others", "peer-address", url(moved, "https://n8.rack.test:2380"), LevelWarn, []string{"10.0.1.98"}},
		{"an address of ours", "peer-address", url(ssl, "https://[fd00::10]:2380"), LevelOK, nil},
		{"an address of another", "peer-address", url(ssl, "https://10.0.1.11:2380"), LevelFail, []string{"10.0.1.11"}},
		{"loopback", "peer-address", url(ssl, "https://127.0.1.10:2380"), LevelOK, nil},
		{"does not resolve", "peer-address", url(ssl, "https://n5.rack.test:2380"), LevelFail, []string{"n5.rack.test. 30 IN A 10.0.1.10"}},
		{"does not resolve, without IPv4", "peer-address", url(ssl, "https://n5.rack.test:2380").with(func(t *Target) { t.LocalAddrs = t.LocalAddrs[1:] }), LevelFail, []string{"n5.rack.test. 30 IN AAAA fd00::10"}},
		{"nobody's", "peer-address", Target{Domain: "rack.test", Resolver: ssl.Resolver}, LevelSkip, nil},

		{"fine", "node-name", ssl, LevelOK, nil},
		{"digits", "node-name", ssl.with(func(t *Target) { t.Node = "12" }), LevelFail, []string{`"12"`, "infra12"}},
		{"digits in SRV", "node-name", digits, LevelFail, []string{`"0"`}},
		{"digits of a peer", "node-name", Target{Peers: []string{"7.rack.test"}}, LevelFail, []string{`"7"`}},
		{"nothing", "node-name", Target{}, LevelSkip, nil},
	})
}

func TestURLChecks(t *testing.T) {
	listen := func(urls ...string) Target { return Target{ListenPeerURLs: urls} }
	client := func(peer, url string) Target {
		return Target{Domain: "rack.test", Node: "n0", PeerURLs: []string{peer}, ClientURLs: []string{url}}
	}
	const peer = "https://n0.rack.test:2380"
	runCases(t, []checkCase{
		{"addresses", "listen-urls", listen("https://10.0.1.10:2380", "http://[::]:2380", "unix://etcd.sock", "http://localhost:1"), LevelOK, nil},
		{"a name", "listen-urls", listen("https://n0.rack.test:2380"), LevelFail, []string{"n0.rack.test", "addresses only"}},
		{"a zone", "listen-urls", listen("https://[fe80::1%25eth0]:2380"), LevelFail, []string{"eth0"}},
		{"no port", "listen-urls", listen("https://10.0.1.10"), LevelFail, []string{"port"}},
		{"no scheme", "listen-urls", listen("10.0.1.10:2380"), LevelFail, []string{"cannot be read"}},
		{"a client name", "listen-urls", Target{ListenClientURLs: []string{"https://db:2379"}}, LevelFail, []string{`"db"`}},
		{"none", "listen-urls", Target{}, LevelSkip, nil},

		{"a name", "advertise-client-urls", client(peer, "https://n0.rack.test:2379"), LevelOK, nil},
		{"localhost", "advertise-client-urls", client(peer, "https://localhost:2379"), LevelFail, []string{"own host", "https://n0.rack.test:2379"}},
		{"loopback", "advertise-client-urls", client(peer, "https://127.0.0.1:2379"), LevelFail, []string{"127.0.0.1"}},
		{"loopback in a cluster on loopback", "advertise-client-urls", client("https://127.0.1.10:2380", "https://127.0.1.10:2379"), LevelOK, nil},
		{"everywhere", "advertise-client-urls", client(peer, "https://0.0.0.0:2379"), LevelFail, []string{"0.0.0.0"}},
		{"nowhere", "advertise-client-urls", client(peer, "https://"), LevelFail, []string{"names no host"}},
		{"only informs at boot", "advertise-client-urls", client(peer, "https://localhost:2379").with(func(t *Target) { t.Boot = true }), LevelWarn, nil},
		{"none", "advertise-client-urls", Target{}, LevelSkip, nil},
	})
}

func TestClock(t *testing.T) {
	at := func(s string) Target {
		now, err := time.Parse(time.RFC3339, s)
		do(t, err)
		return Target{Now: func() time.Time { return now }}
	}
	dir := t.TempDir()
	do(t, os.WriteFile(filepath.Join(dir, identityFile), []byte("{}"), 0o600))
	ran := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	do(t, os.Chtimes(filepath.Join(dir, identityFile), ran, ran))
	withDir := func(t *Target) { t.DataDir = dir }
	runCases(t, []checkCase{
		{"sane", "clock", at("2026-06-01T12:00:00Z").with(withDir), LevelOK, []string{"2026-06-01T12:00:00Z"}},
		{"1970", "clock", at("1970-01-01T00:00:10Z"), LevelFail, []string{"1970", "2026", "timedatectl"}},
		{"a day before the bundle", "clock", at("2026-06-01T12:00:00Z").with(func(t *Target) { t.NotBefore = ran.Add(25 * time.Hour) }), LevelFail, []string{"2026-06-01T13:00:00Z"}},
		{"an hour before the bundle", "clock", at("2026-06-01T12:00:00Z").with(func(t *Target) { t.NotBefore = ran.Add(time.Hour) }), LevelWarn, []string{"2026-06-01T13:00:00Z", "bundle"}},
		{"a little before the bundle", "clock", at("2026-06-01T12:00:00Z").with(func(t *Target) { t.NotBefore = ran.Add(time.Minute) }), LevelOK, nil},
		{"far future", "clock", at("2099-01-01T00:00:00Z"), LevelFail, []string{"2099"}},
		{"went back", "clock", at("2026-06-01T11:00:00Z").with(withDir), LevelWarn, []string{"2026-06-01T12:00:00Z", "2026-06-01T11:00:00Z"}},
	})
}

func TestPortsFree(t *testing.T) {
	held := map[string]string{}
	for _, network := range []string{"tcp", "udp"} {
		h := startHelper(t, "listen", network)
		held[network] = h.waitFor(t, "addr")
		held[network+" pid"] = fmt.Sprintf("(pid %d)", h.cmd.Process.Pid)
	}
	one := func(network, addr string) Target {
		return Target{Listen: []Listener{{network, addr, "DNS"}}, Boot: true}
	}
	runCases(t, []checkCase{
		{"free", "ports-free", one("tcp", "127.0.0.1:0"), LevelOK, []string{"all 1"}},
		{"tcp held", "ports-free", one("tcp", held["tcp"]), LevelFail, []string{held["tcp"], held["tcp pid"], "srvboot.test", "DNS"}},
		{"udp held", "ports-free", one("udp", held["udp"]), LevelFail, []string{held["udp"], held["udp pid"]}},
		{"a listen URL held", "ports-free", Target{ListenPeerURLs: []string{"https://" + held["tcp"]}, Boot: true}, LevelFail, []string{"etcd peers"}},
		{"held by a run of the same program", "ports-free", one("tcp", held["tcp"]).with(func(t *Target) { t.Boot = false }), LevelOK, []string{"listens on the others"}},
		{"not our address", "ports-free", one("tcp", "192.0.2.1:2380"), LevelFail, []string{"192.0.2.1", "ip -brief address"}},
		{"none", "ports-free", Target{}, LevelSkip, nil},
	})
}

func TestDataDirCheck(t *testing.T) {
	dir := func(change func(dir string)) Target {
		d := t.TempDir()
		do(t, os.Chmod(d, 0o700))
		change(d)
		return Target{DataDir: d, Node: "n0", Bundle: "b"}
	}
	nothing := func(string) {}
	foreign := etcdMarker(t, Running)
	foreign.Node = "n1"
	cases := []checkCase{
		{"empty", "data-dir", dir(nothing), LevelOK, []string{"writable"}},
		{"ours", "data-dir", dir(func(d string) { do(t, testDisk(d).SaveMarker(etcdMarker(t, Running))) }), LevelOK, nil},
		{"another node's", "data-dir", dir(func(d string) { do(t, NewDisk(DiskOptions{Dir: d}).SaveMarker(foreign)) }), LevelFail, []string{`"n1"`, `"n0"`}},
		{"torn", "data-dir", dir(func(d string) { do(t, os.WriteFile(d+"/"+markerFile, []byte("{"), 0o600)) }), LevelFail, []string{"damaged"}},
		{"open to all", "data-dir", dir(func(d string) { do(t, os.Chmod(d, 0o777)) }), LevelWarn, []string{"0777", "chmod 700"}},
		{"a file", "data-dir", Target{DataDir: os.Args[0]}, LevelFail, []string{"is a file"}},
		{"still to be made", "data-dir", Target{DataDir: filepath.Join(t.TempDir(), "a", "b")}, LevelOK, nil},
		{"below a file", "data-dir", Target{DataDir: os.Args[0] + "/data"}, LevelFail, []string{"not a directory"}},
		{"none", "data-dir", Target{}, LevelSkip, nil},
	}
	readOnly := t.TempDir()
	if err := unix.Mount("none", readOnly, "tmpfs", 0, "size=64k"); err == nil {
		t.Cleanup(func() { do(t, unix.Unmount(readOnly, 0)) })
		do(t, os.Chmod(readOnly, 0o700))
		cases = append(cases,
			checkCase{"in memory", "data-dir", Target{DataDir: readOnly}, LevelFail, []string{"tmpfs", "ephemeral yes"}},
			checkCase{"in memory, allowed", "data-dir", Target{DataDir: readOnly, Ephemeral: true}, LevelWarn, []string{"tmpfs"}})
		runCases(t, cases)
		do(t, unix.Mount("none", readOnly, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		runCases(t, []checkCase{
			{"read-only", "data-dir", Target{DataDir: readOnly, Ephemeral: true}, LevelFail, []string{"cannot be written", "read-only"}},
			{"cannot be made", "data-dir", Target{DataDir: readOnly + "/a/b", Ephemeral: true}, LevelFail, []string{"cannot be made", readOnly}},
		})
		return
	}
	runCases(t, cases)
	t.Log("cannot mount here: the cases in memory and read-only did not run")
}

// TestRunChecksOrderAndNames also shows that nothing given is nothing failed.
func TestRunChecksOrderAndNames(t *testing.T) {
	results := RunChecks(t.Context(), Target{})
	if len(results) != len(Checks()) {
		t.Fatalf("%d results of %d checks", len(results), len(Checks()))
	}
	seen := map[string]bool{}
	for i, c := range Checks() {
		if results[i].Name != c.Name {
			t.Errorf("result %d is of %s, want %s", i, results[i].Name, c.Name)
		}
		if seen[c.Name] || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("name %q", c.Name)
		}
		seen[c.Name] = true
		if want := LevelSkip; results[i].Level != want && c.Name != "clock" {
			t.Errorf("%s of nothing: %s (%s), want %s", c.Name, results[i].Level, results[i].Detail, want)
		}
	}
}

// countingResolver counts the questions.
type countingResolver struct {
	Resolver
	asked atomic.Int64
}

func (c *countingResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	c.asked.Add(1)
	return c.Resolver.LookupNetIP(ctx, network, host)
}

func TestRunChecksAsksOnce(t *testing.T) {
	target := nodeTarget(t, threeNodes(srvSSL)...)
	counting := &countingResolver{Resolver: target.Resolver}
	target.Resolver = counting
	RunChecks(t.Context(), target)
	if got := counting.asked.Load(); got != 3 {
		t.Errorf("%d questions for 3 names", got)
	}
}

// silentResolver never answers.
type silentResolver struct{}

func (silentResolver) LookupSRV(ctx context.Context, _, _, _ string) (string, []*net.SRV, error) {
	<-ctx.Done()
	return "", nil, ctx.Err()
}

func (silentResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestRunChecksEndsWithItsContext(t *testing.T) {
	target := nodeTarget(t)
	target.Resolver = silentResolver{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range RunChecks(ctx, target) {
		if r.Name == "srv-one-scheme" && r.Level != LevelFail {
			t.Errorf("a silent server: %s (%s)", r.Level, r.Detail)
		}
	}
}
