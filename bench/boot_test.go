package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/certs"
)

// members of each cluster.
const members = 3

// rack is one cluster to boot: a command for each node, and where its member answers clients.
type rack struct {
	commands []*exec.Cmd
	health   []string
	client   *http.Client
}

// BenchmarkBoot boots etcd-dns and stock etcd (static, the same TLS) in turns and reports the median time from the
// start of the first process to all three members answering a linearizable read, and the resident memory then.
func BenchmarkBoot(b *testing.B) {
	bin := b.TempDir()
	ours, stock := filepath.Join(bin, "etcd-dns"), filepath.Join(bin, "etcd")
	build(b, ours, "../cmd/etcd-dns")
	build(b, stock, "go.etcd.io/etcd/server/v3")
	var oursMS, stockMS, ratio, oursMB, stockMB []float64
	for b.Loop() {
		t1, m1 := measure(b, oursRack(b, ours))
		t2, m2 := measure(b, stockRack(b, stock))
		oursMS, stockMS, ratio = append(oursMS, t1), append(stockMS, t2), append(ratio, t1/t2)
		oursMB, stockMB = append(oursMB, m1), append(stockMB, m2)
	}
	b.ReportMetric(median(oursMS), "etcd-dns-ms")
	b.ReportMetric(median(stockMS), "stock-ms")
	b.ReportMetric(median(oursMS)/median(stockMS), "ratio-of-medians")
	b.ReportMetric(median(ratio), "median-ratio")
	b.ReportMetric(median(oursMB), "etcd-dns-MiB/node")
	b.ReportMetric(median(stockMB), "stock-MiB/node")
	b.Logf("etcd-dns ms %.0f", oursMS)
	b.Logf("stock ms    %.0f", stockMS)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func build(b *testing.B, out, pkg string) {
	b.Helper()
	if text, err := buildCommand(out, pkg).CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}

// buildCommand builds without cgo, as both are released.
func buildCommand(out, pkg string) *exec.Cmd {
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// measure boots a rack, waits until every member is healthy, and stops it. Time in milliseconds, memory in MiB for
// one node with all its processes.
func measure(b *testing.B, r rack) (ms, mib float64) {
	b.Helper()
	start := time.Now()
	for _, c := range r.commands {
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
	}
	var wait sync.WaitGroup
	for _, url := range r.health {
		wait.Go(func() { awaitHealthy(b, r.client, url) })
	}
	wait.Wait()
	ms = float64(time.Since(start).Microseconds()) / 1000
	for _, c := range r.commands {
		mib += resident(c.Process.Pid) / members
	}
	for _, c := range r.commands {
		_ = c.Process.Signal(syscall.SIGTERM)
	}
	for _, c := range r.commands {
		_ = c.Wait() // stock etcd ends by the signal it was sent
	}
	r.client.CloseIdleConnections()
	return ms, mib
}

// awaitHealthy asks etcd's own readiness, which includes a linearizable read.
func awaitHealthy(b *testing.B, c *http.Client, url string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		resp, err := c.Get(url)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	b.Errorf("%s is not healthy within a minute", url)
}

// resident sums the resident memory of a process and its children, in MiB.
func resident(pid int) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib, _ := strconv.ParseFloat(strings.Fields(after + " 0")[0], 64)
	total := kib / 1024
	for _, c := range children(pid) {
		total += resident(c)
	}
	return total
}

// oursRack is three etcd-dns nodes on blank disks.
func oursRack(b *testing.B, bin string) rack {
	b.Helper()
	dir := b.TempDir()
	args := []string{"init", "--domain", "bench.example.com", "--out", dir}
	r := rack{}
	for i := range members {
		args = append(args, "--node", fmt.Sprintf("infra%d=127.0.91.%d", i, 10+i))
		r.health = append(r.health, fmt.Sprintf("https://127.0.91.%d:2379/readyz", 10+i))
	}
	if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
		b.Fatalf("init: %v\n%s", err, out)
	}
	corefile := filepath.Join(dir, "Corefile")
	edit(b, corefile, "bench.example.com {", "bench.example.com:5380 {")
	edit(b, corefile, "    prometheus localhost:9153\n", "")
	for i := range members {
		name := fmt.Sprintf("infra%d", i)
		r.commands = append(r.commands, exec.Command(bin, "run", "--corefile", corefile, "--name", name, "--data", filepath.Join(dir, name)))
	}
	bundle, err := certs.LoadBundle(filepath.Join(dir, "cluster.bundle"))
	if err != nil {
		b.Fatal(err)
	}
	r.client = client(b, bundle, dir)
	return r
}

func edit(b *testing.B, path, from, to string) {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		b.Fatalf("%s lacks %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		b.Fatal(err)
	}
}

// stockRack is three stock members with a static initial cluster and certificates of the same kind, made beforehand.
func stockRack(b *testing.B, bin string) rack {
	b.Helper()
	dir := b.TempDir()
	names := map[string][]string{"": {"infra0", "infra1", "infra2"}}
	bundle, _, err := certs.NewBundle(certs.InitOptions{Domain: "bench.example.com", Names: names})
	if err != nil {
		b.Fatal(err)
	}
	var initial []string
	for i := range members {
		initial = append(initial, fmt.Sprintf("infra%d=https://127.0.92.%d:2380", i, 10+i))
	}
	r := rack{client: client(b, bundle, dir)}
	for i := range members {
		f := issue(b, bundle, fmt.Sprintf("infra%d", i), netip.AddrFrom4([4]byte{127, 0, 92, byte(10 + i)}), dir)
		peer, clients := fmt.Sprintf("https://127.0.92.%d:2380", 10+i), fmt.Sprintf("https://127.0.92.%d:2379", 10+i)
		r.health = append(r.health, clients+"/readyz")
		r.commands = append(r.commands, exec.Command(bin, "--name", fmt.Sprintf("infra%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("etcd%d", i)),
			"--initial-advertise-peer-urls", peer, "--listen-peer-urls", peer, "--listen-client-urls", clients, "--advertise-client-urls", clients,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", filepath.Base(dir),
			"--client-cert-auth", "--trusted-ca-file", f.CA, "--cert-file", f.ServerCert, "--key-file", f.ServerKey,
			"--client-cert-file", f.ClientCert, "--client-key-file", f.ClientKey,
			"--peer-client-cert-auth", "--peer-trusted-ca-file", f.CA, "--peer-cert-file", f.PeerCert, "--peer-key-file", f.PeerKey))
	}
	return r
}

// issue makes a node's certificates and waits for them.
func issue(b *testing.B, bundle *certs.Bundle, node string, addr netip.Addr, dir string) certs.Files {
	b.Helper()
	m := certs.NewManager(certs.Options{Bundle: bundle, Node: node, Dir: filepath.Join(dir, node), Addrs: func() []netip.Addr { return []netip.Addr{addr} }})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case err := <-done:
		b.Fatal(err)
	}
	cancel()
	<-done
	return m.Files()
}

// client asks with a client certificate of the bundle.
func client(b *testing.B, bundle *certs.Bundle, dir string) *http.Client {
	b.Helper()
	f, err := bundle.WriteClient(filepath.Join(dir, "client"), "bench", certs.ClientOptions{})
	if err != nil {
		b.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle.RootPEM())
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
}
