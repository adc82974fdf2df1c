//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// addAddress gives a host one more address.
func (l *Lab) addAddress(name, addr string) {
	l.t.Helper()
	l.Must(name, "ip", "address", "add", addr, "dev", "eth0", "nodad")
	if err := ip("-n", l.net.hub(), "route", "add", addr, "dev", name); err != nil {
		l.t.Fatal(err)
	}
}

// ask asks over an open socket or connection, and returns the answer with its length in octets.
func ask(conn *dns.Conn, q *dns.Msg) (r *dns.Msg, size int, err error) {
	if err := conn.SetDeadline(time.Now().Add(5 * queryLimit)); err != nil {
		return nil, 0, err
	}
	if err := conn.WriteMsg(q); err != nil {
		return nil, 0, err
	}
	packed, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, 0, err
	}
	r = new(dns.Msg)
	return r, len(packed), r.Unpack(packed)
}

// open connects to the name server at addr from a namespace. A UDP socket that is connected hears nothing from any other
// address than the one that it asks.
func open(ns, network, addr string) (conn *dns.Conn, err error) {
	err = inNetns(ns, func() error {
		c, err := net.DialTimeout(network, net.JoinHostPort(addr, "53"), queryLimit)
		conn = &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}
		return err
	})
	return conn, err
}

// fastPath is what a node's metrics say of the fast path at an address: its state, and how many queries it left to CoreDNS.
func (l *Lab) fastPath(name, address string) (state string, missed int) {
	l.t.Helper()
	text, err := l.metrics(name)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		for _, s := range []string{"serving", "bypassed", "off"} {
			if strings.TrimSpace(line) == fmt.Sprintf("coredns_etcdsrv_front{address=%q,state=%q} 1", address, s) {
				state = s
			}
		}
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("coredns_etcdsrv_front_missed_total{address=%q} ", address)); ok {
			if missed, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	return state, missed
}

// kinds are queries by who answers them: the fast path by itself, CoreDNS behind it, and CoreDNS on its own socket.
func (l *Lab) kinds() (plain, missed []*dns.Msg, own *dns.Msg) {
	query := func(name string, qtype uint16) *dns.Msg {
		return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype).SetEdns0(1232, false)
	}
	for _, n := range []string{l.service("server"), l.service("client"), "infra1." + l.Domain, l.Domain, "nosuch." + l.Domain} {
		for _, t := range []uint16{dns.TypeSRV, dns.TypeA, dns.TypeAAAA, dns.TypeSOA} {
			plain = append(plain, query(n, t))
		}
	}
	return plain, []*dns.Msg{query("example.net", dns.TypeA)}, new(dns.Msg).SetNotify(dns.Fqdn(l.Domain))
}

// door is a way to a node's name server.
type door struct {
	// ns is the namespace that asks, addr the address of node that it asks at.
	ns, node, addr string
	// bound is what the node binds there, as its metrics have it.
	bound string
}

// answersAt asks for all kinds at a door, over UDP and TCP. Only the queries of the test may reach the node meanwhile.
func (l *Lab) answersAt(t *testing.T, d door) {
	t.Helper()
	plain, missed, own := l.kinds()
	state, before := l.fastPath(d.node, d.bound)
	if state != "serving" {
		t.Errorf("the fast path of %s at %s is %q, want serving", d.node, d.bound, state)
	}
	for _, network := range []string{"udp", "tcp"} {
		conn, err := open(d.ns, network, d.addr)
		if err != nil {
			t.Errorf("%s over %s: %v", d.addr, network, err)
			continue
		}
		for _, q := range plain {
			if r, _, err := ask(conn, q); err != nil || r.Id != q.Id || !r.Authoritative {
				t.Errorf("%s over %s: %v, want an authoritative answer to\n%v\nnot %v", d.addr, network, err, q, r)
			}
		}
		if _, after := l.fastPath(d.node, d.bound); after != before {
			t.Errorf("%s over %s: the fast path left %d of %d plain queries to CoreDNS", d.addr, network, after-before, len(plain))
		}
		for _, q := range missed {
			if r, _, err := ask(conn, q); err != nil || r.Id != q.Id || r.Rcode != dns.RcodeRefused {
				t.Errorf("%s over %s: %v, want REFUSED for another zone, not %v", d.addr, network, err, r)
			}
		}
		if r, _, err := ask(conn, own); err != nil || r.Id != own.Id || r.Rcode != dns.RcodeNotAuth {
			t.Errorf("%s over %s: %v, want NOTAUTH for NOTIFY, not %v", d.addr, network, err, r)
		}
		_ = conn.Close()
		// Over UDP the kernel gives NOTIFY to CoreDNS; the fast path never sees it.
		left := len(missed)
		if network == "tcp" {
			left++
		}
		_, after := l.fastPath(d.node, d.bound)
		if after != before+left {
			t.Errorf("%s over %s: the fast path left %d queries to CoreDNS, want %d", d.addr, network, after-before, left)
		}
		before = after
	}
}

