package front

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/metrics"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// script is a connection whose client sends chunks and then ends. What the server writes is kept. No system call and no
// time is in it, so that a run depends on nothing but its input.
type script struct {
	net.Conn // nil; the server calls only what is below
	chunks   [][]byte
	end      error          // of the read behind the last chunk
	reading  func(left int) // before each read, with how many chunks are left

	mu      sync.Mutex
	written []byte // guarded by mu
	closed  bool   // guarded by mu
}

func (s *script) Read(b []byte) (int, error) {
	s.reading(len(s.chunks))
	if s.isClosed() {
		return 0, net.ErrClosed
	}
	if len(s.chunks) == 0 {
		return 0, s.end
	}
	n := copy(b, s.chunks[0])
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.written = append(s.written, b...)
	return len(b), nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *script) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 53), Port: 53} }
func (*script) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(testAsker) }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// lateServer is a full server that answers when it has some number of queries, the last one first.
type lateServer struct {
	many int

	mu   sync.Mutex
	held []func() // guarded by mu
}

func (l *lateServer) missed(packet []byte, _, _ net.Addr, write func([]byte) error, done func()) {
	l.mu.Lock()
	l.held = append(l.held, func() {
		defer done()
		refuse(packet, write)
	})
	enough := len(l.held) >= l.many
	l.mu.Unlock()
	if enough {
		l.release()
	}
}

// release answers what is held.
func (l *lateServer) release() {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	slices.Reverse(held)
	for _, answer := range held {
		answer()
	}
}

// wanted are the answers to a stream: the engine's, in this order, and the full server's, in any.
type wanted struct{ own, full [][]byte }

// want answers a stream message by message, as a client that sends one at a time would see it.
func want(s *Shared, stream []byte) (w wanted, rest []byte) {
	e := newEngine(s, s.newCounters())
	out := make([]byte, dns.MaxMsgSize)
	for len(stream) >= prefixLen {
		end := prefixLen + int(binary.BigEndian.Uint16(stream))
		if end > len(stream) {
			break
		}
		switch n, v := e.handle(stream[prefixLen:end], testAsker.Addr(), true, out); v {
		case answered:
			w.own = append(w.own, slices.Clone(out[:n]))
		case missed:
			refuse(stream[prefixLen:end], func(b []byte) error { w.full = append(w.full, b); return nil })
		}
		stream = stream[end:]
	}
	return w, stream
}

// check compares what a connection wrote. lost says that the full server's answers may have come too late.
func (w wanted) check(t *testing.T, written []byte, lost bool) {
	t.Helper()
	for len(written) > 0 {
		if len(written) < prefixLen || prefixLen+int(binary.BigEndian.Uint16(written)) > len(written) {
			t.Fatalf("the answers end within a message: % x", written)
		}
		end := prefixLen + int(binary.BigEndian.Uint16(written))
		m := written[prefixLen:end]
		written = written[end:]
		if len(w.own) > 0 && bytes.Equal(w.own[0], m) {
			w.own = w.own[1:]
			continue
		}
		i := slices.IndexFunc(w.full, func(f []byte) bool { return bytes.Equal(f, m) })
		if i < 0 {
			t.Fatalf("nobody asked for % x, or not now", m)
		}
		w.full = slices.Delete(w.full, i, i+1)
	}
	if len(w.own) > 0 || len(w.full) > 0 && !lost {
		t.Fatalf("%d answers of the front and %d of the full server are lost", len(w.own), len(w.full))
	}
}

// cut divides a stream at the lengths that sizes tell, whatever is left being the last chunk.
func cut(stream, sizes []byte) (chunks [][]byte) {
	for _, s := range sizes {
		n := 1 + int(s)
		if s >= 200 { // chunks beyond both buffers, too
			n = int(s-199) * 1200
		}
		if n >= len(stream) {
			break
		}
		chunks, stream = append(chunks, stream[:n]), stream[n:]
	}
	if len(stream) > 0 {
		chunks = append(chunks, stream)
	}
	return chunks
}

var testAsker = netip.MustParseAddrPort("192.0.2.1:40000")

