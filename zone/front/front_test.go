//go:build linux

package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

// fullServer is the server behind a front under test: it says by its rcode whether it got a query from its own
// sockets or from the front.
type fullServer struct {
	own, missed atomic.Uint64
	at          netip.AddrPort
}

const (
	rcodeOwn    = dns.RcodeRefused
	rcodeMissed = dns.RcodeNotZone
)

// testFront reserves a port, with the front's sockets, and starts a full server behind them. address is without a
// port.
func testFront(t *testing.T, address string, sockets int) (*Front, *fullServer) {
	t.Helper()
	f, full, err := openFront(t, address, sockets, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.SetServer(serverFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		full.missed.Add(1)
		answer(w, r, rcodeMissed)
	}), nil)
	return f, full
}

// openFront is testFront for a front that may not open because of fail.
func openFront(t *testing.T, address string, sockets int, fail func(call string) error) (*Front, *fullServer, error) {
	t.Helper()
	port := freePort(t, address) // which also opens what Go's poller keeps open
	files := openFiles(t)
	t.Cleanup(func() {
		goleak.VerifyNone(t)
		if left := openFiles(t); left != files {
			t.Errorf("%d open files before and %d after", files, left)
		}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr(address), port)
	f := New(Config{Address: at, Sockets: sockets, Shared: newTestShared(t)})
	if fail != nil {
		f.fail = fail
	}
	err := f.Open()
	full := &fullServer{at: at}
	full.start(t)
	return f, full, err
}

// openFiles counts this process's file descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// runFront runs f, steered, until the returned function is called.
func runFront(t *testing.T, f *Front) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	if err := f.Steer(true); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

func answer(w dns.ResponseWriter, r *dns.Msg, rcode int) {
	_ = w.WriteMsg(new(dns.Msg).SetRcode(r, rcode)) // the test sees what does not come
}

func freePort(t *testing.T, address string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Skipf("%s: %v", address, err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func (s *fullServer) start(t *testing.T) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		d := &dns.Server{Addr: s.at.String(), Net: network, ReusePort: true, NotifyStartedFunc: func() { close(started) },
			MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
			Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
				s.own.Add(1)
				answer(w, r, rcodeOwn)
			})}
		failed := make(chan error, 1)
		go func() { failed <- d.ListenAndServe() }()
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Shutdown(); err != nil {
				t.Error(err)
			}
			<-failed
		})
	}
}

// askOver sends a packed message over a connected socket, which takes answers from the address that it asked only.
func askOver(t testing.TB, network string, to netip.AddrPort, packed []byte) *dns.Msg {
	t.Helper()
	c, err := dns.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(packed); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadMsg()
	if err != nil {
		t.Fatalf("%s %s: %v", network, to, err)
	}
	return r
}

func at(f *Front, address string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), f.config.Address.Port())
}

const hot = "_etcd-server._tcp.example.org."

// The usual queries get to the front, everything else to the full server's own socket, over UDP; TCP is the front's.
func TestSteering(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1", "::"} {
		t.Run(address, func(t *testing.T) {
			f, full := testFront(t, address, 3)
			to := at(f, address)
			if to.Addr().IsUnspecified() {
				to = at(f, "127.0.0.1")
			}
			edit := func(change func(*dns.Msg)) []byte { return query1(t, hot, dns.TypeSRV, change) }
			a := parse(t, "n0.example.org. 30 A 192.0.2.1")
			long := parse(t, "n0.example.org. 30 TXT "+strings.Repeat(strings.Repeat("x", 250)+" ", 2))
			if got := askOver(t, "udp", to, edit(nil)); got.Rcode != rcodeOwn {
				t.Errorf("before Steer: %s, want the full server's own answer", dns.RcodeToString[got.Rcode])
			}
			runFront(t, f)
			for _, c := range []struct {
				name  string
				query []byte
				rcode int
			}{
				{"plain", edit(nil), dns.RcodeSuccess},
				{"EDNS", edit(withOPT(1232, true)), dns.RcodeSuccess},
				{"NXDOMAIN", query1(t, "nosuch.example.org.", dns.TypeA, nil), dns.RcodeNameError},
				{"another zone", query1(t, "example.net.", dns.TypeA, nil), rcodeMissed},
				{"one additional record", edit(func(m *dns.Msg) { m.Extra = a }), rcodeMissed},
				{"two additional records", edit(func(m *dns.Msg) { m.Extra = append(a, a...) }), rcodeOwn},
				{"NOTIFY", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), rcodeOwn},
				{"NOTIFY that is longer than the full server reads", edit(func(m *dns.Msg) { m.Opcode, m.Ns = dns.OpcodeNotify, long }), rcodeMissed},
				{"UPDATE", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), rcodeOwn},
				{"no question", edit(func(m *dns.Msg) { m.Question = nil }), rcodeOwn},
				{"two questions", edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), rcodeOwn},
				{"an answer record", edit(func(m *dns.Msg) { m.Answer = a }), rcodeOwn},
				{"an authority record", edit(func(m *dns.Msg) { m.Ns = a }), rcodeOwn},
			} {
				for range 8 { // each socket of the front gets its share
					if got := askOver(t, "udp", to, c.query); got.Rcode != c.rcode {
						t.Errorf("%s: %s, want %s", c.name, dns.RcodeToString[got.Rcode], dns.RcodeToString[c.rcode])
					}
				}
			}
			if got := askOver(t, "tcp", to, edit(nil)); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 3 {
				t.Errorf("TCP:\n%v", got)
			}
			if got := full.own.Load(); got != 1+7*8 {
				t.Errorf("the full server's sockets got %d queries, want %d", got, 1+7*8)
			}
			if got := f.Totals(); got.Missed != 3*8 || got.Shed != 0 || got.Unsent != 0 {
				t.Errorf("totals %+v, want 24 misses", got)
			}
		})
	}
}

