//go:build linux

package lab

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A rack, its parent, resolver, client and secondaries without one IPv4 address but those of loopback. Two of the nodes
// bind their addresses; infra2 binds the wildcard.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	s := bootSecondaries(t, Options{IPv6Only: true, Edit: func(node, corefile string) string {
		if node == "infra2" {
			corefile = withWildcard(corefile)
		}
		return withBigRecords(corefile)
	}})
	s.tentative(t, "infra1")
	s.StartAll()
	s.Wait("infra1 to say what it waits for", 30*time.Second, func() error {
		if log := s.Log("infra1"); !strings.Contains(log, "waiting for addresses") || !strings.Contains(log, s.Addr("infra1")) {
			return errorf("its log says\n%s", log)
		}
		return nil
	})
	s.certain(t, "infra1")
	s.WaitHealthy()
	t.Run("NoIPv4", func(t *testing.T) { s.noIPv4(t) })
	t.Run("Glue", func(t *testing.T) { s.glue(t) })
	t.Run("Checks", func(t *testing.T) { s.checks(t) })
	t.Run("Listeners", func(t *testing.T) { s.listeners(t) })
	t.Run("Certificates", func(t *testing.T) { s.certificates(t) })
	t.Run("FastPath", func(t *testing.T) {
		for _, n := range []string{"infra0", "infra1"} {
			s.answersAt(t, door{s.host(clientHost).ns, n, s.Addr(n), net.JoinHostPort(s.Addr(n), "53")})
		}
	})
	t.Run("Wildcard", func(t *testing.T) { s.wildcard(t, "infra2") })
	t.Run("NoFragments", func(t *testing.T) { s.noFragments(t, "infra0") })
	t.Run("Secondaries", func(t *testing.T) { s.follow(t) })
	t.Run("RateLimit", func(t *testing.T) { s.rateLimit(t, "infra1") })
	s.booted(t)
}

// withWildcard has a node listen on all of its addresses.
func withWildcard(corefile string) string {
	return strings.Replace(corefile, "\n    errors\n", "\n    errors\n    bind ::\n", 1)
}

// tentative leaves a host's address in the state in which duplicate address detection has it (RFC 4862 §5.4), for long.
func (s *secondaries) tentative(t *testing.T, name string) {
	t.Helper()
	s.Must(name, "ip", "address", "delete", s.Addr(name)+"/128", "dev", "eth0")
	s.Must(name, "sh", "-c", "echo 1000 >/proc/sys/net/ipv6/conf/eth0/dad_transmits")
	s.Must(name, "ip", "address", "add", s.Addr(name)+"/128", "dev", "eth0")
}

// certain ends what tentative began.
func (s *secondaries) certain(t *testing.T, name string) {
	t.Helper()
	s.Must(name, "ip", "address", "delete", s.Addr(name)+"/128", "dev", "eth0")
	s.Must(name, "ip", "address", "add", s.Addr(name)+"/128", "dev", "eth0", "nodad")
}

// noIPv4: there is no IPv4 address but on loopback, nothing listens on one, no packet of IPv4 ever crossed the hub, and the
// zone holds no A record.
func (s *secondaries) noIPv4(t *testing.T) {
	for name := range s.net.hosts {
		for line := range strings.Lines(s.Must(name, "ip", "-4", "-oneline", "address")) {
			if f := strings.Fields(line); f[1] != "lo" {
				t.Errorf("%s has an IPv4 address: %s", name, line)
			}
		}
	}
	// What goes through the hub is counted there; IPv6's counter shows that it would be.
	if c := s.counters(s.net.hub()); c["IpForwDatagrams"] != 0 || c["Ip6OutForwDatagrams"] == 0 {
		t.Errorf("%d packets of IPv4 and %d of IPv6 crossed the hub", c["IpForwDatagrams"], c["Ip6OutForwDatagrams"])
	}
	for _, n := range s.names {
		zone := s.Tool(n, "zone")
		parser := dns.NewZoneParser(strings.NewReader(zone.Stdout), "", "")
		seen := map[uint16]int{}
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			seen[rr.Header().Rrtype]++
		}
		// One AAAA for each node, and one at the apex for each that serves clients.
		if seen[dns.TypeA] != 0 || seen[dns.TypeAAAA] != 6 || seen[dns.TypeSRV] != 6 || parser.Err() != nil {
			t.Errorf("the zone of %s: %v", n, zone)
		}
	}
}

