//go:build linux

package lab

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTokens: a block in the Corefile has every node of a rack serve tokens to clusters of others, kept in the rack's own etcd:
// made at one node, they are there at all, also after one of them has died.
func TestTokens(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{Edit: func(_, text string) string {
		return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        discovery", 1)
	}})
	trust := "SSL_CERT_FILE=" + filepath.Join(l.host(clientHost).dir, "ca.crt")
	service := "https://" + l.Domain + ":8087"
	token := l.newToken(trust, service)
	if !strings.HasPrefix(token, service+"/") {
		t.Fatalf("the token's URL is %q, want one below %s", token, service)
	}
	for _, n := range l.Names() { // each node has it, under its own name too
		at := strings.Replace(token, l.Domain, n+"."+l.Domain, 1) + "/_config/size"
		if r := l.Run(clientHost, "env", trust, "curl", "-fsS", at); !strings.Contains(r.Stdout, `"value":"3"`) {
			t.Errorf("%s: %v", at, r)
		}
	}
	l.startByToken(trust, token, 0, 1)
	l.Wait("two members have registered", healthyLimit, func() error {
		r := l.Run(clientHost, "env", trust, "curl", "-fsS", token)
		if n := strings.Count(r.Stdout, "=http://127.0.0.1:"); n != 2 {
			return errorf("%v", r)
		}
		return nil
	})
	l.Kill("infra0")
	l.startByToken(trust, token, 2)
	l.Wait("three members are one cluster", 2*healthyLimit, func() error {
		r := l.Run(clientHost, "etcdctl", "--endpoints", "http://127.0.0.1:13790,http://127.0.0.1:13791,http://127.0.0.1:13792", "endpoint", "health")
		if r.Code != 0 {
			return errorf("%v", r)
		}
		if list := l.Run(clientHost, "etcdctl", "--endpoints", "http://127.0.0.1:13790", "member", "list"); strings.Count(list.Stdout, "started") != 3 {
			return errorf("%v", list)
		}
		return nil
	})
	l.Start("infra0")
	l.WaitHealthy()
	l.tokensByReload(t)
}

// tokensByReload: the block goes and comes with a reload, and a port that is taken is a problem that passes.
func (l *Lab) tokensByReload(t *testing.T) {
	t.Helper()
	reload := func(from, to string) {
		l.EditCorefile("infra1", func(text string) string { return strings.Replace(text, from, to, 1) })
		l.Signal("infra1", syscall.SIGHUP)
	}
	reload("discovery\n", "\n")
	at := net.JoinHostPort(l.Addr("infra1"), "8087")
	l.Wait("the port is closed", healthyLimit, func() error {
		if conn, err := l.dialClient(at); err == nil {
			_ = conn.Close()
			return errorf("it is open")
		}
		return nil
	})
	held := l.holdPort("infra1", "8087")
	reload("etcdsrv {\n", "etcdsrv {\n        discovery {\n            tls off\n        }\n")
	l.WaitStatus("infra1", "problems", "discovery: listen tcp "+at)
	_ = held.Close()
	l.WaitHealthy()
	if r := l.Run(clientHost, "curl", "-fsS", "http://"+at+"/new?size=1"); !strings.HasPrefix(r.Stdout, "http://"+l.Domain+":8087/") {
		t.Errorf("without TLS: %v", r)
	}
}

// newToken makes a token for three members at a service.
func (l *Lab) newToken(trust, service string) (token string) {
	l.t.Helper()
	l.Wait("a token", healthyLimit, func() error {
		r := l.Run(clientHost, "env", trust, l.bin(), "discovery", "new", "--size", "3", "--url", service)
		token = strings.TrimSpace(r.Stdout)
		return r.Err()
	})
	return token
}

// startByToken starts members of a cluster of somebody else's on the client host.
func (l *Lab) startByToken(trust, token string, numbers ...int) {
	l.t.Helper()
	for _, n := range numbers {
		peer, client := fmt.Sprintf("http://127.0.0.1:%d", 13890+n), fmt.Sprintf("http://127.0.0.1:%d", 13790+n)
		name := fmt.Sprint("guest", n)
		p, err := spawn(l.host(clientHost), name+".log", []string{l.bin(), "etcd", "--name", name, "--data-dir", name + ".etcd", "--discovery", token,
			"--initial-advertise-peer-urls", peer, "--listen-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client}, trust)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() {
			_ = p.cmd.Process.Kill()
			p.ended(10 * time.Second)
		})
	}
}
