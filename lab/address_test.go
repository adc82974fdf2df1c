//go:build linux

package lab

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A node whose address is not up yet, as with a bond or DHCP, waits for it and says so, and then starts as ever.
func TestAddressComesLater(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	const device = "eth0"
	addr := l.Addr("infra0") + "/32"
	l.Must("infra0", "ip", "address", "delete", addr, "dev", device)
	l.StartAll()
	l.Wait("infra0 to say what it waits for", 30*time.Second, func() error {
		if log := l.Log("infra0"); !strings.Contains(log, "waiting for addresses") || !strings.Contains(log, l.Addr("infra0")) {
			return errorf("its log says\n%s", log)
		}
		return nil
	})
	l.WaitStatus("infra1", "waiting", "infra0")
	if err := l.NoMembers(); err != nil {
		t.Error(err)
	}
	l.Must("infra0", "ip", "address", "add", addr, "dev", device)
	l.Must("infra0", "ip", "route", "replace", "default", "via", "169.254.0.1", "dev", device, "onlink")
	l.WaitHealthy()
	l.OneCluster()
}

// fromTheNetwork leaves the addresses of some nodes out of every Corefile.
func fromTheNetwork(names ...string) func(string, string) string {
	return func(_, corefile string) string {
		var b strings.Builder
		for line := range strings.Lines(corefile) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "node" && slices.Contains(names, f[1]) {
				line = line[:strings.Index(line, f[1])] + f[1] + "\n"
			}
			b.WriteString(line)
		}
		return b.String()
	}
}

// A node that has its address from the network gets another one, while it runs and while it is down. Every node publishes it,
// the node's certificate holds it, it answers there, nothing but etcd's own connections ends, and no write is lost.
func TestAddressByGossip(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Edit: fromTheNetwork("infra2")})
	l.StartAll()
	l.WaitHealthy()
	before, member := l.memberIDs("infra0"), l.MemberPID("infra2")
	w := l.keepWriting()

	moved := time.Now()
	l.move("infra2", "10.0.1.77")
	l.waitAt("infra2", moved)
	if now := l.MemberPID("infra2"); now != member {
		t.Errorf("its member was restarted: process %d, was %d", now, member)
	}

	l.Kill("infra2")
	l.move("infra2", "10.0.1.78")
	moved = time.Now()
	l.Start("infra2")
	l.waitAt("infra2", moved)

	if after := l.memberIDs("infra0"); !maps.Equal(before, after) {
		t.Errorf("the members were %x and are %x", before, after)
	}
	w.check("infra2")
	l.OneCluster()
}

// Two nodes that have their addresses from the network come back with each other's. Nobody takes one for the other.
func TestAddressSwap(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Edit: fromTheNetwork("infra1", "infra2")})
	l.StartAll()
	l.WaitHealthy()
	l.Put("kept", "1")
	before := l.memberIDs("infra0")
	one, two := l.Addr("infra1"), l.Addr("infra2")
	l.Kill("infra1", "infra2")
	l.move("infra1", "10.0.1.77")
	l.move("infra2", one)
	l.move("infra1", two)

	moved := time.Now()
	l.Start("infra1")
	l.Wait("infra0 knows infra1 where infra2 was", healthyLimit, func() error {
		if got := l.Ask(clientHost, l.Addr("infra0"), "infra1."+l.Domain, dns.TypeA); got != two {
			return errorf("%s", got)
		}
		return nil
	})
	l.Wait("infra0 knows that infra2 is not there any more, and not where it is", healthyLimit, func() error {
		if got := l.Ask(clientHost, l.Addr("infra0"), "infra2."+l.Domain, dns.TypeA); got != "SERVFAIL" {
			return errorf("%s", got)
		}
		return nil
	})
	l.Put("with two", "2")
	l.Start("infra2")
	l.waitAt("infra1", moved)
	l.waitAt("infra2", moved)
	if after := l.memberIDs("infra0"); !maps.Equal(before, after) {
		t.Errorf("the members were %x and are %x", before, after)
	}
	for _, n := range l.Names() {
		l.GetAt(n, "kept", "1")
		l.GetAt(n, "with two", "2")
	}
	l.OneCluster()
}

// waitAt waits until every node publishes a node's address, the node answers there, its certificate holds it, and all is well,
// and logs how long after a moment each was so.
func (l *Lab) waitAt(name string, since time.Time) {
	l.t.Helper()
	at := l.Addr(name)
	var took []string
	note := func(what string) { took = append(took, fmt.Sprintf("%s %.1f s", what, time.Since(since).Seconds())) }
	for _, n := range l.Names() {
		l.Wait(n+" publishes "+at, healthyLimit, func() error {
			a := l.Ask(clientHost, l.Addr(n), name+"."+l.Domain, dns.TypeA)
			srv := l.Ask(clientHost, l.Addr(n), "_etcd-server-ssl._tcp."+l.Domain, dns.TypeSRV)
			if a != at || strings.Count(srv, ",") != len(l.Names())-1 {
				return errorf("A %s, SRV %s", a, srv)
			}
			return nil
		})
		note(n)
	}
	l.Wait("its certificate holds "+at, healthyLimit, func() error {
		text, err := os.ReadFile(filepath.Join(l.node(name).data(), "certs", "peer.crt"))
		if err != nil {
			return err
		}
		block, _ := pem.Decode(text)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		return cert.VerifyHostname(at)
	})
	note("certificate")
	l.Wait("etcd answers at "+at, healthyLimit, func() error { return l.At(name, "get", "any").Err() })
	note("etcd")
	l.WaitHealthy()
	note("all well")
	l.t.Logf("%s at %s: %s", name, at, strings.Join(took, ", "))
}

// keptWrites are keys that were acknowledged one after the other.
type keptWrites struct {
	l    *Lab
	stop context.CancelFunc
	// done is closed when n counts.
	done chan struct{}
	n    int
}

// keepWriting writes keys through SRV discovery, one after the other, until check or the end of the test.
func (l *Lab) keepWriting() *keptWrites {
	ctx, stop := context.WithCancel(context.Background())
	w := &keptWrites{l: l, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			if l.Etcdctl("put", fmt.Sprintf("kept/%04d", w.n), "v").Err() == nil {
				w.n++
			}
		}
	}()
	l.t.Cleanup(func() {
		stop()
		<-w.done
	})
	return w
}

// check ends the writing, and wants every acknowledged key in a node's own data.
func (w *keptWrites) check(name string) {
	w.l.t.Helper()
	w.stop()
	<-w.done
	n := w.n
	w.l.t.Logf("%d writes were acknowledged", n)
	w.l.Wait("every acknowledged write at "+name, 30*time.Second, func() error {
		r := w.l.At(name, "get", "kept/", "--prefix", "--keys-only", "--consistency=s")
		for i := range n {
			if key := fmt.Sprintf("kept/%04d\n", i); r.Err() == nil && !strings.Contains(r.Stdout, key) {
				return errorf("%s is lost", key)
			}
		}
		return r.Err()
	})
}