// wildcard: a node that binds :: answers from whichever of its addresses was asked: two of one interface, the link-local
// one and that of loopback.
func (l *Lab) wildcard(t *testing.T, name string) {
	more := addr6(netip.MustParseAddr("10.0.1.112")).String()
	l.addAddress(name, more)
	for _, addr := range []string{l.Addr(name), more} {
		l.answersAt(t, door{l.host(clientHost).ns, name, addr, "[::]:53"})
	}
	l.answersAt(t, door{l.host(name).ns, name, "::1", "[::]:53"})
	local := strings.Fields(l.Must(name, "ip", "-6", "-oneline", "address", "show", "dev", "eth0", "scope", "link"))
	if len(local) < 4 {
		t.Fatalf("%s has no link-local address: %v", name, local)
	}
	addr, _, _ := strings.Cut(local[3], "/")
	l.answersAt(t, door{l.net.hub(), name, addr + "%" + name, "[::]:53"})
}

// noFragments: over a path of IPv6's least MTU an answer of the longest kind arrives in one packet, what is longer comes as
// a truncated answer and then over TCP, and nobody makes, gets or misses a fragment (RFC 8085 §3.2, RFC 9715).
func (l *Lab) noFragments(t *testing.T, name string) {
	node, client, hub := l.host(name).ns, l.host(clientHost).ns, l.net.hub()
	for ns, device := range map[string]string{hub: clientHost, client: "eth0"} {
		if err := ip("-n", ns, "link", "set", "dev", device, "mtu", "1280"); err != nil {
			t.Fatal(err)
		}
	}
	query := func(label string) *dns.Msg {
		return new(dns.Msg).SetQuestion(label+"."+l.Domain+".", dns.TypeTXT).SetEdns0(4096, false)
	}
	tooBig := l.counters(hub)["Icmp6OutPktTooBigs"]
	for _, tt := range []struct {
		network, label string
		size           int
		truncated      bool
	}{{"udp", "fit", 1232, false}, {"udp", "big", 0, true}, {"tcp", "big", 1233, false}} {
		conn, err := open(client, tt.network, l.Addr(name))
		if err != nil {
			t.Fatal(err)
		}
		r, size, err := ask(conn, query(tt.label))
		switch {
		case err != nil || r.Truncated != tt.truncated || len(r.Answer) == 0 != tt.truncated:
			t.Errorf("%s over %s: %v, %v", tt.label, tt.network, err, r)
		case !tt.truncated && size != tt.size:
			t.Errorf("%s over %s has %d octets, want %d", tt.label, tt.network, size, tt.size)
		}
		_ = conn.Close()
		if got := l.counters(hub)["Icmp6OutPktTooBigs"]; tt.network == "udp" && got != tooBig {
			t.Errorf("%s over UDP: %d packets were too big for a path of 1280 octets", tt.label, got-tooBig)
		}
	}
	for ns, names := range map[string][]string{node: {"Ip6FragCreates", "Ip6FragFails"}, client: {"Ip6ReasmReqds"}, hub: {"Ip6FragCreates"}} {
		for _, c := range names {
			if n, ok := l.counters(ns)[c]; !ok || n != 0 {
				t.Errorf("%s of %s is %d", c, ns, n)
			}
		}
	}
}

// counters are the kernel's counters of a namespace, by the names that nstat(8) gives them.
func (l *Lab) counters(ns string) map[string]int {
	l.t.Helper()
	var text []byte
	err := inNetns(ns, func() error {
		for _, file := range []string{"snmp", "snmp6"} {
			// /proc/net is that of the process's first thread.
			more, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			text = append(text, more...)
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]int{}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2: // snmp6: a name and its value
			out[f[0]], _ = strconv.Atoi(f[1])
		case len(names) == 0: // snmp: a line of names, then one of values
			names = f
		default:
			for i := range min(len(f), len(names)) {
				out[strings.TrimSuffix(names[0], ":")+names[i]], _ = strconv.Atoi(f[i])
			}
			names = nil
		}
	}
	return out
}
