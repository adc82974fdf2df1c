package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

// living is one node process of a one-member rack on loopback.
type living struct {
	t       *testing.T
	cmd     *exec.Cmd
	options *node.Options
	addr    string
	log     string
}

// startOne makes a one-member rack at addr and starts its node.
func startOne(t *testing.T, addr string, env ...string) *living {
	t.Helper()
	dir := t.TempDir()
	r := rack{Domain: "one.example.com", Data: "data", DNSPort: 5353, GenesisWithin: time.Hour, Nodes: []rackNode{{Name: "infra0", Addrs: []string{addr}}},
		Extra: []string{"prometheus " + addr + ":9153"}}
	o, err := r.write(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l := &living{t: t, options: o, addr: addr, log: filepath.Join(dir, "log")}
	out, err := os.Create(l.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	l.cmd = exec.Command(program(t), "run", "--corefile", o.Corefile, "--name", "infra0")
	l.cmd.Stderr = out
	l.cmd.Env = append(os.Environ(), env...)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(l.log)
			t.Logf("the node's log:\n%s", text)
		}
	})
	return l
}

// await waits for a condition of the node's status.
func (l *living) await(what string, done func(node.Status) bool) (s node.Status) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), waitDeadline)
	defer cancel()
	for {
		s, err := node.Fetch(ctx, l.options)
		if err == nil && done(s) {
			return s
		}
		select {
		case <-ctx.Done():
			l.t.Fatalf("not %s within %s: %v, %+v", what, waitDeadline, err, s)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *living) metric(name string) string {
	l.t.Helper()
	resp, err := http.Get("http://" + net.JoinHostPort(l.addr, "9153") + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			f := strings.Fields(rest)
			return f[len(f)-1]
		}
	}
	return ""
}

// queries asks for the client SRV set until stop, and counts what was not a complete answer.
func (l *living) queries(ctx context.Context) (asked, bad *atomic.Int64) {
	asked, bad = new(atomic.Int64), new(atomic.Int64)
	go func() { // ends with ctx
		q := new(dns.Msg).SetQuestion("_etcd-client-ssl._tcp.one.example.com.", dns.TypeSRV)
		c := &dns.Client{Timeout: time.Second}
		for ctx.Err() == nil {
			r, _, err := c.Exchange(q, net.JoinHostPort(l.addr, "5353"))
			asked.Add(1)
			if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
				bad.Add(1)
			}
			time.Sleep(5 * time.Millisecond) // the rate of the load
		}
	}()
	return asked, bad
}

