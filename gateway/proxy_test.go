package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

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

	// A server that ends its stream first, and still listens. The proxy's checks come to it too.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	heard := make(chan string, 1)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(s, "first\n")
			_ = s.(*net.TCPConn).CloseWrite()
			if text, _ := io.ReadAll(s); len(text) > 0 { // a check says nothing
				heard <- string(text)
			}
			_ = s.Close()
		}
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

// A member that takes connections and ends them has the fewest of all. It gets those of its turn, not nearly all.
func TestProxyHangsUp(t *testing.T) {
	_, set := three(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	b := run(t, append(set, (&member{Listener: l, name: "hole"}).endpoint()), nil)
	got := map[string]int{}
	for range 60 {
		c, err := b.dial() // and stays
		if err != nil {
			_ = c.Close()
		}
		got[c.name]++
	}
	// Every fourth one, and the first ones until the first end was seen.
	if got[""] < 10 || got[""] > 20 || got["a"] < 10 || got["b"] < 10 || got["c"] < 10 {
		t.Errorf("%v, want about 15 each", got)
	}
}

// A member that was up and dies is found although no client comes.
func TestProxyLooks(t *testing.T) {
	ms, set := three(t)
	up := func(b *bench, want float64) {
		t.Helper()
		eventually(t, fmt.Sprintf("up is %v", want), func() bool { return b.value("etcd_dns_gateway_endpoint_up", set[1]) == want })
	}
	ms[1].kill()
	b := run(t, set, func(p *Proxy) { p.checkEvery = 100 * time.Millisecond })
	up(b, 0)
	again := newMember(t, "b", ms[1].Addr().String())
	up(b, 1)
	again.kill()
	up(b, 0)
	if b.value("etcd_dns_gateway_endpoint_up", set[0]) != 1 {
		t.Error("a member that lives is down")
	}
}

// Connections do not put off the next look: the kernel takes them for a member that hangs. A new address is looked at at once.
func TestProxyLookTimes(t *testing.T) {
	_, set := three(t)
	b := run(t, append(set[:1:1], Endpoint{Host: "b.example.com", Port: set[1].Port}), func(p *Proxy) { p.checkEvery, p.RetryDelay = time.Hour, time.Hour })
	next := func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		if r := b.remotes[set[0].Name()]; r != nil {
			return r.checkAt
		}
		return time.Time{}
	}
	eventually(t, "the first look is over", func() bool { return time.Until(next()) > time.Minute })
	before := next()
	for range 3 {
		b.must()
	}
	if got := next(); got != before {
		t.Errorf("the next look was to be at %v, and after three connections at %v", before, got)
	}
	eventually(t, "a member without an address is down", func() bool { return b.value("etcd_dns_gateway_endpoint_up", set[1]) == 0 })
	b.follow.publish(set[:2])
	eventually(t, "it is up", func() bool { return b.value("etcd_dns_gateway_endpoint_up", set[1]) == 1 })
}

// Before an endpoint has an address connections wait; with none that answers they are refused, and it is said once.
func TestProxyNobody(t *testing.T) {
	_, set := three(t)
	ready := make(chan struct{})
	b := run(t, []Endpoint{{Host: "unresolved", Port: 1}}, func(p *Proxy) { p.Ready = func() { close(ready) } })
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
		t.Fatal("ready without an address")
	case name := <-got:
		t.Fatalf("%s without an address", name)
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