// FuzzTCPFraming sends whatever octets in whatever chunks over a connection: each message that came whole is answered
// once and as if it had come alone, nothing else is written, answers are whole, other connections do not notice, and
// the connection ends and leaves nothing behind. With picked the octets choose among messages, so that they are framed.
func FuzzTCPFraming(f *testing.F) {
	messages := [][]byte{
		numbered(f, 1, "n0.example.org.", nil), numbered(f, 2, "_etcd-server._tcp.example.org.", withOPT(1232, true)),
		query1(f, "big.example.org.", dns.TypeTXT, nil), numbered(f, 4, "example.com.", nil), nil, []byte("garbage"),
		numbered(f, 7, "n0.example.org.", withOPT(512, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})),
		padded(f, 8, "n0.example.org.", 2047), padded(f, 9, "no.example.org.", 3000), padded(f, 10, "example.com.", dns.MaxMsgSize),
	}
	all := framed(messages[:7]...) // inputs that are long are slow to minimize
	for _, sizes := range [][]byte{nil, {0, 0, 0, 0}, {0, 1, 30, 1}, bytes.Repeat([]byte{28}, 200), {255, 254, 201}} {
		f.Add(all, sizes, false, byte(0), byte(1))
		f.Add(all[:len(all)-5], sizes, false, byte(1), byte(16))
		f.Add([]byte{0, 3, 3, 1, 2, 5, 4, 3, 7, 6, 9, 8, 2}, sizes, true, byte(2), byte(3))
	}
	f.Add([]byte{0xff, 0xff, 0}, []byte{}, false, byte(0), byte(1))
	f.Add(bytes.Repeat([]byte{2}, 120), []byte{1, 1, 255, 255}, true, byte(0), byte(1))
	f.Add(bytes.Repeat([]byte{3}, 50), []byte{}, true, byte(1), byte(16))
	shared := newTestShared(f)
	if err := shared.Cookies.Set(nil, nil); err != nil { // cookies tell the time
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte, picked bool, end, many byte) {
		if picked {
			stream = pick(messages, stream)
		}
		w, rest := want(shared, stream)
		full := &lateServer{many: 1 + int(many)%maxPending}
		srv := newTCP(shared, full.missed)
		srv.idle = 0 // a read that times out is the end, unless the full server works
		c := &script{chunks: cut(stream, sizes), end: [...]error{io.EOF, os.ErrDeadlineExceeded, syscall.ECONNRESET}[end%3]}
		half := len(c.chunks) / 2
		c.reading = func(left int) {
			if len(srv.large) > 1 {
				t.Errorf("%d large buffers for one connection", len(srv.large))
			}
			if left == half {
				neighbour(t, srv, shared)
			}
			switch {
			case left > 0:
			case errors.Is(c.end, io.EOF):
				go full.release() // the server waits for them
			default:
				full.release()
			}
		}
		before := allocated()
		serveScript(t, srv, c)
		full.release() // what came after the last read's
		w.check(t, c.written, errors.Is(c.end, syscall.ECONNRESET) || errors.Is(c.end, os.ErrDeadlineExceeded) && len(rest) > 0)
		if used, most := allocated()-before, uint64(4<<20+8*len(stream)+4096*(len(w.own)+len(w.full))); used > most {
			t.Errorf("%d octets were allocated for %d, want %d at most", used, len(stream), most)
		}
	})
}

// pick frames the messages that the octets choose.
func pick(messages [][]byte, octets []byte) (stream []byte) {
	const most = 4 * largeBuffer // octets
	for _, o := range octets {
		if stream = append(stream, framed(messages[int(o)%len(messages)])...); len(stream) > most {
			break
		}
	}
	return stream
}

// serveScript serves a connection to its end, and looks at what it leaves behind.
func serveScript(t *testing.T, srv *tcp, s *script) {
	t.Helper()
	c := newTCPConn(srv, s)
	late := time.AfterFunc(testWait, func() { panic("the connection does not end") })
	c.serve()
	late.Stop()
	if !s.isClosed() || c.busy.Load() != 0 || len(c.pending) != 0 || c.out != nil || c.large != nil || len(srv.large) != 0 {
		t.Fatalf("closed %v, %d busy, %d pending, output %v, large %v, %d large buffers", s.isClosed(), c.busy.Load(), len(c.pending), c.out != nil, c.large != nil, len(srv.large))
	}
}

// neighbour is another client of the server, which asks one thing.
func neighbour(t *testing.T, srv *tcp, shared *Shared) {
	t.Helper()
	stream := framed(numbered(t, 77, "n0.example.org.", nil))
	w, _ := want(shared, stream)
	s := &script{chunks: [][]byte{stream}, end: io.EOF, reading: func(int) {}}
	c := newTCPConn(srv, s)
	c.serve()
	w.check(t, s.written, false)
}

// allocated is how many octets this process has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