// The member dies, the Corefile turns into nonsense, and DNS never stops; then all ends in order.
func TestLifeOfANode(t *testing.T) {
	l := startOne(t, "127.0.95.10")
	s := l.await("healthy", func(s node.Status) bool { return s.OK })
	pid := s.Members[0].PID
	if up := l.metric("etcd_dns_member_up"); up != "1" {
		t.Errorf("etcd_dns_member_up is %q, want 1", up)
	}
	l.awaitTTL(30) // a query to count
	for _, name := range []string{"etcd_server_has_leader", "coredns_dns_requests_total", "coredns_build_info", "process_resident_memory_bytes"} {
		if l.metric(name) == "" {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	if got := l.metric("etcd_server_has_leader"); got != "1" {
		t.Errorf("etcd_server_has_leader is %q, want 1: the member's, not this process's", got)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	asked, bad := l.queries(ctx)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s = l.await("healthy again with another process", func(s node.Status) bool { return s.OK && s.Members[0].PID != pid })
	if len(s.Deaths) != 1 || !strings.Contains(s.Deaths[0].Reason, "killed") {
		t.Errorf("deaths are %+v, want one that names the signal", s.Deaths)
	}
	pid = s.Members[0].PID

	l.edit("node infra0", "noode infra0")
	l.signal(syscall.SIGHUP)
	s = l.await("an error of the Corefile", func(s node.Status) bool { return s.CorefileError != "" })
	if !strings.Contains(s.CorefileError, `Corefile:6: unknown property "noode"`) || s.OK {
		t.Errorf("got %q with ok %v, want the line and the word", s.CorefileError, s.OK)
	}
	l.edit("noode infra0", "ttl 45s\n        node infra0")
	l.signal(syscall.SIGHUP)
	s = l.await("the new Corefile", func(s node.Status) bool { return s.CorefileError == "" && s.OK })
	if s.Members[0].PID != pid {
		t.Errorf("the member's process went from %d to %d in a reload, want it untouched", pid, s.Members[0].PID)
	}
	l.awaitTTL(45)
	stop()
	if asked.Load() < 10 || bad.Load() != 0 {
		t.Errorf("%d of %d queries had no complete answer, want 0", bad.Load(), asked.Load())
	}
	l.end()
}

func (l *living) edit(from, to string) {
	l.t.Helper()
	text, err := os.ReadFile(l.options.Corefile)
	if err != nil {
		l.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		l.t.Fatalf("the Corefile lacks %q", from)
	}
	write(l.t, l.options.Corefile, strings.Replace(string(text), from, to, 1))
}

func (l *living) signal(sig os.Signal) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(sig); err != nil {
		l.t.Fatal(err)
	}
}

func (l *living) awaitTTL(want uint32) {
	l.t.Helper()
	q := new(dns.Msg).SetQuestion("infra0.one.example.com.", dns.TypeA)
	for end := time.Now().Add(waitDeadline); ; time.Sleep(20 * time.Millisecond) {
		r, err := dns.Exchange(q, net.JoinHostPort(l.addr, "5353"))
		if err == nil && len(r.Answer) == 1 && r.Answer[0].Header().Ttl == want {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("got %v, %v; want TTL %d", r, err, want)
		}
	}
}

// end stops the node within ten seconds and finds nothing left.
func (l *living) end() {
	l.t.Helper()
	start := time.Now()
	l.signal(syscall.SIGTERM)
	if err := l.cmd.Wait(); err != nil {
		l.t.Errorf("the node ended with %v, want exit status 0", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		l.t.Errorf("the node took %s to stop, want at most 10 s", took)
	}
	if left := processes(filepath.Dir(l.options.Corefile)); len(left) > 0 {
		l.t.Errorf("left behind: %v", left)
	}
}

// systemd hears READY=1 when DNS answers, and what the member waits for.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l := startOne(t, "127.0.96.10", "NOTIFY_SOCKET="+path)
	if err := socket.SetReadDeadline(time.Now().Add(waitDeadline)); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for text := ""; !strings.Contains(text, "the member serves"); {
		buf := make([]byte, 4096)
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", seen, err)
		}
		text = string(buf[:n])
		seen = append(seen, text)
		if text == "READY=1" {
			if _, err := dns.Exchange(new(dns.Msg).SetQuestion("one.example.com.", dns.TypeNS), net.JoinHostPort(l.addr, "5353")); err != nil {
				t.Errorf("READY=1 and DNS does not answer: %v", err)
			}
		}
	}
	if got := fmt.Sprint(seen); !strings.Contains(got, "READY=1") {
		t.Errorf("got %s, want READY=1 before the member serves", got)
	}
	l.end()
}

// A wrong Corefile at a start: the last good one serves, and --strict refuses.
func TestLastGoodCorefile(t *testing.T) {
	l := startOne(t, "127.0.97.10")
	l.await("healthy", func(s node.Status) bool { return s.OK })
	l.signal(syscall.SIGTERM)
	if err := l.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	l.edit("node infra0", "noode infra0")
	out, err := exec.Command(l.cmd.Path, "run", "--strict", "--corefile", l.options.Corefile, "--name", "infra0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `error: `+l.options.Corefile+`:6: unknown property "noode"`) {
		t.Errorf("--strict: got %v\n%s", err, out)
	}
	again := exec.Command(l.cmd.Path, "run", "--corefile", l.options.Corefile, "--name", "infra0")
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	l.cmd = again
	s := l.await("running on the last good Corefile", func(s node.Status) bool { return s.Health == "healthy" })
	if s.OK || !strings.Contains(s.CorefileError, "noode") {
		t.Errorf("got ok %v and %q, want the error of the Corefile", s.OK, s.CorefileError)
	}
	l.edit("noode infra0", "node infra0")
	l.signal(syscall.SIGHUP)
	l.await("well again", func(s node.Status) bool { return s.OK })
	l.end()
}

// A second server block without a body is another door: DNS over TLS, with the node's own certificate.
func TestTLSDoor(t *testing.T) {
	l := startOne(t, "127.0.98.10")
	l.await("healthy", func(s node.Status) bool { return s.OK })
	l.signal(syscall.SIGTERM)
	if err := l.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	l.edit("one.example.com:5353 {", "tls://one.example.com:8853 {\n    etcdsrv\n}\none.example.com:5353 {")
	again := exec.Command(l.cmd.Path, "run", "--corefile", l.options.Corefile, "--name", "infra0")
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	l.cmd = again
	l.await("healthy again", func(s node.Status) bool { return s.OK })
	b, err := certs.LoadBundle(l.options.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.RootPEM())
	q := new(dns.Msg).SetQuestion("_etcd-client-ssl._tcp.one.example.com.", dns.TypeSRV)
	c := &dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{RootCAs: roots, ServerName: "infra0.one.example.com"}, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(q, net.JoinHostPort(l.addr, "8853"))
	if err != nil || len(r.Answer) != 1 || !r.Authoritative {
		t.Errorf("over TLS: got %v, %v", r, err)
	}
	if r, _, err := (&dns.Client{Net: "tcp", Timeout: 2 * time.Second}).Exchange(q, net.JoinHostPort(l.addr, "8853")); err == nil {
		t.Errorf("the door answers without TLS: %v", r)
	}
	l.end()
}
