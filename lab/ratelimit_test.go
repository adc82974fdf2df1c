//go:build linux

package lab

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// rateLimit: strangers of one /56 share an account; one of another /56, one with a cookie of ours, and the rack's own nodes
// have none of their trouble.
func (l *Lab) rateLimit(t *testing.T, name string) {
	const rate, many, few = 50, 400, 20
	same, other := addr6(netip.MustParseAddr("10.0.0.8")).String(), "fd00:0:0:100::7"
	l.addAddress(clientHost, same)
	l.addAddress(clientHost, other)
	to, client := l.Addr(name), l.Addr(clientHost)
	l.EditCorefile(name, func(text string) string {
		return strings.Replace(text, "etcdsrv {", fmt.Sprintf("etcdsrv {\n        rrl %d", rate), 1)
	})
	l.Signal(name, syscall.SIGHUP)
	cookie, err := l.serverCookie(clientHost, client, to)
	if err != nil {
		t.Fatal(err)
	}
	// A machine that stalls in the middle gives the accounts time to recover, so all of it may be done again.
	l.Wait("a limit", 30*time.Second, func() error {
		full, truncated := l.send(flood{clientHost, client, to, many, nil})
		if full >= many/2 || truncated == 0 || full+truncated == many {
			return fmt.Errorf("a stranger gets %d full and %d truncated of %d answers", full, truncated, many)
		}
		if full, _ := l.send(flood{clientHost, same, to, few, nil}); full != 0 {
			return fmt.Errorf("its neighbour in the /56 gets %d full of %d answers", full, few)
		}
		t.Logf("a stranger gets %d full and %d truncated of %d answers at rrl %d", full, truncated, many, rate)
		return nil
	})
	for who, f := range map[string]flood{
		"another /56": {clientHost, other, to, few, nil}, "a cookie": {clientHost, client, to, many, cookie}, "another node": {"infra0", l.Addr("infra0"), to, many, nil},
	} {
		if full, truncated := l.send(f); full != f.n {
			t.Errorf("%s gets %d full and %d truncated answers, want %d full ones", who, full, truncated, f.n)
		}
	}
	l.Wait("the stranger has made up for it", 30*time.Second, func() error { // else what follows is limited
		if full, _ := l.send(flood{clientHost, client, to, 1, nil}); full == 0 {
			return errorf("no full answer")
		}
		return nil
	})
}

// flood is n questions at once, from an address of a host to the name server at another.
type flood struct {
	from, source, to string
	n                int
	// cookie is the content of a COOKIE option; nil for none.
	cookie []byte
}

// send returns how many full and how many truncated answers came.
func (l *Lab) send(f flood) (full, truncated int) {
	l.t.Helper()
	conn, err := l.bound(f.from, f.source, f.to)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(l.service("server")), dns.TypeSRV).SetEdns0(1232, false)
	if f.cookie != nil {
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(f.cookie)})
	}
	for id := range f.n {
		q.Id = uint16(id)
		if err := conn.WriteMsg(q); err != nil {
			l.t.Fatal(err)
		}
	}
	for full+truncated < f.n {
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			l.t.Fatal(err)
		}
		r, err := conn.ReadMsg()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return full, truncated // the others were dropped
		case err != nil:
			l.t.Fatal(err)
		case r.Truncated:
			truncated++
		default:
			full++
		}
	}
	return full, truncated
}

// bound is a socket from an address of a host to the name server at another, with room for many answers.
func (l *Lab) bound(from, source, to string) (conn *dns.Conn, err error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0)),
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) }); e != nil {
				return e
			}
			return err
		}}
	err = inNetns(l.host(from).ns, func() error {
		c, err := d.DialContext(context.Background(), "udp", net.JoinHostPort(to, "53"))
		conn = &dns.Conn{Conn: c, UDPSize: 1232}
		return err
	})
	return conn, err
}

// serverCookie gets a cookie for an address of a host from the name server at another (RFC 7873 §5.1).
func (l *Lab) serverCookie(from, source, to string) ([]byte, error) {
	conn, err := l.bound(from, source, to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(l.Domain), dns.TypeNS).SetEdns0(1232, false)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	r, _, err := ask(conn, q)
	if err != nil {
		return nil, err
	}
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return hex.DecodeString(c.Cookie)
			}
		}
	}
	return nil, fmt.Errorf("no cookie in %v", r)
}