// glue: the parent refers to every node by each of its addresses, and to no other.
func (l *Lab) glue(t *testing.T) {
	m, err := l.Query(clientHost, l.Addr(parentHost), l.Domain, dns.TypeNS)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, rr := range m.Extra {
		switch rr := rr.(type) {
		case *dns.A:
			got = append(got, rr.Hdr.Name+" "+rr.A.String())
		case *dns.AAAA:
			got = append(got, rr.Hdr.Name+" "+rr.AAAA.String())
		}
	}
	for _, n := range l.names {
		for _, a := range l.Addrs(n) {
			want = append(want, n+"."+l.Domain+". "+a)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(m.Ns) != len(l.names) {
		t.Errorf("the parent's glue is %v, want %v, in\n%v", got, want, m)
	}
}

// checks: every pre-flight check of every node passes without so much as a warning, the node's own look at the parent
// agrees and heard every server, and status warns of nothing but what is wanted.
func (l *Lab) checks(t *testing.T, warnings ...string) {
	for _, n := range l.names {
		var results []struct{ Name, Level, Detail string }
		r := l.Tool(n, "check", "-o", "json")
		if err := json.Unmarshal([]byte(r.Stdout), &results); err != nil || len(results) < 15 {
			t.Fatal(err, r)
		}
		for _, c := range results {
			if c.Level != "ok" && c.Name != "srv-targets-in-domain" {
				t.Errorf("on %s: %+v", n, c)
			}
		}
		l.WaitStatus(n, "zone.parent.verdict", "agrees")
		if got := l.StatusText(n, "zone.parent.silent"); got != "[]" {
			t.Errorf("%s did not hear %s", n, got)
		}
		status, err := l.Status(n)
		got, ok := status["warnings"].([]any)
		if err != nil || !ok || len(got) != len(warnings) {
			t.Errorf("%s warns of %v, want %q (%v)", n, status["warnings"], warnings, err)
			continue
		}
		for i, w := range warnings {
			if !strings.Contains(fmt.Sprint(got[i]), w) {
				t.Errorf("%s warns of %q, want %q", n, got[i], w)
			}
		}
	}
}

// listeners: DNS, the admin port and etcd listen on the node's address, etcd by URLs with brackets, and on no other but
// loopback, infra2's DNS excepted; etcd's URLs for others are names, of which its IDs are made.
func (s *secondaries) listeners(t *testing.T) {
	for _, n := range s.names {
		own := "[" + s.Addr(n) + "]"
		want := []string{"127.0.0.1:2379", "127.0.0.1:9153", own + ":2378", own + ":2379", own + ":2380", own + ":2388"}
		if n == "infra2" {
			want = append(want, "*:53")
		} else {
			want = append(want, own+":53")
		}
		var got []string
		for line := range strings.Lines(s.Must(n, "ss", "-Hltn")) {
			got = append(got, strings.Fields(line)[3])
		}
		slices.Sort(got)
		slices.Sort(want)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("%s listens on %v, want %v", n, got, want)
		}
		for _, url := range []string{"https://" + own + ":2380", "https://" + own + ":2379", "https://" + n + "." + s.Domain + ":2380"} {
			if !strings.Contains(s.Log(n), `"`+url+`"`) {
				t.Errorf("etcd on %s does not speak of %s", n, url)
			}
		}
	}
}

// certificates: what a node shows at each TLS port is valid for its IPv6 address, and names no IPv4 address but loopback's.
func (s *secondaries) certificates(t *testing.T) {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(s.host(clientHost).dir, "ca.crt"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA", err)
	}
	for _, n := range s.names {
		for _, port := range []string{"2378", "2379", "2380"} {
			conn, err := s.connect(clientHost, net.JoinHostPort(s.Addr(n), port))
			if err != nil {
				t.Errorf("%s: %v", n, err)
				continue
			}
			shown := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: s.Addr(n)})
			if err := shown.Handshake(); err != nil {
				t.Errorf("port %s of %s: %v", port, n, err)
			} else {
				for _, ip := range shown.ConnectionState().PeerCertificates[0].IPAddresses {
					if a, _ := netip.AddrFromSlice(ip); a.Unmap().Is4() && !a.Unmap().IsLoopback() {
						t.Errorf("port %s of %s: the certificate is for %s", port, n, ip)
					}
				}
			}
			_ = shown.Close()
		}
		if err := s.At(n, "endpoint", "health").Err(); err != nil {
			t.Errorf("a client at the address of %s: %v", n, err)
		}
	}
}

// connect opens a TCP connection from a host.
func (l *Lab) connect(from, addr string) (conn net.Conn, err error) {
	err = inNetns(l.host(from).ns, func() error {
		conn, err = net.DialTimeout("tcp", addr, queryLimit)
		return err
	})
	return conn, err
}

// withBigRecords adds two texts: the answer to one fills a packet of IPv6's least MTU, 1280, to the last octet, the answer
// to the other is longer by one.
func withBigRecords(corefile string) string {
	return strings.Replace(corefile, "etcdsrv {", "etcdsrv {\n        record fit TXT"+texts(fitText)+"\n        record big TXT"+texts(fitText+1), 1)
}

// texts is a text of n octets, quoted in pieces.
func texts(n int) (out string) {
	for ; n > 0; n -= 255 {
		out += fmt.Sprintf(" %q", strings.Repeat("x", min(n, 255)))
	}
	return out
}

// fitText is how many octets a text at fit.rack1.example.com has whose answer has 1232: 12 of the header, 27 of the
// question, 12 before the data, a length for each 255 octets of text, and 11 of OPT.
const fitText = 1232 - 12 - 27 - 12 - 5 - 11

// follow: the secondaries get the zone, are told of a change by signed NOTIFY from the nodes' own addresses, and fetch it by
// IXFR as soon as TestSecondaries wants it.
func (s *secondaries) follow(t *testing.T) {
	s.startSecondaries()
	w := s.watchSerials(s.Domain, s.hosts()...)
	defer w.stop()
	s.settled(w, "the first transfer", 0)
	before := s.quiet(w)
	s.reload("aliases on")
	s.pickUp(t, w, "aliases", before)
	s.quiet(w)
	s.equal(t, s.Domain)
	s.told(t)
	s.notified(t)
	s.incremental(t, s.Domain)
}
