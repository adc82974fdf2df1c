package rpcproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/gateway"
)

// patience bounds every wait; the machine may be busy.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member runs a cluster of one, and returns the endpoint.
func member(t *testing.T, name string) gateway.Endpoint {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel, cfg.LogOutputs = name, t.TempDir(), "fatal", []string{"/dev/null"}
	var urls []url.URL
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, url.URL{Scheme: "http", Host: l.Addr().String()})
		_ = l.Close()
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = urls[:1], urls[:1]
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = urls[1:], urls[1:]
	cfg.InitialCluster = cfg.InitialClusterFromName(name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("the member is not ready")
	}
	at := netip.MustParseAddrPort(urls[1].Host)
	// The name does not resolve: the proxy dials what the follower knows.
	return gateway.Endpoint{Scheme: "http", Host: name + ".rack1.example.com", Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}
}

// source is a source of endpoints that the test changes.
type source struct {
	mu  sync.Mutex
	set []gateway.Endpoint
}

func (s *source) says(set ...gateway.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
}

func (s *source) source() gateway.Source {
	return gateway.Source{Name: "test", Lookup: func(context.Context) (gateway.Answer, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return gateway.Answer{Endpoints: s.set, TTL: time.Second}, nil
	}}
}

// running is a proxy that runs.
type running struct {
	at, metrics string
	stop        func() error
}

func start(t *testing.T, s *source, change func(c *Config)) *running {
	t.Helper()
	listen := func() net.Listener {
		l, err := gateway.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ready := make(chan struct{})
	c := Config{Follow: gateway.NewFollower(zap.NewNop(), nil, s.source()), Listen: listen(), Metrics: listen(), MaxStreams: 1000,
		AdvertiseURL: "http://proxy.example.com:23790", DialKeepAlive: 10 * time.Second, DialKeepAliveTimeout: time.Second, KeepAliveMin: time.Second, KeepAlive: time.Hour,
		KeepAliveTimeout: time.Second, Ready: func() { close(ready) }}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var follow sync.WaitGroup
	follow.Go(func() { _ = c.Follow.Run(ctx) })
	go func() { ended <- Run(ctx, zap.NewNop(), c) }()
	r := &running{at: c.Listen.Addr().String(), metrics: c.Metrics.Addr().String()}
	r.stop = sync.OnceValue(func() error { cancel(); follow.Wait(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
	case <-time.After(patience):
		t.Fatal("the proxy is not ready")
	}
	return r
}

func client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := c.Get(ctx, key)
	switch {
	case err != nil:
		return err.Error()
	case len(r.Kvs) == 0:
		return ""
	}
	return string(r.Kvs[0].Value)
}

// The proxy speaks to the members that the follower names, and moves on when they change: calls, and the watch that a client has.
func TestProxyFollows(t *testing.T) {
	first, second := member(t, "infra0"), member(t, "infra1")
	var s source
	s.says(first)
	p := start(t, &s, nil)
	c := client(t, p.at)
	if _, err := c.Put(t.Context(), "key", "first"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, client(t, netip.AddrPortFrom(first.Addrs[0], first.Port).String()), "key"); got != "first" {
		t.Errorf("the member has %q", got)
	}
	list, err := c.MemberList(t.Context())
	if err != nil || len(list.Members) != 1 || list.Members[0].ClientURLs[0] != "http://proxy.example.com:23790" {
		t.Errorf("the member list is %v, %v, want the proxy alone", list, err)
	}
	s.says(second) // a cluster of its own: what is there tells where a call went
	for end := time.Now().Add(patience); get(t, c, "key") != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("calls still go to the member that left")
		}
		if _, err := c.Put(t.Context(), "other", "x"); err != nil { // a write drops the proxy's cache
			t.Fatal(err)
		}
	}
	if _, err := c.Put(t.Context(), "key", "second"); err != nil {
		t.Error(err)
	}
}

// Health and metrics, at the listener for them and beside gRPC; the keys below a namespace.
func TestProxyServes(t *testing.T) {
	e := member(t, "infra0")
	var s source
	s.says(e)
	p := start(t, &s, func(c *Config) { c.Namespace, c.Ordering, c.LeasingPrefix = "ns/", true, "leases/" })
	web := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, at := range []string{p.at, p.metrics} {
		for path, want := range map[string]string{"/health": `"health":"true"`, "/proxy/health": `"health":"true"`, "/metrics": "etcd_server_has_leader 1", "/proxy/metrics": "etcd_dns_gateway_endpoints 1"} {
			r, err := web.Get("http://" + at + path)
			if err != nil {
				t.Error(err)
				continue
			}
			text, _ := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if r.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
				t.Errorf("%s answers %s without %q", path, r.Status, want)
			}
		}
	}
	c := client(t, p.at)
	if _, err := c.Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, client(t, netip.AddrPortFrom(e.Addrs[0], e.Port).String()), "ns/key"); got != "value" {
		t.Errorf("the member has %q below the namespace", got)
	}
	watch := c.Watch(t.Context(), "key", clientv3.WithRev(1)) // a standing call does not keep the proxy from its end
	select {
	case r := <-watch:
		if len(r.Events) == 0 {
			t.Errorf("the watch says %v", r)
		}
	case <-time.After(patience):
		t.Error("the watch says nothing")
	}
	began := time.Now()
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > stopTimeout+5*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// A cluster with TLS and a proxy without a configuration for it: an error with a hint, not a wait. Without endpoints, or
// an address of one, it waits until its context ends.
func TestProxyScheme(t *testing.T) {
	run := func(ctx context.Context, set []gateway.Endpoint) error {
		l, err := gateway.Listen(ctx, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return Run(ctx, zap.NewNop(), Config{Follow: gateway.NewFollower(zap.NewNop(), set), Listen: l, Ready: func() { t.Errorf("ready for %v", set) }})
	}
	err := run(t.Context(), []gateway.Endpoint{{Scheme: "https", Host: "infra0.example.com", Port: 2379}})
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(err.Error(), "https://infra0.example.com:2379") {
		t.Errorf("%v, want the endpoint and a hint", err)
	}
	for _, set := range [][]gateway.Endpoint{nil, {{Scheme: "http", Host: "infra0.example.com", Port: 2379}}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := run(ctx, set); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
