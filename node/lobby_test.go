package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// Who has to go for a new one: nobody while there is room, the oldest of one's own when one has many, else the oldest of
// who has the most.
func TestLobbyEnter(t *testing.T) {
	source := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	// fill lets count visitors from each of some sources in, in turn.
	fill := func(l *lobby, sources, count int) {
		for range count {
			for i := range sources {
				l.enter(&visitor{lobby: l, source: source(1 + i)})
			}
		}
	}
	for name, tt := range map[string]struct {
		sources, count int
		from           netip.Addr
		out            int // whose place in the lobby it takes, -1 for none
	}{
		"empty":                   {0, 0, source(99), -1},
		"room":                    {lobbySize - 1, 1, source(99), -1},
		"too many of its own":     {2, lobbyPerSource, source(2), 1},
		"full, of one each":       {lobbySize, 1, source(99), 0},
		"full, it has one itself": {lobbySize, 1, source(5), 4},
		"full of crowds":          {lobbySize / lobbyPerSource, lobbyPerSource, source(99), 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lobby{}
			fill(l, tt.sources, tt.count)
			before := append([]*visitor(nil), l.waiting...)
			v := &visitor{lobby: l, source: tt.from}
			out := l.enter(v)
			if tt.out < 0 && out != nil || tt.out >= 0 && out != before[tt.out] {
				t.Errorf("%v goes, want number %d", out, tt.out)
			}
			if n := len(l.waiting); l.waiting[n-1] != v || n > lobbySize {
				t.Errorf("%d in the lobby", n)
			}
			for range 2 {
				v.welcome()
			}
			if n := len(l.waiting); n != len(before)-map[bool]int{true: 1}[tt.out >= 0] {
				t.Errorf("%d in the lobby after it left", n)
			}
		})
	}
	crowded := &lobby{}
	fill(crowded, 21, 3)
	crowded.enter(&visitor{lobby: crowded, source: source(200)})
	if out := crowded.enter(&visitor{lobby: crowded, source: source(201)}); out == nil || out.source == source(200) {
		t.Errorf("%v goes, want one of a source with three or more", out)
	}
}

// Hundreds of strangers who connect to the admin port and say nothing, or not TLS, keep no node out, and cause no line in the
// log.
func TestAdminPortFlood(t *testing.T) {
	b := newTestBundle(t)
	core, logs := observer.New(zap.InfoLevel)
	boot := fakeBoot{state: srvboot.State{Format: srvboot.Format, Bundle: b.ID(), Node: "infra0"}, from: make(chan string, 10)}
	a := &admin{bundle: b.ID(), tls: newTestCerts(t, b, "infra0").AdminServerTLS(), boot: boot, hear: func(string, srvboot.News) {}, log: zap.New(core)}
	at := netip.MustParseAddrPort("127.0.99.20:2378")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.serve(ctx, []netip.Addr{at.Addr()}, at.Port()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	p := &peers{bundle: b.ID(), port: at.Port(), addrs: func(string) []netip.Addr { return []netip.Addr{at.Addr()} }, tls: newTestCerts(t, b, "infra1").AdminClientTLS,
		clients: map[string]*http.Client{}}
	ask := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; {
			_, err := p.State(t.Context(), "infra0")
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		<-boot.from
	}
	ask() // it keeps this connection
	var strangers []net.Conn
	for i := range 300 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 98, byte(1+i%30))}}
		c, err := d.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // an error is that it is closed
		}
		strangers = append(strangers, c)
	}
	ask()
	p.client("infra0").CloseIdleConnections()
	ask() // on a new one
	var open atomic.Int32
	var looks sync.WaitGroup
	for _, c := range strangers {
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		looks.Go(func() {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				open.Add(1)
			}
		})
	}
	looks.Wait()
	if n := open.Load(); n > lobbySize {
		t.Errorf("%d strangers are connected, want %d at most", n, lobbySize)
	}
	if n := logs.Len(); n > 0 {
		t.Errorf("%d lines in the log, such as %v", n, logs.All()[0])
	}
}

// A handler that panics is in the log.
func TestAdminPanicIsLogged(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&admin{log: zap.New(core)}).serveHTTP(ctx, l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }))
	}()
	if resp, err := http.Get("http://" + l.Addr().String()); err == nil { //nolint:noctx // a test's own server
		resp.Body.Close()
		t.Error("answered")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if logs.Len() != 1 {
		t.Errorf("%d lines in the log, want the panic", logs.Len())
	}
}
