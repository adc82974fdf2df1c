//go:build linux

package lab

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// queryLimit is how long a query waits for its answer.
const queryLimit = time.Second

// dial opens a UDP socket to the name server at addr from a host.
func (l *Lab) dial(from, addr string) (conn *dns.Conn, err error) {
	err = inNetns(l.host(from).ns, func() error {
		c, err := net.DialTimeout("udp", net.JoinHostPort(addr, "53"), queryLimit)
		conn = &dns.Conn{Conn: c, UDPSize: 1232}
		return err
	})
	return conn, err
}

// listen opens a socket on a host.
func (l *Lab) listen(on string) (conn *net.UDPConn, err error) {
	err = inNetns(l.host(on).ns, func() (err error) {
		conn, err = net.ListenUDP("udp", nil)
		return err
	})
	return conn, err
}

// Query asks the name server at addr from a host, over UDP, once, for at most a second.
func (l *Lab) Query(from, addr, name string, qtype uint16) (*dns.Msg, error) {
	conn, err := l.dial(from, addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return exchange(conn, name, qtype)
}

// exchange asks one question on an open socket; answers to earlier questions are skipped.
func exchange(conn *dns.Conn, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, false)
	if err := conn.SetDeadline(time.Now().Add(queryLimit)); err != nil {
		return nil, err
	}
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		r, err := conn.ReadMsg()
		if err != nil {
			return nil, err
		}
		if r.Id == q.Id {
			return r, nil
		}
	}
}

// Answer is what a reply says, in one line that can be compared: the response code, or the records of the answer
// section, sorted, without owner and TTL.
func Answer(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	if len(m.Answer) == 0 {
		return "NODATA"
	}
	var data []string
	for _, rr := range m.Answer {
		data = append(data, strings.Join(strings.Fields(strings.TrimPrefix(rr.String(), rr.Header().String())), " "))
	}
	slices.Sort(data)
	return strings.Join(data, ", ")
}

// Ask is Query and Answer in one: what the server at addr says, or the error in its place.
func (l *Lab) Ask(from, addr, name string, qtype uint16) string {
	m, err := l.Query(from, addr, name, qtype)
	if err != nil {
		return "no answer: " + err.Error()
	}
	return Answer(m)
}

// Dig runs dig on a host, as in the guide: +noall +answer, and returns the lines, sorted, each with single spaces.
// It fails the test if dig does.
func (l *Lab) Dig(from string, args ...string) []string {
	l.t.Helper()
	out := l.Must(from, "dig", append([]string{"+noall", "+answer", "+tries=1", "+time=2"}, args...)...)
	var lines []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(line, ";") {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// service is the owner name of an SRV record set of the lab's cluster: what is server or client.
func (l *Lab) service(what string) string {
	label := "_etcd-" + what
	if !l.Plain {
		label += "-ssl"
	}
	if l.SrvName != "" {
		label += "-" + l.SrvName
	}
	return label + "._tcp." + l.Domain
}

// complete is the answer of the whole record set of service(what), as Answer writes it.
func (l *Lab) complete(what string) string { return l.targets(what, l.names...) }

// targets is the answer with these nodes alone.
func (l *Lab) targets(what string, names ...string) string {
	port := map[string]int{"server": 2380, "client": 2379}[what]
	var data []string
	for _, n := range names {
		data = append(data, fmt.Sprintf("0 0 %d %s.%s.", port, n, l.Domain))
	}
	return strings.Join(data, ", ")
}
