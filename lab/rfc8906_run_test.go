//go:build linux

package lab

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// askedDoor is one transport of one server.
type askedDoor struct {
	// name begins with who answers: fast, own (CoreDNS's sockets) or NSD.
	name, network, addr string
	nsid                string
}

// compliant is a signed rack whose infra0 answers on the fast path and whose infra1 has it bypassed, so that CoreDNS's own
// sockets answer; infra2 tells its version. NSD has the zone, too.
type compliant struct {
	*Lab
	doors []askedDoor
}

const (
	controlHost  = "control"
	clientCookie = "0102030405060708"
	rackVersion  = "rack v1"
)

func bootCompliant(t *testing.T) *compliant {
	t.Helper()
	l := &compliant{Lab: New(t, Options{Edit: func(node, corefile string) string {
		big := fmt.Sprintf("etcdsrv {\n        record big TXT %q\n        record big TXT %q\n", strings.Repeat("a", 250), strings.Repeat("b", 250))
		corefile = strings.Replace(corefile, "etcdsrv {\n", big, 1)
		more := map[string]string{"infra0": "    nsid\n", "infra1": "    nsid infra1\n    log\n", "infra2": "    chaos \"" + rackVersion + "\"\n"}
		return strings.Replace(corefile, "    errors\n", more[node]+"    errors\n", 1)
	}})}
	// CoreDNS's own sockets are asked in DNS over TLS, too; the other block has a name at the same address.
	l.EditCorefile("infra0", func(text string) string {
		return text + fmt.Sprintf("tls://%s {\n    nsid\n    etcdsrv\n}\nother.example.net {\n    bind %s\n    acl {\n        filter\n    }\n}\n", l.Domain, l.Addr("infra0"))
	})
	l.StartAll()
	l.WaitHealthy()
	l.Wait("dnssec on", 10*time.Second, func() error { return l.Tool("infra1", "dnssec", "on").Err() })
	for _, n := range l.names {
		l.Wait("signatures at "+n, 30*time.Second, func() error { return l.hasKey(n) })
	}
	l.startControl()
	host, err := os.Hostname() // the network namespaces of the lab have one name
	if err != nil {
		t.Fatal(err)
	}
	l.doors = []askedDoor{
		{"fast UDP", "udp", l.Addr("infra0"), host}, {"fast TCP", "tcp", l.Addr("infra0"), host},
		{"own UDP", "udp", l.Addr("infra1"), "infra1"}, {"own TCP", "tcp", l.Addr("infra1"), "infra1"}, {"own TLS", "tcp-tls", l.Addr("infra0"), host},
		{"NSD UDP", "udp", l.Addr(controlHost), controlHost}, {"NSD TCP", "tcp", l.Addr(controlHost), controlHost},
	}
	for n, state := range map[string]string{"infra0": "serving", "infra1": "bypassed", "infra2": "serving"} {
		l.WaitStatus(n, "fast_paths", state)
	}
	return l
}

func (l *compliant) hasKey(host string) error {
	m, err := l.Query(clientHost, l.Addr(host), l.Domain, dns.TypeDNSKEY)
	if err == nil && len(m.Answer) == 0 {
		err = errors.New(m.String())
	}
	return err
}

// startControl starts NSD with the zone as a node prints it.
func (l *compliant) startControl() {
	l.t.Helper()
	h := l.addHost(controlHost, netip.MustParseAddr("10.0.2.31"))
	zone := l.Tool("infra0", "zone")
	if err := zone.Err(); err != nil {
		l.t.Fatal(err)
	}
	l.write(h, "zone", zone.Stdout)
	l.write(h, "nsd.conf", fmt.Sprintf(controlConf, h.in(ipv4), h.dir, l.Domain, controlHost))
	l.daemon(h, "nsd", "-d", "-c", filepath.Join(h.dir, "nsd.conf"))
	l.Wait("NSD serves the signed zone", 10*time.Second, func() error { return l.hasKey(controlHost) })
}

const controlConf = `server:
  ip-address: %[1]s
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "%[2]s"
  logfile: "%[2]s/nsd.log"
  pidfile: "%[2]s/nsd.pid"
  xfrdfile: "%[2]s/xfrd.state"
  xfrdir: "%[2]s"
  zonelistfile: "%[2]s/zone.list"
  database: ""
  nsid: "ascii_%[4]s"
  answer-cookie: yes
  hide-version: yes
  hide-identity: yes
  minimal-responses: yes
remote-control:
  control-enable: no
zone:
  name: "%[3]s"
  zonefile: "zone"
`

// chaos: plugin chaos in the server block answers what a server says of itself, on the fast path and on CoreDNS's own sockets.
func (l *compliant) chaos(t *testing.T) {
	l.EditCorefile("infra1", func(text string) string {
		return strings.Replace(text, "    errors\n", "    chaos \""+rackVersion+"\"\n    errors\n", 1)
	})
	l.Signal("infra1", syscall.SIGHUP)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []askedDoor{{"fast UDP", "udp", l.Addr("infra2"), ""}, {"fast TCP", "tcp", l.Addr("infra2"), ""}, l.doors[2], l.doors[3]} {
		for name, want := range map[string]string{"version.bind.": rackVersion, "version.server.": rackVersion, "hostname.bind.": host, "id.server.": host} {
			q := askFor(dns.TypeTXT, withName(name), withClass(dns.ClassCHAOS))("")
			l.Wait(name+" at "+d.name, 10*time.Second, func() error {
				m, err := l.exchange(d, q)
				if err == nil && Answer(m) != fmt.Sprintf("%q", want) {
					err = errors.New(m.String())
				}
				return err
			})
		}
	}
}

