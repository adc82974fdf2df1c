package front

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const testWait = 20 * time.Second // until a test gives up

// fakeServer is a full server that answers REFUSED when it is told to.
type fakeServer struct {
	mu   sync.Mutex
	held []func() // guarded by mu
	hold bool
}

func (f *fakeServer) missed(packet []byte, _, _ net.Addr, write func([]byte) error, done func()) {
	answer := func() {
		defer done()
		refuse(packet, write)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.hold {
		go answer()
		return
	}
	f.held = append(f.held, answer)
}

// refuse answers a query that can be read.
func refuse(packet []byte, write func([]byte) error) {
	m := new(dns.Msg)
	if m.Unpack(packet) != nil {
		return
	}
	if b, err := new(dns.Msg).SetRcode(m, dns.RcodeRefused).Pack(); err == nil {
		_ = write(b)
	}
}

// release answers what is held, the last one first, and from now on at once.
func (f *fakeServer) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = false
	slices.Reverse(f.held)
	for _, answer := range f.held {
		answer()
	}
	f.held = nil
}

func (f *fakeServer) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

// run runs srv on listeners, and ends it with the test.
func run(t *testing.T, srv *tcp, ls ...net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, ls...) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(testWait):
			t.Fatal("Run does not end; does the full server hold a query?")
		}
		srv.mu.Lock()
		defer srv.mu.Unlock()
		if len(srv.conns) != 0 || len(srv.sources) != 0 || len(srv.large) != 0 {
			t.Errorf("%d connections, %d sources, %d large buffers are left", len(srv.conns), len(srv.sources), len(srv.large))
		}
	})
}

// serveLoopback runs a server on loopback and returns its address. No connection there is closed for being idle.
func serveLoopback(t *testing.T, srv *tcp) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.idle = 10 * testWait
	run(t, srv, l)
	return l.Addr().String()
}

// dial connects from an address.
func dial(t testing.TB, to, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: testWait}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(testWait)); err != nil {
		t.Fatal(err)
	}
	return c
}

// framed returns messages with their lengths before them.
func framed(messages ...[]byte) (b []byte) {
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// padded returns a query of a length, which an option fills.
func padded(t testing.TB, id uint16, name string, length int) []byte {
	t.Helper()
	b := numbered(t, id, name, withOPT(1232, false, &dns.EDNS0_LOCAL{Code: 65001}))
	fill := length - len(b)
	binary.BigEndian.PutUint16(b[len(b)-6:], uint16(fill+4)) // of the OPT record's data
	binary.BigEndian.PutUint16(b[len(b)-2:], uint16(fill))   // of the option's
	return append(b, make([]byte, fill)...)
}

// receive reads one message.
func receive(t testing.TB, c io.Reader) *dns.Msg {
	t.Helper()
	m, err := tryReceive(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryReceive(c io.Reader) (*dns.Msg, error) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
}

func send(t testing.TB, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// numbered returns a query with an ID.
func numbered(t testing.TB, id uint16, name string, edit func(*dns.Msg)) []byte {
	t.Helper()
	b := query1(t, name, dns.TypeSRV, edit)
	binary.BigEndian.PutUint16(b, id)
	return b
}

// wantClosed fails unless the server closes a connection without another octet.
func wantClosed(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d octets, %v, want the connection closed", n, err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testWait); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, testWait)
		}
	}
}

func (t *tcp) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// waitWorking waits until connections work on n queries: the client has an answer before its connection is idle.
func waitWorking(t testing.TB, srv *tcp, n int32) {
	t.Helper()
	eventually(t, "connections become idle", func() bool {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		var sum int32
		for _, c := range srv.conns {
			sum += c.busy.Load()
		}
		return sum == n
	})
}
