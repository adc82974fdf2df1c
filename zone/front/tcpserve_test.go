package front

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Queries in one segment are answered in order, those that the full server answers when it has.
func TestTCPPipelining(t *testing.T) {
	full := &fakeServer{hold: true}
	c := dial(t, serveLoopback(t, newTCP(newTestShared(t), full.missed)), "127.0.0.1")
	var all [][]byte
	for id := range uint16(100) {
		all = append(all, numbered(t, id, "_etcd-server._tcp.example.org.", nil))
	}
	all[7] = numbered(t, 7, "example.com.", nil)
	all[9] = numbered(t, 9, "example.com.", nil)
	send(t, c, framed(all...))
	for id := range uint16(100) {
		if id == 7 || id == 9 {
			continue
		}
		if m := receive(t, c); m.Id != id || len(m.Answer) != 3 {
			t.Fatalf("got %v, want the answer to %d", m, id)
		}
	}
	full.release()
	for _, id := range []uint16{9, 7} {
		if m := receive(t, c); m.Id != id || m.Rcode != dns.RcodeRefused {
			t.Fatalf("got %v, want %d REFUSED", m, id)
		}
	}
}

// However the octets come, the answers are the same; a query of 65,535 octets and garbage are legal.
func TestTCPFraming(t *testing.T) {
	long := padded(t, 2, "n0.example.org.", dns.MaxMsgSize)
	stream := framed(numbered(t, 1, "n0.example.org.", nil), nil, []byte("garbage"), long,
		numbered(t, 3, "example.com.", nil), numbered(t, 4, "big.example.org.", nil))
	addr := serveLoopback(t, newTCP(newTestShared(t), (&fakeServer{}).missed))
	for _, step := range []int{1, 2, 3, 1000, 2048, 2049, 70_000} {
		c := dial(t, addr, "127.0.0.1")
		go func() {
			for chunk := range slices.Chunk(stream, step) {
				if _, err := c.Write(chunk); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		got := map[uint16]bool{}
		for range 4 {
			got[receive(t, c).Id] = true
		}
		for id := range uint16(4) {
			if !got[id+1] {
				t.Errorf("by %d octets: no answer to %d", step, id+1)
			}
		}
	}
}

// A client that has closed its half gets all answers.
func TestTCPHalfClose(t *testing.T) {
	full := &fakeServer{hold: true}
	c := dial(t, serveLoopback(t, newTCP(newTestShared(t), full.missed)), "127.0.0.1")
	send(t, c, framed(numbered(t, 1, "n0.example.org.", nil), numbered(t, 2, "example.com.", nil)))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, c); m.Id != 1 {
		t.Fatal(m)
	}
	full.release()
	if m := receive(t, c); m.Id != 2 {
		t.Fatal(m)
	}
	wantClosed(t, c)
}

// The full server has maxPending queries of one connection at most, and what was answered before does not wait.
func TestTCPPending(t *testing.T) {
	full := &fakeServer{hold: true}
	c := dial(t, serveLoopback(t, newTCP(newTestShared(t), full.missed)), "127.0.0.1")
	const queries = 3 * maxPending
	all := [][]byte{numbered(t, 1000, "n0.example.org.", nil)}
	for id := range uint16(queries) {
		all = append(all, numbered(t, id, "example.com.", nil))
	}
	send(t, c, framed(all...))
	if m := receive(t, c); m.Id != 1000 {
		t.Fatal(m)
	}
	eventually(t, "the full server has queries", func() bool { return full.len() == maxPending })
	full.release()
	got := map[uint16]bool{}
	for range queries {
		got[receive(t, c).Id] = true
	}
	if len(got) != queries {
		t.Errorf("answers to %d queries, want %d", len(got), queries)
	}
}

// A listener that fails ends Run.
func TestTCPListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newTCP(newTestShared(t), nil).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v, want %v", err, net.ErrClosed)
	}
}

// On real sockets a client that sends on without reading costs one buffer, and ends with an error.
func TestTCPSlowReaderLoopback(t *testing.T) {
	srv := newTCP(newTestShared(t), (&fakeServer{}).missed)
	srv.write = 50 * time.Millisecond
	addr := serveLoopback(t, srv)
	slow := dial(t, addr, "127.0.0.1")
	burst := bytes.Repeat(framed(query1(t, "big.example.org.", dns.TypeTXT, nil)), 100)
	for {
		if _, err := slow.Write(burst); err != nil {
			if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				break
			}
			t.Fatal(err)
		}
	}
	good := dial(t, addr, "127.0.0.1")
	send(t, good, framed(numbered(t, 1, "n0.example.org.", nil)))
	receive(t, good)
}

// Run ends with queries in the full server's hands, connections open and half a query sent.
func TestTCPEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	full := &fakeServer{hold: true}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	srv := newTCP(newTestShared(t), full.missed)
	go func() { ended <- srv.Run(ctx, l) }()
	var conns []net.Conn
	for range 10 {
		c := dial(t, l.Addr().String(), "127.0.0.1")
		send(t, c, append(framed(numbered(t, 2, "example.com.", nil)), 0, 100, 1))
		conns = append(conns, c)
	}
	eventually(t, "the full server has queries", func() bool { return full.len() == 10 })
	cancel()
	for _, c := range conns {
		wantClosed(t, c)
	}
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v before the full server was done", err)
	default:
	}
	full.release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := srv.len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
