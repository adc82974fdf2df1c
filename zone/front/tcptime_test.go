package front

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// pipeListener hands out pipes, on which the time of a synctest bubble works.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 53), Port: 53} }

func (l *pipeListener) dial() net.Conn { return l.dialFrom(1) }

// dialFrom connects from the address 192.0.2.host.
func (l *pipeListener) dialFrom(host byte) net.Conn {
	client, server := net.Pipe()
	l.conns <- pipeConn{server, host}
	return client
}

type pipeConn struct {
	net.Conn
	host byte
}

func (c pipeConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, c.host), Port: 40000}
}

// pipes runs a server on pipes inside of a synctest bubble.
func pipes(t *testing.T, f func(t *testing.T, l *pipeListener, full *fakeServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		full := &fakeServer{}
		onPipes(t, newTCP(newTestShared(t), full.missed), func(l *pipeListener) {
			f(t, l, full)
			full.release()
		})
	})
}

// onPipes runs srv on pipes until f returns.
func onPipes(t *testing.T, srv *tcp, f func(l *pipeListener)) {
	t.Helper()
	l := newPipeListener()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, l) }()
	f(l)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// closedAfter returns how long it takes until the server closes a connection.
func closedAfter(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d octets, %v, want the end", n, err)
	}
	return time.Since(start)
}

func TestTCPIdle(t *testing.T) {
	query, miss := framed(numbered(t, 1, "n0.example.org.", nil)), framed(numbered(t, 2, "example.com.", nil))
	tests := map[string]struct {
		do   func(t *testing.T, c net.Conn, full *fakeServer)
		want time.Duration
	}{
		"no query": {func(*testing.T, net.Conn, *fakeServer) {}, TCPIdle},
		"a query renews": {func(t *testing.T, c net.Conn, _ *fakeServer) {
			for range 3 {
				time.Sleep(TCPIdle - time.Millisecond) // of the bubble's time
				send(t, c, query)
				receive(t, c)
			}
		}, TCPIdle},
		"a slow query does not": {func(t *testing.T, c net.Conn, _ *fakeServer) {
			for _, b := range query[:9] {
				time.Sleep(time.Second)
				send(t, c, []byte{b})
			}
		}, TCPIdle - 9*time.Second},
		"half a query when the first time is over": {func(t *testing.T, c net.Conn, _ *fakeServer) {
			for range 9 {
				send(t, c, query)
				receive(t, c)
				time.Sleep(time.Second)
			}
			time.Sleep(900 * time.Millisecond)
			send(t, c, query[:9])
			time.Sleep(200 * time.Millisecond)
			send(t, c, query[9:])
			receive(t, c)
		}, TCPIdle},
		"not while the full server works": {func(t *testing.T, c net.Conn, full *fakeServer) {
			full.hold = true
			send(t, c, miss)
			time.Sleep(5*TCPIdle + time.Second)
			go full.release()
			receive(t, c)
		}, TCPIdle},
		"half a query while it does": {func(t *testing.T, c net.Conn, full *fakeServer) {
			full.hold = true
			send(t, c, miss)
			send(t, c, query[:9])
		}, TCPIdle},
		"keepalive is as told": {func(t *testing.T, c net.Conn, _ *fakeServer) {
			send(t, c, framed(numbered(t, 1, "n0.example.org.", withOPT(512, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}))))
			told := receive(t, c).IsEdns0().Option[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout
			if d := time.Duration(told) * 100 * time.Millisecond; d != TCPIdle {
				t.Errorf("told %v, want %v", d, TCPIdle)
			}
		}, TCPIdle},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pipes(t, func(t *testing.T, l *pipeListener, full *fakeServer) {
				c := l.dial()
				tt.do(t, c, full)
				if got := closedAfter(t, c); got != tt.want {
					t.Errorf("closed after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A client that does not read loses its connection, and does not hold up others.
func TestTCPSlowReader(t *testing.T) {
	pipes(t, func(t *testing.T, l *pipeListener, full *fakeServer) {
		query := framed(numbered(t, 1, "n0.example.org.", nil))
		slow, slowMiss, good := l.dial(), l.dial(), l.dial()
		send(t, slow, query)
		send(t, slowMiss, framed(numbered(t, 2, "example.com.", nil)))
		synctest.Wait()
		send(t, good, query)
		receive(t, good)
		time.Sleep(tcpWrite) // of the bubble's time
		synctest.Wait()
		for _, c := range []net.Conn{slow, slowMiss} {
			if _, err := c.Write(query); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%v, want the connection closed", err)
			}
		}
		send(t, good, query)
		receive(t, good)
	})
}

// However many answers come at once, none is cut.
func TestTCPManyAnswers(t *testing.T) {
	pipes(t, func(t *testing.T, l *pipeListener, _ *fakeServer) {
		c := l.dial()
		defer c.Close()
		// A query of more than smallBuffer makes room for a great many behind it.
		first := framed(padded(t, 1, "n0.example.org.", 3000))
		send(t, c, first[:prefixLen])
		synctest.Wait()
		const many = 1000
		rest := append(first[prefixLen:], bytes.Repeat(framed(query1(t, "big.example.org.", dns.TypeTXT, nil)), many)...)
		go func() { _, _ = c.Write(rest) }()
		for i := range many + 1 {
			if m := receive(t, c); m.Truncated {
				t.Fatalf("answer %d is truncated", i)
			}
		}
	})
}

// Run ends when the full server has no query left.
func TestTCPEndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, full := newPipeListener(), &fakeServer{hold: true}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- newTCP(newTestShared(t), full.missed).Run(ctx, l) }()
		c := l.dial()
		send(t, c, framed(numbered(t, 2, "example.com.", nil)))
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("Run returned %v before the full server was done", err)
		default:
		}
		full.release()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
