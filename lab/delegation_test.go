//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The operator copies the parent's records wrongly: every node sees it by itself and says so, in status and in the
// metric, and falls silent when it is mended.
func TestParentWatch(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	first := l.node("infra0")
	good := l.Must(clientHost, l.bin(), "delegation", "--offline", "--corefile", filepath.Join(first.dir, "Corefile"), "--name", first.name)
	l.writeDelegation(strings.Replace(good, "10.0.1.12", "10.0.1.99", 1))
	l.reloadParent()
	l.StartAll()
	l.WaitHealthy()
	for _, name := range l.names {
		l.WaitStatus(name, "zone.parent.verdict", "differs")
		l.WaitStatus(name, "warnings", "publish infra2.rack1.example.com. 3600 IN A 10.0.1.12 at ns.example.com. (10.0.0.53); withdraw infra2.rack1.example.com. 3600 IN A 10.0.1.99")
		l.wantMetric(name, "0")
		if r := l.Tool(name, "status"); r.Code != 0 { // a warning is no problem: what answers, answers
			t.Errorf("status fails for a warning: %v", r)
		}
	}
	r := l.Tool("infra0", "delegation")
	for _, want := range []string{"etcd-dns: publish infra2.rack1.example.com. 3600 IN A 10.0.1.12 at ns.example.com. (10.0.0.53)", "etcd-dns: withdraw infra2.rack1.example.com. 3600 IN A 10.0.1.99",
		"etcd-dns: error: the parent example.com. differs in 2 records", "etcd-dns: hint: etcd-dns delegation apply"} {
		if r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("delegation does not say %q: %v", want, r)
		}
	}

	l.writeDelegation(good)
	l.reloadParent()
	for _, name := range l.names {
		l.Signal(name, syscall.SIGHUP) // a reload asks at once, and not after five minutes
		l.WaitStatus(name, "zone.parent.verdict", "agrees")
		l.wantMetric(name, "1")
		if got := l.StatusText(name, "warnings"); strings.Contains(got, "parent") {
			t.Errorf("%s still warns: %s", name, got)
		}
	}
	if r := l.Tool("infra0", "delegation"); r.Code != 0 || !strings.Contains(r.Stderr, "the parent example.com. delegates as wanted") {
		t.Errorf("delegation: %v", r)
	}
}

// wantMetric waits for a value of the metric of the parent's verdict at a node.
func (l *Lab) wantMetric(name, value string) {
	l.t.Helper()
	want := fmt.Sprintf("\ncoredns_etcdsrv_parent_agrees{zone=\"%s.\"} %s\n", l.Domain, value)
	l.Wait(name+" has the metric at "+value, 10*time.Second, func() error {
		text, err := l.metrics(name)
		if err == nil && !strings.Contains(text, want) {
			err = fmt.Errorf("want %q", want)
		}
		return err
	})
}

// metrics is the page that a node's prometheus plugin serves on its loopback interface.
func (l *Lab) metrics(name string) (string, error) {
	client := &http.Client{Timeout: queryLimit * 5, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
			err = inNetns(l.host(name).ns, func() error {
				conn, err = net.DialTimeout(network, addr, queryLimit)
				return err
			})
			return conn, err
		}}}
	resp, err := client.Get("http://127.0.0.1:9153/metrics")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

const (
	updateKey = "key \"update.example.com\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=\";\n};\n"
	namedConf = `include "%[1]s/update.key";
options {
  directory "%[1]s";
  pid-file none;
  session-keyfile none;
  managed-keys-directory "%[1]s";
  listen-on { 10.0.0.53; };
  listen-on-v6 { none; };
  recursion no;
  dnssec-validation no;
};
controls { };
zone "." { type primary; file "root.zone"; };
zone "example.com" {
  type primary;
  file "dynamic.zone";
  update-policy { grant update.example.com subdomain rack1.example.com ANY; };
};
`
)

