package gateway

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
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
	return Endpoint{Scheme: "https", Host: m.name + ".example.com", Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}
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

// Standing connections are spread evenly, however many come at once, and so are short ones.
func TestProxySpread(t *testing.T) {
	_, set := three(t)
	b := run(t, set, nil)
	for _, standing := range []bool{true, false} {
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 9 {
					c, err := b.dial()
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					got[c.name]++
					mu.Unlock()
					if !standing {
						_ = c.Close()
					}
				}
			})
		}
		wg.Wait()
		for _, n := range []string{"a", "b", "c"} {
			if standing && got[n] != 30 || got[n] < 20 {
				t.Errorf("standing %v: %v of 90, want 30 each", standing, got)
			}
		}
	}
}

// The client's end of the stream reaches the member, and what the member says then reaches the client; and the other way round.
func TestProxyHalfClose(t *testing.T) {
	m := newMember(t, "a", "127.0.0.1:0")
	b := run(t, []Endpoint{m.endpoint()}, nil)
	c := b.must()
	big := strings.Repeat("0123456789", 300_000)
	go func() {
		_, _ = io.WriteString(c, big)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c.in)
	if err != nil || string(got) != big+"bye" {
		t.Errorf("%d bytes and %v, want %d and no error", len(got), err, len(big)+3)
	}
	eventually(t, "the connection is gone from the table", func() bool { return b.links("a") == 0 })

	// A server that ends its stream first, and still listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	go func() {
		s, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(s, "first\n")
		_ = s.(*net.TCPConn).CloseWrite()
		text, _ := io.ReadAll(s)
		heard <- string(text)
		_, _ = s.Close(), l.Close()
	}()
	b.follow.publish([]Endpoint{(&member{Listener: l, name: "z"}).endpoint()})
	eventually(t, "the set is followed", func() bool { return b.knows("z") })
	c = b.must()
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end of the server's stream", err)
	}
	if _, err := io.WriteString(c, "last words"); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got := <-heard; got != "last words" {
		t.Errorf("the server heard %q after it had ended its stream", got)
	}
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

// A member that dies costs its own connections; new ones go elsewhere without an error, and to it again once it is back.
func TestProxyMemberDies(t *testing.T) {
	ms, set := three(t)
	b := run(t, set, nil)
	clients := []*client{b.must(), b.must(), b.must()}
	at := ms[1].Addr().String()
	ms[1].kill()
	for _, c := range clients {
		if c.name != "b" {
			continue
		}
		if _, err := c.in.ReadByte(); err == nil {
			t.Error("the connection to the dead member lives")
		}
	}
	for range 9 {
		if c := b.must(); c.name == "b" {
			t.Error("a dead member greets")
		}
	}
	for _, c := range clients {
		if c.name == "b" {
			continue
		}
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Error(err)
		}
		if _, err := c.in.ReadByte(); err != nil {
			t.Errorf("the connection to %s suffers: %v", c.name, err)
		}
	}
	if n := b.logs.FilterMessage("an endpoint does not take connections").Len(); n != 1 {
		t.Errorf("said %d times that it is down, want once", n)
	}
	select {
	case <-b.follow.prompts:
	default:
		t.Error("the follower was not asked to look again")
	}
	newMember(t, "b", at)
	eventually(t, "the member has connections again", func() bool { return b.must().name == "b" })
}