// exchange sends a query as it is and returns the answer.
func (l *compliant) exchange(d askedDoor, q *dns.Msg) (m *dns.Msg, err error) {
	port := "53"
	if d.network == "tcp-tls" {
		port = "853" // RFC 7858 §3.1
	}
	c := &dns.Client{Net: d.network, Timeout: 3 * queryLimit, TLSConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own server
	var conn *dns.Conn
	err = inNetns(l.host(clientHost).ns, func() (err error) {
		conn, err = c.Dial(net.JoinHostPort(d.addr, port))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	conn.UDPSize = 4096
	if err := errors.Join(conn.SetDeadline(time.Now().Add(3*queryLimit)), conn.WriteMsg(q)); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}

// form asks, and writes the form of the answer in a line: opcode, rcode, flags, the types of each section, and EDNS. What an
// answer always has is left out: the ID and the question of the query, and QR.
func (l *compliant) form(d askedDoor, q *dns.Msg) string {
	m, err := l.exchange(d, q)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case err != nil:
		return err.Error()
	}
	parts := []string{headerForm(m)}
	switch {
	case m.Id != q.Id || !m.Response:
		return "no answer to the query: " + m.String()
	case len(m.Question) == 0:
		parts = append(parts, "no question")
	case !slices.Equal(m.Question, q.Question):
		parts = append(parts, "another question")
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		types := []string{}
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				types = append(types, dns.TypeToString[rr.Header().Rrtype])
			}
		}
		if slices.Sort(types); len(types) > 0 {
			parts = append(parts, []string{"answer ", "authority ", "additional "}[i]+strings.Join(types, " "))
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		parts = append(parts, ednsForm(d, opt))
	}
	return strings.Join(parts, "; ")
}

func headerForm(m *dns.Msg) string {
	text := dns.RcodeToString[m.Rcode]
	if m.Rcode == dns.RcodeBadVers {
		text = "BADVERS" // its number is BADSIG's, too
	}
	if m.Opcode != dns.OpcodeQuery {
		text = fmt.Sprintf("opcode %d %s", m.Opcode, text)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired}, {"ra", m.RecursionAvailable}, {"z", m.Zero},
		{"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled}} {
		if f.set {
			text += " " + f.name
		}
	}
	return text
}

// ednsForm leaves out what is right: version 0, no flag but DO, this server's NSID, a cookie of this client and a server.
func ednsForm(d askedDoor, opt *dns.OPT) string {
	text := "EDNS"
	if opt.Version() != 0 {
		text += fmt.Sprintf(" version %d", opt.Version())
	}
	if opt.Do() {
		text += " DO"
	}
	if z := opt.Hdr.Ttl & 0x7fff; z != 0 {
		text += fmt.Sprintf(" flags %#x", z)
	}
	var options []string
	for _, o := range opt.Option {
		name := fmt.Sprintf("%d=%s", o.Option(), o)
		switch o := o.(type) {
		case *dns.EDNS0_NSID:
			if o.Nsid == hex.EncodeToString([]byte(d.nsid)) {
				name = "NSID"
			}
		case *dns.EDNS0_COOKIE:
			if strings.HasPrefix(o.Cookie, clientCookie) && len(o.Cookie) == 2*(8+16) { // RFC 9018 §4
				name = "COOKIE"
			}
		case *dns.EDNS0_EDE:
			name = fmt.Sprintf("EDE=%d", o.InfoCode)
		}
		options = append(options, name)
	}
	slices.Sort(options)
	return strings.Join(append([]string{text}, options...), " ")
}

// ask makes a question for the zone's apex as the RFC's dig does: without RD, AD and EDNS unless a change sets them.
func askFor(qtype uint16, changes ...func(*dns.Msg)) func(zone string) *dns.Msg {
	return func(zone string) *dns.Msg {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(zone), qtype)
		m.RecursionDesired = false
		for _, c := range changes {
			c(m)
		}
		return m
	}
}

// header makes a message of a header alone.
func askHeader(o int, changes ...func(*dns.Msg)) func(zone string) *dns.Msg {
	return askFor(0, append([]func(*dns.Msg){withOpcode(o), func(m *dns.Msg) { m.Question = nil }}, changes...)...)
}

func withOpcode(o int) func(*dns.Msg)     { return func(m *dns.Msg) { m.Opcode = o } }
func withName(name string) func(*dns.Msg) { return func(m *dns.Msg) { m.Question[0].Name = name } }
func withClass(c uint16) func(*dns.Msg)   { return func(m *dns.Msg) { m.Question[0].Qclass = c } }
func withSize(n uint16) func(*dns.Msg)    { return func(m *dns.Msg) { m.IsEdns0().SetUDPSize(n) } }
func withLabel(l string) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Question[0].Name = l + "." + m.Question[0].Name }
}
func withAllBits(m *dns.Msg) {
	m.Authoritative, m.Truncated, m.RecursionDesired, m.RecursionAvailable = true, true, true, true
	m.Zero, m.AuthenticatedData, m.CheckingDisabled = true, true, true
}

// flagDO is the flag of EDNS that asks for DNSSEC (RFC 3225 §3).
const flagDO = 0x8000

// edns adds an OPT record (RFC 6891 §6.1.3).
func withEDNS(version uint8, flags uint16, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.Extra = append(m.Extra, &dns.OPT{Option: options,
			Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 4096, Ttl: uint32(version)<<16 | uint32(flags)}})
	}
}
