package front

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A source beyond its limit loses the connection that was idle for longest, not one in use or of another.
func TestTCPPerSource(t *testing.T) {
	full := &fakeServer{hold: true}
	srv := newTCP(newTestShared(t), full.missed)
	srv.maxPerSource = 3
	addr := serveLoopback(t, srv)
	query, miss := framed(numbered(t, 1, "n0.example.org.", nil)), framed(numbered(t, 2, "example.com.", nil))
	other := dial(t, addr, "127.0.0.2")
	send(t, other, query)
	receive(t, other)
	var conns []net.Conn
	for range 3 {
		c := dial(t, addr, "127.0.0.1")
		send(t, c, query)
		receive(t, c)
		waitWorking(t, srv, 0) // so that they become idle in this order
		conns = append(conns, c)
	}
	send(t, conns[0], miss)
	eventually(t, "the full server has a query", func() bool { return full.len() == 1 })
	waitWorking(t, srv, 1)
	fourth := dial(t, addr, "127.0.0.1")
	wantClosed(t, conns[1])
	for _, c := range []net.Conn{other, conns[2], fourth} {
		send(t, c, query)
		receive(t, c)
	}
	for i, c := range []net.Conn{conns[2], fourth} {
		send(t, c, miss)
		eventually(t, "the full server has a query", func() bool { return full.len() == 2+i })
	}
	waitWorking(t, srv, 3)
	wantClosed(t, dial(t, addr, "127.0.0.1"))
	full.release()
	receive(t, conns[0])
}

// A connection that was told an idle timeout goes last.
func TestTCPPromised(t *testing.T) {
	srv := newTCP(newTestShared(t), (&fakeServer{}).missed)
	srv.maxConns = 2
	addr := serveLoopback(t, srv)
	first, second := dial(t, addr, "127.0.0.1"), dial(t, addr, "127.0.0.2")
	keepalive := withOPT(1232, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	send(t, first, framed(numbered(t, 1, "n0.example.org.", keepalive)))
	m := receive(t, first)
	if o := m.IsEdns0().Option; len(o) != 1 || o[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != uint16(srv.idle/(100*time.Millisecond)) {
		t.Fatalf("%v", m)
	}
	send(t, second, framed(numbered(t, 1, "n0.example.org.", nil)))
	receive(t, second)
	waitWorking(t, srv, 0)
	third := dial(t, addr, "127.0.0.3")
	wantClosed(t, second)
	for _, c := range []net.Conn{first, third} {
		send(t, c, framed(numbered(t, 1, "n0.example.org.", nil)))
		receive(t, c)
	}
}

// Ten thousand idle connections from many sources take what they are given, and a good client is served.
func TestTCPFlood(t *testing.T) {
	srv := newTCP(newTestShared(t), (&fakeServer{}).missed)
	addr := serveLoopback(t, srv)
	before := runtime.NumGoroutine()
	var held []net.Conn
	for i := range 10_000 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1+byte(i%100), 1)}, Timeout: testWait}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if held = append(held, c); len(held) > 2*maxConns {
			held[0].Close()
			held = held[1:]
		}
		if n := srv.len(); n > maxConns {
			t.Fatalf("%d connections, want %d at most", n, maxConns)
		}
		if i%1000 == 999 {
			good := dial(t, addr, "127.0.0.9")
			send(t, good, framed(numbered(t, 1, "n0.example.org.", nil)))
			receive(t, good)
			good.Close()
		}
	}
	eventually(t, "goroutines are as many as connections", func() bool { return runtime.NumGoroutine() <= before+maxConns+2 })
	for _, c := range held {
		c.Close()
	}
	eventually(t, "all connections end", func() bool { return srv.len() == 0 })
}

// Only so many connections have a large buffer.
func TestTCPLarge(t *testing.T) {
	srv := newTCP(newTestShared(t), (&fakeServer{}).missed)
	srv.large = make(chan struct{}, 2)
	addr := serveLoopback(t, srv)
	start := []byte{0xff, 0xff}
	a, b := dial(t, addr, "127.0.0.1"), dial(t, addr, "127.0.0.1")
	send(t, a, start)
	send(t, b, start)
	eventually(t, "two large buffers", func() bool { return len(srv.large) == 2 })
	c := dial(t, addr, "127.0.0.1")
	send(t, c, start)
	wantClosed(t, c)
	small := dial(t, addr, "127.0.0.1")
	send(t, small, framed(numbered(t, 1, "n0.example.org.", nil)))
	receive(t, small)
	send(t, a, append(make([]byte, 65535), framed(numbered(t, 1, "n0.example.org.", nil))...))
	receive(t, a) // 65,535 zeros are a query with opcode 0 and no question: a miss, which does not unpack
	eventually(t, "one large buffer", func() bool { return len(srv.large) == 1 })
}

// The limits that docs/dns.md tells are those in force.
func TestLimitsAsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| %d,%03d, %d from one IPv4 address or IPv6 /64 |", maxConns/1000, maxConns%1000, maxPerSource),
		fmt.Sprintf("| a TCP connection without a whole query | %v |", strings.Replace(TCPIdle.String(), "s", " s", 1)),
		fmt.Sprintf("| a client that does not read its answers | %v, %d KiB |", strings.Replace(tcpWrite.String(), "s", " s", 1), outBuffer>>10+maxWaiting>>10),
		fmt.Sprintf("| queries over TCP of more than %d KiB that come in at a time | %d |", smallBuffer>>10, maxLarge),
		fmt.Sprintf("At most %d such queries over UDP and %d over TCP wait at a time", maxMisses, maxMisses),
		fmt.Sprintf("with %d as this server's size", MaxUDPSize),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/dns.md lacks %q", want)
		}
	}
}