// Connections to an endpoint that left stay for the drain time, get no company, and are closed then; the rest is untouched.
func TestProxyDrain(t *testing.T) {
	_, set := three(t)
	b := run(t, set, func(p *Proxy) { p.Drain = 300 * time.Millisecond })
	clients := map[string]*client{}
	for range 3 {
		c := b.must()
		clients[c.name] = c
	}
	left := time.Now()
	b.follow.publish([]Endpoint{set[0], set[2]})
	eventually(t, "the endpoint is leaving", func() bool { return b.value("etcd_dns_gateway_endpoint_draining", set[1]) == 1 })
	for range 6 {
		if c := b.must(); c.name == "b" {
			t.Error("an endpoint that left gets a connection")
		}
	}
	if _, err := clients["b"].in.ReadByte(); err == nil {
		t.Error("the connection is not closed")
	}
	if took := time.Since(left); took < b.Drain {
		t.Errorf("it was closed after %v, before the drain time", took)
	}
	if !b.alive(clients["a"]) || !b.alive(clients["c"]) {
		t.Error("a connection to an endpoint that stayed was closed")
	}
	eventually(t, "the endpoint is forgotten", func() bool { return !b.knows("b") })
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

// An endpoint that is back before the drain time is over keeps its connections.
func TestProxyDrainReturns(t *testing.T) {
	_, set := three(t)
	b := run(t, set, nil)
	for range 3 {
		b.must()
	}
	b.follow.publish(set[:1])
	eventually(t, "they are leaving", func() bool { return b.value("etcd_dns_gateway_endpoint_draining", set[1]) == 1 })
	b.follow.publish(set)
	eventually(t, "they are back", func() bool { return b.value("etcd_dns_gateway_endpoint_draining", set[1]) == 0 })
	if got := b.links("b"); got != 1 {
		t.Errorf("b has %d connections, want the one it had", got)
	}
	if c := b.must(); !b.alive(c) {
		t.Error("no connection after the return")
	}
}

// An endpoint that left because it is dead has nothing to drain: its connections, which look alive, end at once.
func TestProxyDrainDead(t *testing.T) {
	ms, set := three(t)
	b := run(t, set, nil)
	clients := map[string]*client{}
	for range 3 {
		c := b.must()
		clients[c.name] = c
	}
	if err := ms[1].Close(); err != nil { // refuses, while the old connection stands
		t.Fatal(err)
	}
	b.follow.publish([]Endpoint{set[0], set[2]})
	if _, err := clients["b"].in.ReadByte(); err == nil {
		t.Error("the connection lives")
	}
	eventually(t, "the endpoint is forgotten", func() bool { return !b.knows("b") })
}

// Before there is a set connections wait; with none that answers they are refused, and it is said once.
func TestProxyNobody(t *testing.T) {
	_, set := three(t)
	ready := make(chan struct{})
	b := run(t, nil, func(p *Proxy) { p.Ready = func() { close(ready) } })
	got := make(chan string, 1)
	go func() {
		c, err := b.dial()
		if err != nil {
			got <- err.Error()
			return
		}
		got <- c.name
	}()
	select {
	case <-ready:
		t.Fatal("ready without a set")
	case name := <-got:
		t.Fatalf("%s without a set", name)
	case <-time.After(50 * time.Millisecond): // a bound on what must not happen
	}
	b.follow.publish(set[:1])
	if name := <-got; name != "a" {
		t.Errorf("%s, want a", name)
	}
	<-ready
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := (&member{Listener: dead, name: "gone"}).endpoint()
	_ = dead.Close()
	b.follow.publish([]Endpoint{gone, {Host: "unresolved", Port: 1}})
	eventually(t, "the set is followed", func() bool { return b.knows("gone") })
	for range 3 {
		if c, err := b.dial(); err == nil {
			t.Errorf("%s answers", c.name)
		}
	}
	if n := b.logs.FilterMessage("no endpoint takes connections; they are refused").Len(); n != 1 {
		t.Errorf("said %d times that there is nobody, want once", n)
	}
}

// There are no more connections than may be, and room again when some end.
func TestProxyBound(t *testing.T) {
	_, set := three(t)
	b := run(t, set, func(p *Proxy) { p.MaxConnections = 4 })
	var clients []*client
	for range 4 {
		clients = append(clients, b.must())
	}
	for range 3 {
		if _, err := b.dial(); err == nil {
			t.Error("a fifth connection is taken")
		}
	}
	if n := b.logs.FilterMessage("there are as many connections as may be; more are refused").Len(); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	_ = clients[0].Close()
	eventually(t, "a connection is taken again", func() bool { _, err := b.dial(); return err == nil })
}

// The gateway does not connect to itself.
func TestProxyLoop(t *testing.T) {
	_, set := three(t)
	b := run(t, nil, nil)
	self := netip.MustParseAddrPort(b.at)
	b.follow.publish([]Endpoint{{Host: "self", Port: self.Port(), Addrs: []netip.Addr{self.Addr()}}, set[0]})
	for range 4 {
		if c := b.must(); c.name != "a" {
			t.Errorf("%s", c.name)
		}
	}
	if b.logs.FilterMessage("an endpoint is this gateway's own address; it is left out").Len() == 0 {
		t.Error("nothing was said")
	}
}

// Run ends with its context, with every connection and goroutine of it.
func TestProxyEnds(t *testing.T) {
	_, set := three(t)
	b := run(t, set, nil)
	c := b.must()
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection outlives Run")
	}
	if _, err := net.Dial("tcp", b.at); err == nil {
		t.Error("the socket outlives Run")
	}
	empty := run(t, nil, nil)
	if err := empty.stop(); err != nil { // while it waits for a set
		t.Error(err)
	}
}

// The metrics are what they are described as.
func TestMetrics(t *testing.T) {
	_, set := three(t)
	b := run(t, set, nil)
	for range 3 {
		b.must()
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(b.Proxy, b.follow)
	if families, err := reg.Gather(); err != nil || len(families) != 9 {
		t.Errorf("%d families, %v, want the nine", len(families), err)
	}
	for _, e := range set {
		for name, want := range map[string]float64{"etcd_dns_gateway_connections": 1, "etcd_dns_gateway_connections_total": 1, "etcd_dns_gateway_endpoint_up": 1, "etcd_dns_gateway_dial_failures_total": 0} {
			if got := b.value(name, e); got != want {
				t.Errorf("%s of %s is %v, want %v", name, e.Name(), got, want)
			}
		}
	}
}

// With CAs, an endpoint whose certificate is not for its host gets no connections, whether or not it wants one of its clients.
func TestProxyVerify(t *testing.T) {
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAnyClientCert} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cert, pool := certificate(t, "good.example.com")
			serve := func(name string) Endpoint {
				l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: auth, MinVersion: version, MaxVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						wg.Go(func() {
							defer func() { _ = c.Close() }()
							_ = c.(*tls.Conn).HandshakeContext(t.Context())
						})
					}
				})
				t.Cleanup(func() { _ = l.Close(); wg.Wait() })
				return (&member{Listener: l, name: name}).endpoint()
			}
			good, evil := serve("good"), serve("evil")
			b := run(t, []Endpoint{good, evil}, func(p *Proxy) { p.Roots = pool })
			for range 6 {
				eventually(t, "a connection is taken", func() bool {
					conn, err := net.Dial("tcp", b.at)
					if err != nil {
						return false
					}
					defer func() { _ = conn.Close() }()
					verified := false
					c := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "good.example.com", VerifyConnection: func(tls.ConnectionState) error { verified = true; return nil }})
					_ = c.Handshake()
					return verified
				})
			}
			if got := b.value("etcd_dns_gateway_connections_total", evil); got != 0 {
				t.Errorf("auth %v, TLS %x: an endpoint with another host's certificate got %v connections", auth, version, got)
			}
			if got := b.value("etcd_dns_gateway_connections_total", good); got < 6 {
				t.Errorf("auth %v, TLS %x: the good endpoint got %v connections, want 6", auth, version, got)
			}
		}
	}
}

// certificate makes one for a host, and the pool that trusts it.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