// Answers leave from the address that was asked, hits and misses, of both families.
func TestWildcardSource(t *testing.T) {
	f, _ := testFront(t, "::", 2)
	runFront(t, f)
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"} {
		if address == "::1" && !hasIPv6() {
			continue
		}
		for name, want := range map[string]int{hot: dns.RcodeSuccess, "example.net.": rcodeMissed} {
			if got := askOver(t, "udp", at(f, address), query1(t, name, dns.TypeSRV, nil)); got.Rcode != want {
				t.Errorf("%s at %s: %s, want %s", name, address, dns.RcodeToString[got.Rcode], dns.RcodeToString[want])
			}
		}
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// When the front ends, under load and in any state, the full server answers on and nobody goes without an answer.
func TestLeaveLosesNothing(t *testing.T) {
	for _, sockets := range []int{1, 2, 4} {
		t.Run(strconv.Itoa(sockets), func(t *testing.T) { leaveUnderLoad(t, sockets) })
	}
}

func leaveUnderLoad(t *testing.T, sockets int) {
	f, full := testFront(t, "127.0.0.1", sockets)
	stop := runFront(t, f)
	q := query1(t, hot, dns.TypeSRV, nil)
	enough, halt := make(chan struct{}), make(chan struct{})
	var clients sync.WaitGroup
	var once sync.Once
	var served atomic.Uint64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-halt:
					return
				default:
				}
				askOver(t, "udp", f.config.Address, q)
				if served.Add(1) == 1000 {
					once.Do(func() { close(enough) })
				}
			}
		})
	}
	<-enough
	if err := stop(); err != nil {
		t.Error(err)
	}
	for before := full.own.Load(); full.own.Load() < before+100; {
		askOver(t, "udp", f.config.Address, q)
	}
	close(halt)
	clients.Wait()
	if got := askOver(t, "tcp", f.config.Address, q); got.Rcode != rcodeOwn {
		t.Errorf("TCP: %s, want the full server's", dns.RcodeToString[got.Rcode])
	}
}

// While a plugin must see every query, the full server gets them all, and the front keeps its limits of connections.
func TestBypass(t *testing.T) {
	f, full := testFront(t, "127.0.0.1", 2)
	runFront(t, f)
	q := query1(t, hot, dns.TypeSRV, nil)
	f.config.Shared.SetSettings(Settings{Bypass: "a plugin has to see every query"})
	if err := f.Steer(false); err != nil {
		t.Fatal(err)
	}
	for network, want := range map[string]int{"udp": rcodeOwn, "tcp": rcodeMissed} {
		if got := askOver(t, network, full.at, q); got.Rcode != want {
			t.Errorf("%s: %s, want %s", network, dns.RcodeToString[got.Rcode], dns.RcodeToString[want])
		}
	}
	var idle []net.Conn
	for range maxPerSource + 1 {
		idle = append(idle, dial(t, full.at.String(), "127.0.0.1"))
	}
	wantClosed(t, idle[0])
}

// A reader that fails while the front runs ends the front with an error; the full server answers on.
func TestReaderFails(t *testing.T) {
	f, full := testFront(t, "127.0.0.1", 3)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(t.Context()) }()
	if err := f.Steer(true); err != nil {
		t.Fatal(err)
	}
	q := query1(t, hot, dns.TypeSRV, nil)
	if got := askOver(t, "udp", full.at, q); got.Rcode != dns.RcodeSuccess {
		t.Errorf("before: %s", dns.RcodeToString[got.Rcode])
	}
	if err := f.group.udp[1].conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), full.at.String()) {
		t.Errorf("Run: %v, want the reader's error with the address", err)
	}
	for _, network := range []string{"udp", "tcp"} {
		for range 8 {
			if got := askOver(t, network, full.at, q); got.Rcode != rcodeOwn {
				t.Errorf("after, over %s: %s, want the full server's", network, dns.RcodeToString[got.Rcode])
			}
		}
	}
}

// What the kernel or a seccomp filter refuses makes the front not open; the full server answers alone.
func TestRefusedCalls(t *testing.T) {
	for call, errno := range map[string]syscall.Errno{
		"SO_REUSEPORT": syscall.ENOPROTOOPT, "SO_ATTACH_REUSEPORT_CBPF": syscall.EPERM, "recvmmsg": syscall.ENOSYS,
		"sendmmsg": syscall.EPERM, "bind": syscall.EADDRINUSE,
	} {
		for nth := range 2 {
			t.Run(fmt.Sprintf("%s %d", call, nth), func(t *testing.T) {
				calls := 0
				_, full, err := openFront(t, "127.0.0.1", 2, func(c string) error {
					if c == call {
						if calls++; calls == nth+1 {
							return errno
						}
					}
					return nil
				})
				if !errors.Is(err, errno) {
					t.Errorf("%s: %v, want %v", call, err, errno)
				}
				for _, network := range []string{"udp", "tcp"} {
					if got := askOver(t, network, full.at, query1(t, hot, dns.TypeSRV, nil)); got.Rcode != rcodeOwn {
						t.Errorf("%s: %s, want the full server's", network, dns.RcodeToString[got.Rcode])
					}
				}
			})
		}
	}
}