// dynamicParent puts BIND, which takes updates, into the place of NSD, with no delegation in example.com.
func (l *Lab) dynamicParent() {
	l.t.Helper()
	h := l.host(parentHost)
	if err := l.parent.cmd.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	<-l.parent.done
	l.write(h, "update.key", updateKey)
	l.write(h, "named.conf", fmt.Sprintf(namedConf, h.dir))
	l.write(h, "dynamic.zone", fmt.Sprintf(exampleZone, l.serial+1))
	l.parent = l.daemon(h, "named", "-g", "-n", "1", "-c", filepath.Join(h.dir, "named.conf"))
	l.Wait("BIND answers", 20*time.Second, func() error {
		m, err := l.Query(clientHost, l.Addr(parentHost), "example.com", dns.TypeSOA)
		if err == nil && len(m.Answer) != 1 {
			err = errors.New(m.String())
		}
		return err
	})
}

// delegation apply makes the delegation in an empty parent, is idempotent, mends it after the rack has changed, and
// leaves everything alone when it may not.
func TestDelegationApply(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	l.dynamicParent()
	l.Start("infra0")
	l.Wait("infra0 answers", healthyLimit, func() error { _, err := l.Status("infra0"); return err })
	key := filepath.Join(l.host(parentHost).dir, "update.key")
	apply := func(args ...string) Result {
		t.Helper()
		return l.Tool("infra0", append([]string{"delegation", "apply", "--key-file", key}, args...)...)
	}
	if r := apply(); r.Code != 1 || !strings.Contains(r.Stderr, "there is no terminal to ask at") || !strings.Contains(r.Stdout, "publish rack1.example.com. 3600 IN NS infra0.rack1.example.com.") {
		t.Fatalf("without --yes: %v", r)
	}
	if got := l.Ask(clientHost, l.Addr(parentHost), l.Domain, dns.TypeNS); got != "NXDOMAIN" {
		t.Errorf("the parent was changed without --yes: %s", got)
	}
	if r := apply("--yes"); r.Code != 0 || !strings.Contains(r.Stderr, "the parent example.com. delegates as wanted") {
		t.Fatalf("apply: %v", r)
	}
	if r := l.Tool("infra0", "delegation"); r.Code != 0 {
		t.Errorf("delegation after apply: %v", r)
	}
	l.Wait("a resolver finds the rack", 20*time.Second, func() error {
		l.Flush()
		if got := l.Ask(clientHost, l.Addr(resolverHost), "infra0."+l.Domain, dns.TypeA); got != l.Addr("infra0") {
			return errors.New(got)
		}
		return nil
	})
	if r := apply(); r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "nothing to change") {
		t.Errorf("apply a second time: %v", r)
	}

	// A node moves: the old address goes, the new one comes, and nothing else.
	l.EditCorefile("infra0", func(s string) string { return strings.Replace(s, "10.0.1.12", "10.0.1.22", 1) })
	r := apply("--yes", "--server", l.Addr(parentHost))
	if r.Code != 0 || strings.Count(r.Stdout, "\n") != 2 || !strings.Contains(r.Stdout, "publish infra2.rack1.example.com. 3600 IN A 10.0.1.22") ||
		!strings.Contains(r.Stdout, "withdraw infra2.rack1.example.com. 3600 IN A 10.0.1.12") {
		t.Errorf("apply after a move: %v", r)
	}

	// The wrong key, and the wrong server.
	if err := os.WriteFile(key, []byte(strings.Replace(updateKey, "c2Vj", "d3Jv", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.EditCorefile("infra0", func(s string) string { return strings.Replace(s, "10.0.1.22", "10.0.1.12", 1) })
	if r := apply("--yes"); r.Code != 1 || !strings.Contains(r.Stderr, "BADSIG") || !strings.Contains(r.Stderr, "hint: the secrets differ") {
		t.Errorf("with a wrong key: %v", r)
	}
	if r := apply("--yes", "--server", l.Addr("infra0")); r.Code != 1 || !strings.Contains(r.Stderr, "error: ") || !strings.Contains(r.Stderr, "hint: ") {
		t.Errorf("at a server that is no parent: %v", r)
	}
}
