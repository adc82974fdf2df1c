//go:build linux

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// onClient starts a program on the client host that listens at a port of its loopback, and waits until it does.
func (l *Lab) onClient(name string, port int, argv ...string) *process {
	l.t.Helper()
	at := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := spawn(l.host(clientHost), name+".log", append(argv, "--listen-addr", at))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if l.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(l.host(clientHost).dir, name+".log"))
			l.t.Logf("the end of %s's log:\n%s", name, tail(string(text), 40))
		}
	})
	l.Wait(name+" listens", healthyLimit, func() error {
		if !p.running() {
			return fmt.Errorf("it has ended: %w", p.err)
		}
		conn, err := l.dialClient(at)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return p
}

// dialClient connects to an address from the client host.
func (l *Lab) dialClient(at string) (conn net.Conn, err error) {
	err = inNetns(l.host(clientHost).ns, func() error {
		conn, err = net.DialTimeout("tcp", at, queryLimit)
		return err
	})
	return conn, err
}

// proxies starts the gateway and the gRPC proxy on the client host.
func (l *Lab) proxies() (gateway, proxy *process) {
	l.t.Helper()
	dir := l.host(clientHost).dir
	l.Must(clientHost, l.bin(), "cert", "client", "proxy", "--proxy", "--bundle", filepath.Join(l.operator(), "cluster.bundle"), "--out", dir)
	gateway = l.onClient("gateway", 23790, l.bin(), "gateway", "start", "--discovery-srv", l.Domain, "--trusted-ca-file", filepath.Join(dir, "ca.crt"), "--drain", "5s", "--metrics-addr", gatewayMetrics)
	proxy = l.onClient("grpc-proxy", 23791, l.bin(), "grpc-proxy", "start", "--discovery-srv", l.Domain,
		"--cacert", filepath.Join(dir, "ca.crt"), "--cert", filepath.Join(dir, "proxy.crt"), "--key", filepath.Join(dir, "proxy.key"))
	return gateway, proxy
}

const (
	gatewayURL = "https://127.0.0.1:23790"
	proxyURL   = "http://127.0.0.1:23791"
	stockURL   = "https://127.0.0.1:23792"
	// gatewayMetrics is where the gateway tells its metrics.
	gatewayMetrics = "127.0.0.1:23799"
)

// through runs etcdctl on the client host against one URL.
func (l *Lab) through(url string, args ...string) Result {
	l.t.Helper()
	flags := []string{"--endpoints", url, "--command-timeout", "5s"}
	if strings.HasPrefix(url, "https:") {
		flags = append(flags, l.certFlags()...)
	}
	return l.Run(clientHost, "etcdctl", slices.Concat(flags, args)...)
}

// writer is a client that keeps its connection and writes all the time.
type writer struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	acked  int
	value  int // of the last acknowledged write
	last   time.Time
	gap    time.Duration
	failed error
}

// writeThrough begins to write through a URL on the client host, until the end of the test.
func (l *Lab) writeThrough(url, key string) *writer {
	l.t.Helper()
	cfg := clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop(), DialKeepAliveTime: time.Minute, // so that it is not the client who finds the dead
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(_ context.Context, at string) (net.Conn, error) { return l.dialClient(at) })}}
	if strings.HasPrefix(url, "https:") {
		cfg.TLS = l.aliceTLS()
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{cancel: cancel, last: time.Now()}
	w.done.Go(func() {
		defer func() { _ = c.Close() }()
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			limited, end := context.WithTimeout(ctx, time.Second)
			_, err := c.Put(limited, key, fmt.Sprint(n))
			end()
			w.note(n, err)
			select {
			case <-ctx.Done():
			case <-pace.C:
			}
		}
	})
	l.t.Cleanup(w.end)
	return w
}

func (w *writer) note(n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed = err
		return
	}
	now := time.Now()
	w.acked++
	w.value = n
	w.gap, w.last = max(w.gap, now.Sub(w.last)), now
}

func (w *writer) end() {
	w.cancel()
	w.done.Wait()
}

// longest is the longest time without an acknowledged write since the last call, the present one included.
func (w *writer) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	gap := max(w.gap, time.Since(w.last))
	w.gap = 0
	return gap
}

// goesOn waits for more acknowledged writes.
func (l *Lab) goesOn(w *writer) {
	l.t.Helper()
	acked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.acked
	}
	before := acked()
	l.Wait("writes go on", healthyLimit, func() error {
		if acked() < before+5 {
			w.mu.Lock()
			defer w.mu.Unlock()
			return errorf("the last error: %v", w.failed)
		}
		return nil
	})
}

// aliceTLS is the client's certificate.
func (l *Lab) aliceTLS() *tls.Config {
	l.t.Helper()
	dir := l.host(clientHost).dir
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key"))
	if err != nil {
		l.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		l.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// connections is how many the gateway has to a node's member, -1 while it does not take it for up.
func (l *Lab) connections(node string) int {
	l.t.Helper()
	client := http.Client{Timeout: queryLimit, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, _, at string) (net.Conn, error) { return l.dialClient(at) }}}
	r, err := client.Get("http://" + gatewayMetrics + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	n, up := -1, false
	for line := range strings.Lines(string(text)) {
		label := fmt.Sprintf(`{endpoint="%s.%s:2379"} `, node, l.Domain)
		if v, ok := strings.CutPrefix(line, "etcd_dns_gateway_connections"+label); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(v))
		}
		up = up || line == "etcd_dns_gateway_endpoint_up"+label+"1\n"
	}
	if !up {
		return -1
	}
	return n
}
