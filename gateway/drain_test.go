package gateway

import (
	"testing"
	"time"
)

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
