//go:build linux

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// stockEtcd builds etcd from the module that the product is built with, once per test process.
var stockEtcd = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(processDir(), "etcd")
	return bin, goBuild(bin, "go.etcd.io/etcd/server/v3")
})

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
	gateway = l.onClient("gateway", 23790, l.bin(), "gateway", "start", "--discovery-srv", l.Domain, "--trusted-ca-file", filepath.Join(dir, "ca.crt"), "--drain", "5s")
	proxy = l.onClient("grpc-proxy", 23791, l.bin(), "grpc-proxy", "start", "--discovery-srv", l.Domain,
		"--cacert", filepath.Join(dir, "ca.crt"), "--cert", filepath.Join(dir, "proxy.crt"), "--key", filepath.Join(dir, "proxy.key"))
	return gateway, proxy
}

const (
	gatewayURL = "https://127.0.0.1:23790"
	proxyURL   = "http://127.0.0.1:23791"
	stockURL   = "https://127.0.0.1:23792"
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

// admit gives a node its line in every Corefile, tells the nodes that run, and starts it.
func (l *Lab) admit(name string) {
	l.t.Helper()
	line := fmt.Sprintf("node %s %s", name, l.Addr(name))
	for _, n := range l.Names() {
		l.EditCorefile(n, func(text string) string {
			return strings.Replace(text, "node infra0 ", line+"\n        node infra0 ", 1)
		})
		if l.node(n).up() {
			l.Signal(n, syscall.SIGHUP)
		}
	}
	l.Start(name)
}

// serviceGap is how long a client of the gateway or the gRPC proxy may be without an acknowledged write while the membership
// changes. The figures are logged; the bound is for a busy machine, and for the election when the leader is removed.
const serviceGap = 10 * time.Second

// TestGatewayFollows: the members are replaced one by one, 3 → 4 → 3, until none of the first three is left. Clients with standing
// connections through our gateway and gRPC proxy write all the time, and both know the new members alone then; stock etcd's
// gateway, which read SRV once, has no endpoint left.
func TestGatewayFollows(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 3})
	voters := []string{"infra0", "infra1", "infra2"}
	for _, n := range voters {
		l.Start(n)
	}
	l.WaitHealthy(voters...)
	gateway, proxy := l.proxies()
	l.onClient("stock", 23792, needProduct(t, stockEtcd), "gateway", "start", "--discovery-srv", l.Domain, "--retry-delay", "1s")
	urls := map[string]string{"gateway": gatewayURL, "grpc-proxy": proxyURL, "stock": stockURL}
	for name, url := range urls {
		l.Wait("a write through "+name, healthyLimit, func() error { return l.through(url, "put", "before", name).Err() })
	}
	writers := map[string]*writer{"gateway": l.writeThrough(gatewayURL, "gateway"), "grpc-proxy": l.writeThrough(proxyURL, "grpc-proxy")}
	for _, w := range writers {
		l.goesOn(w)
		w.longest()
	}
	for i := range 3 {
		added, removed := fmt.Sprintf("infra%d", 3+i), voters[0]
		l.admit(added)
		voters = append(voters, added)
		l.voters(voters...)
		voters = voters[1:]
		// etcd refuses while its members have been connected for less than five seconds.
		l.Wait("the removal of "+removed, healthyLimit, func() error { return l.Tool(added, "member", "remove", removed).Err() })
		l.voters(voters...)
		for name, w := range writers {
			l.goesOn(w)
			if gap := w.longest(); gap > serviceGap {
				t.Errorf("%s: %v without a write while %s replaced %s, want at most %v", name, gap, added, removed, serviceGap)
			} else {
				t.Logf("%s: at most %v without a write while %s replaced %s", name, gap.Round(time.Millisecond), added, removed)
			}
		}
	}
	for name, url := range urls {
		err := l.through(url, "put", "after", name).Err()
		if name == "stock" {
			if err == nil {
				t.Error("the control is none: stock etcd's gateway has an endpoint that is not of the first set")
			}
		} else if err != nil {
			t.Errorf("through %s: %v", name, err)
		}
	}
	for name, w := range writers {
		w.end()
		if r := l.Etcdctl("get", name, "--print-value-only"); isValue(r, fmt.Sprint(w.value)) != nil && isValue(r, fmt.Sprint(w.value+1)) != nil {
			t.Errorf("%s: the last acknowledged write is %d, and the cluster has %v", name, w.value, r)
		}
	}
	for name, p := range map[string]*process{"gateway": gateway, "grpc-proxy": proxy} {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !p.ended(stopLimit) || p.err != nil {
			t.Errorf("%s did not end in order within %v: %v", name, stopLimit, p.err)
		}
	}
}

// TestGatewayMemberDies: a member dies, of kill -9 or silently. Clients with standing connections through the gateway are with another
// one within two seconds of the first; of a silent death gossip, SRV and the gateway's own look tell before TCP would.
func TestGatewayMemberDies(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.proxies()
	writers := map[string]*writer{"grpc-proxy": l.writeThrough(proxyURL, "grpc-proxy")}
	for i := range 3 { // one for each member
		writers[fmt.Sprintf("gateway %d", i)] = l.writeThrough(gatewayURL, fmt.Sprintf("gateway-%d", i))
	}
	calm := func() {
		for _, w := range writers {
			l.goesOn(w)
			w.longest()
		}
	}
	worst := func() (gap time.Duration) {
		for _, w := range writers {
			l.goesOn(w)
			gap = max(gap, w.longest())
		}
		return gap
	}
	follower := func() string {
		leader := l.StatusText("infra0", "leader")
		return l.Names()[(slices.Index(l.Names(), leader)+1)%3]
	}
	var killed []time.Duration
	for range 3 {
		calm()
		l.KillMember(follower())
		killed = append(killed, worst())
		l.WaitHealthy()
	}
	slices.Sort(killed)
	t.Logf("kill -9 of a follower: at most %v without a write, of four clients in three rounds", killed)
	if killed[1] > 2*time.Second {
		t.Errorf("the median round has %v without a write, want at most 2 s", killed[1])
	}
	victim := follower()
	calm()
	l.CutNode(victim)
	silent := worst()
	t.Logf("a follower's cable pulled: at most %v without a write", silent)
	if silent > 15*time.Second {
		t.Errorf("%v without a write after a silent death, want at most 15 s", silent)
	}
	l.HealNode(victim)
	l.WaitHealthy()
	calm()
}
