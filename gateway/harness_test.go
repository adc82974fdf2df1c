package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// patience bounds every wait; the machine may be busy.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// member is a server that greets with its name, and then says back what it hears until it hears the end.
type member struct {
	net.Listener
	name string
	mu   sync.Mutex
	open map[net.Conn]bool
}

func newMember(t *testing.T, name, at string) *member {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{Listener: l, name: name, open: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.open[c] = true
			m.mu.Unlock()
			wg.Go(func() {
				defer m.hangUp(c)
				if _, err := fmt.Fprintln(c, m.name); err != nil {
					return
				}
				_, _ = io.Copy(c, c)
				_, _ = io.WriteString(c, "bye")
			})
		}
	})
	t.Cleanup(func() {
		m.kill()
		wg.Wait()
	})
	return m
}

func (m *member) hangUp(c net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, c)
	_ = c.Close()
}

// kill is the end of the member's process.
func (m *member) kill() {
	_ = m.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.open {
		_ = c.Close()
	}
}

func (m *member) endpoint() Endpoint {
	at := netip.MustParseAddrPort(m.Addr().String())
	return Endpoint{Host: m.name + ".example.com", Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}
}

// bench is a proxy that runs, and the set that its follower has.
type bench struct {
	*Proxy
	t    *testing.T
	at   string
	logs *observer.ObservedLogs
	stop func() error
}

func run(t *testing.T, set []Endpoint, change func(p *Proxy)) *bench {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t, goleak.IgnoreCurrent()) })
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	p := NewProxy(zap.New(core), NewFollower(zap.NewNop(), nil), l)
	p.turn, p.RetryDelay = 0, 50*time.Millisecond
	if change != nil {
		change(p)
	}
	p.follow.publish(set)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	b := &bench{Proxy: p, t: t, at: l.Addr().String(), logs: logs}
	b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

// client is a connection through the proxy, and the member that greeted it.
type client struct {
	*net.TCPConn
	in   *bufio.Reader
	name string
}

func (b *bench) dial() (*client, error) {
	conn, err := net.Dial("tcp", b.at)
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	c := &client{TCPConn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	line, err := c.in.ReadString('\n')
	c.name = strings.TrimSpace(line)
	return c, err
}

func (b *bench) must() *client {
	b.t.Helper()
	c, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// three members, and the set of them.
func three(t *testing.T) ([]*member, []Endpoint) {
	t.Helper()
	var ms []*member
	var set []Endpoint
	for _, n := range []string{"a", "b", "c"} {
		m := newMember(t, n, "127.0.0.1:0")
		ms, set = append(ms, m), append(set, m.endpoint())
	}
	return ms, set
}

func (b *bench) links(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.order {
		if r.endpoint.Host == name+".example.com" {
			return len(r.links)
		}
	}
	return 0
}

func (b *bench) knows(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.order {
		if r.endpoint.Host == name+".example.com" {
			return true
		}
	}
	return false
}

// alive reports whether a member still says back what the client says.
func (b *bench) alive(c *client) bool {
	if _, err := io.WriteString(c, "x"); err != nil {
		return false
	}
	_, err := c.in.ReadByte()
	return err == nil
}

// value is a metric of an endpoint, -1 if there is none.
func (b *bench) value(name string, e Endpoint) float64 {
	b.t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(b.Proxy)
	families, err := reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && len(m.Label) == 1 && m.Label[0].GetValue() == e.Name() {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}
