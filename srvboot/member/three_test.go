package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// boot starts all nodes' members and waits until they serve.
func (r *rack) boot() ([]*Launcher, []*Process) {
	r.t.Helper()
	ls := r.launchers()
	ps := r.startAll(ls)
	r.awaitAll(ps)
	return ls, ps
}

// launchers is one for each node.
func (r *rack) launchers() (ls []*Launcher) {
	for _, n := range r.nodes {
		ls = append(ls, r.launcher(n))
	}
	return ls
}

// startAll starts all members at once: the first serves before the others open their ports (safety.md T5), or this
// would stall for a second. Launchers may be warm already.
func (r *rack) startAll(ls []*Launcher) []*Process {
	ps := make([]*Process, len(r.nodes))
	for i := range r.nodes {
		ps[i] = r.start(ls[i], r.launch(r.nodes[i]))
	}
	return ps
}

func (r *rack) awaitAll(ps []*Process) {
	var wg sync.WaitGroup
	for _, p := range ps {
		wg.Go(func() {
			late := time.After(patience)
			for {
				if s, ok := p.State(); ok && r.healthy(s) {
					return
				}
				select {
				case <-p.Changed():
				case <-p.Done():
					r.t.Errorf("a member ended: %v", p.Err())
					return
				case <-late:
					s, _ := p.State()
					r.t.Errorf("not healthy within %v: %+v", patience, s)
					return
				}
			}
		})
	}
	wg.Wait()
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// TestThreeMembers is a birth by SRV, then a death by signal, a restart on data, and a clean stop.
func TestThreeMembers(t *testing.T) {
	// A proxy that would swallow everything: members that reach each other did not use it.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:9")
	t.Setenv("https_proxy", "http://127.0.0.1:9")
	r := newRack(t, rackOptions{nodes: 3})
	ls := r.launchers()
	began := time.Now()
	ps := r.startAll(ls)
	r.awaitAll(ps)
	t.Logf("three members healthy after %v", time.Since(began))
	for i, p := range ps {
		s, _ := p.State()
		if n := r.nodes[i]; s.ID != r.ids[n.name] || s.ClusterID != r.genesis.ClusterID {
			t.Errorf("%s has IDs %s/%s, want %s/%s", n.name, s.ClusterID, s.ID, r.genesis.ClusterID, r.ids[n.name])
		}
	}
	c := r.client(r.nodes[1])
	r.put(c, "before", "1")

	if err := ps[2].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if e := r.awaitDeath(ps[2]); e.Status != "signal: killed (9)" || e.Reason != "" {
		t.Errorf("status %q, reason %q; want the signal and no reason", e.Status, e.Reason)
	}
	r.put(c, "between", "2")

	again := r.launch(r.nodes[2])
	again.New = false
	p := r.start(ls[2], again)
	if s := r.await(p, "healthy again", r.healthy); s.ID != r.ids["infra2"] {
		t.Errorf("restarted as %s, want %s", s.ID, r.ids["infra2"])
	}
	if got := r.get(r.client(r.nodes[2]), "between"); got != "2" {
		t.Errorf("after the restart between = %q, want 2", got)
	}
	if r.nodes[2].logs.FilterMessage("starting initial corruption check").Len() != 1 {
		t.Error("with all peers up a restart should compare hashes first")
	}
	stopTwice(t, p)
	if p.Err() != nil {
		t.Errorf("Err() after Stop = %v, want nil", p.Err())
	}
	stopNow(t, ps[0])
	r.await(ps[1], "aware of the lost quorum", func(s srvboot.MemberState) bool { return !s.Serving })
}

// TestPowerCut: all die at once and come back at once; nobody waits for anybody's hash.
func TestPowerCut(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 3})
	ls, ps := r.boot()
	r.put(r.client(r.nodes[0]), "k", "v")
	for _, p := range ps {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for i, p := range ps {
		r.awaitDeath(p)
		again := r.launch(r.nodes[i])
		again.New = false
		ps[i] = r.start(ls[i], again)
	}
	r.awaitAll(ps)
	t.Logf("three members healthy %v after a power cut", time.Since(began))
	for _, n := range r.nodes {
		if got := r.get(r.client(n), "k"); got != "v" {
			t.Errorf("%s: k = %q, want v", n.name, got)
		}
	}
}

func stopTwice(t *testing.T, p *Process) {
	t.Helper()
	began := time.Now()
	stopNow(t, p)
	stopNow(t, p)
	if d := time.Since(began); d > stopBound {
		t.Errorf("Stop took %v, want less than %v", d, stopBound)
	}
}

// TestStopLosesNothing: what was acknowledged before Stop is there after a restart, open watches or not.
func TestStopLosesNothing(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	l := r.launcher(n)
	p := r.start(l, r.launch(n))
	r.await(p, "healthy", r.healthy)
	c := r.client(n)
	watchCtx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := c.Watch(watchCtx, "k", clientv3.WithPrefix())
	for i := range 50 {
		r.put(c, fmt.Sprintf("k%d", i), "v")
	}
	<-watch
	stopTwice(t, p)
	restart := srvboot.Launch{Token: r.genesis.ID, ClusterID: r.genesis.ClusterID, MemberID: r.ids[n.name], Members: r.genesis.Members}
	r.await(r.start(l, restart), "healthy again", r.healthy)
	fresh := r.client(n)
	for i := range 50 {
		if got := r.get(fresh, fmt.Sprintf("k%d", i)); got != "v" {
			t.Fatalf("k%d = %q after a clean stop, want v", i, got)
		}
	}
}

// TestPeersNeedTheDomain: a certificate of the right CA that lacks the discovery domain is no peer's.
func TestPeersNeedTheDomain(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1})
	n := r.nodes[0]
	r.await(r.start(r.launcher(n), r.launch(n)), "healthy", r.healthy)
	_, u, _ := cutURL(n.peer)
	get := func(cert, key string) error {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: r.ca.pool}, DisableKeepAlives: true,
		}}
		resp, err := client.Get(fmt.Sprintf("https://%s:%s/members", n.addr, u.port))
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(n.tls.PeerCert, n.tls.PeerKey); err != nil {
		t.Errorf("with the domain: %v", err)
	}
	cert, key := r.ca.issueWithout(t, testDomain, leaf{"stranger.example.com", n.addr, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err := get(cert, key); err == nil {
		t.Error("a certificate without the discovery domain was accepted by the peer port")
	}
}
