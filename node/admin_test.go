package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// fakeBoot answers as a node of its name, or as whom it is told to be.
type fakeBoot struct {
	state srvboot.State
	from  chan string
}

func (f fakeBoot) HandleState(from string, _ srvboot.News) srvboot.State {
	f.from <- from
	return f.state
}

func (f fakeBoot) HandlePrepare(_ context.Context, from string, req srvboot.Prepare) (srvboot.Reply, error) {
	f.from <- from
	return srvboot.Reply{OK: req.Ballot.N == 7, State: f.state}, nil
}

func (f fakeBoot) HandleAccept(context.Context, string, srvboot.Accept) (srvboot.Reply, error) {
	return srvboot.Reply{}, errors.New("the disk is full")
}

func newTestBundle(t testing.TB) *certs.Bundle {
	t.Helper()
	b, _, err := certs.NewBundle(certs.InitOptions{Domain: "rack1.example.com", Names: map[string][]string{"": {"infra0", "infra1"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newTestCerts issues a node's certificates.
func newTestCerts(t testing.TB, b *certs.Bundle, node string) *certs.Manager {
	t.Helper()
	m := certs.NewManager(certs.Options{Bundle: b, Node: node, Dir: t.TempDir(), Addrs: func() []netip.Addr { return nil }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-m.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("no certificates within 30 s")
	}
	return m
}

// A node is looked for at all addresses where it may be, past whoever else is at one by now.
func TestPeersLookFurther(t *testing.T) {
	ours := newTestBundle(t)
	const port = 2378
	places := addrList("127.0.98.9", "127.0.98.10", "127.0.98.11") // nobody, infra5, infra0
	for at, name := range map[netip.Addr]string{places[1]: "infra5", places[2]: "infra0"} {
		boot := fakeBoot{state: srvboot.State{Format: srvboot.Format, Bundle: ours.ID(), Node: name}, from: make(chan string, 1000)}
		a := &admin{bundle: ours.ID(), tls: newTestCerts(t, ours, name).AdminServerTLS(), boot: boot, hear: func(string, srvboot.News) {}, log: zap.NewNop()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.serve(ctx, []netip.Addr{at}, port) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	p := &peers{bundle: ours.ID(), port: port, addrs: func(string) []netip.Addr { return places }, tls: newTestCerts(t, ours, "infra1").AdminClientTLS}
	t.Cleanup(func() { p.forget("") })
	for _, name := range []string{"infra0", "infra5"} {
		s, err := p.State(t.Context(), name)
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); { // until the ports are open
			s, err = p.State(t.Context(), name)
		}
		if err != nil || s.Node != name {
			t.Errorf("%s: got %q, %v", name, s.Node, err)
		}
		p.forget(name)
	}
	if _, err := p.State(t.Context(), "infra2"); err == nil || !strings.Contains(err.Error(), "127.0.98.11") {
		t.Errorf("infra2 is nowhere, and it says %v", err)
	}
}

// The admin port knows who asks, believes only this bundle's nodes, and a caller believes only the node it asked.
func TestAdminPort(t *testing.T) {
	ours, theirs := newTestBundle(t), newTestBundle(t)
	at := netip.MustParseAddr("127.0.99.10")
	const port = 2378
	boot := fakeBoot{state: srvboot.State{Format: srvboot.Format, Bundle: ours.ID(), Node: "infra0", Corefile: "c0"}, from: make(chan string, 10)}
	serve := func(b fakeBoot, at netip.Addr) {
		a := &admin{bundle: ours.ID(), tls: newTestCerts(t, ours, "infra0").AdminServerTLS(), boot: b, hear: func(string, srvboot.News) {}, log: zap.NewNop(),
			lines: func() []string { return []string{"ttl 60s"} }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.serve(ctx, []netip.Addr{at}, port) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	serve(boot, at)
	caller := func(b *certs.Bundle, at netip.Addr) *peers {
		p := &peers{bundle: ours.ID(), port: port, addrs: func(string) []netip.Addr { return []netip.Addr{at} }, tls: newTestCerts(t, b, "infra1").AdminClientTLS}
		t.Cleanup(func() { p.forget("") })
		return p
	}
	good := caller(ours, at)
	s, err := good.State(t.Context(), "infra0")
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); { // until the port is open
		s, err = good.State(t.Context(), "infra0")
	}
	if err != nil || s.Node != "infra0" {
		t.Fatalf("got %+v, %v", s, err)
	}
	if from := <-boot.from; from != "infra1" {
		t.Errorf("the caller is %q, want infra1", from)
	}
	// An attempt to connect that failed late, beside one that did not, is forgotten with the next answer.
	good.met("infra0", errors.New("i/o timeout"))
	if _, err := good.DNSSEC(t.Context(), "infra0"); err == nil || err.Error() != "i/o timeout" {
		t.Errorf("DNSSEC of a node that was not met: %v", err)
	}
	if _, err := good.State(t.Context(), "infra0"); err != nil || good.unmet["infra0"] != nil {
		t.Errorf("after an answer: %v, and the node counts as not met: %v", err, good.unmet["infra0"])
	}
	<-boot.from
	for own, want := range map[string]int{"c0": 0, "c1": 1} { // who has another Corefile is told what differs
		good.corefile = func() string { return own }
		if s, err := good.State(t.Context(), "infra0"); err != nil || len(s.Lines) != want {
			t.Errorf("with Corefile %s: lines %q, %v, want %d", own, s.Lines, err, want)
		}
		<-boot.from
	}
	if r, err := good.Prepare(t.Context(), "infra0", srvboot.Prepare{Format: srvboot.Format, Ballot: srvboot.Ballot{N: 7}}); err != nil || !r.OK {
		t.Errorf("prepare: got %+v, %v; want what the other side decoded", r, err)
	}
	if _, err := good.Accept(t.Context(), "infra0", srvboot.Accept{}); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("accept: got %v, want the other side's reason", err)
	}
	isStranger := func(err error, who string) bool {
		var s interface{ Stranger() bool }
		return errors.As(err, &s) && s.Stranger() && strings.Contains(err.Error(), who)
	}
	if _, err := good.State(t.Context(), "infra1"); !isStranger(err, "infra0") {
		t.Errorf("infra0's certificate for infra1's: %v", err)
	}
	if _, err := caller(theirs, at).State(t.Context(), "infra0"); !isStranger(err, "another bundle") {
		t.Errorf("a node of another bundle: %v", err)
	}
	if len(boot.from) != 1 { // the Prepare's
		t.Errorf("%d further calls reached the node, want 1", len(boot.from))
	}
	other := netip.MustParseAddr("127.0.99.11")
	for i, state := range []srvboot.State{
		{Format: srvboot.Format, Bundle: ours.ID(), Node: "infra7"},
		{Format: srvboot.Format, Bundle: theirs.ID(), Node: "infra0"},
		{Format: srvboot.Format + 1, Bundle: ours.ID(), Node: "infra0"},
	} {
		other = other.Next()
		serve(fakeBoot{state: state, from: make(chan string, 1000)}, other)
		p := caller(ours, other)
		_, err := p.State(t.Context(), "infra0")
		for end := time.Now().Add(10 * time.Second); err != nil && strings.Contains(fmt.Sprint(err), "refused") && time.Now().Before(end); {
			_, err = p.State(t.Context(), "infra0")
		}
		if err == nil || strings.Contains(fmt.Sprint(err), "refused") {
			t.Errorf("state %d: got %v, want an error that says what was expected", i, err)
		}
	}
}

func TestSocketInADeepDirectory(t *testing.T) {
	path := t.TempDir() + strings.Repeat("/"+strings.Repeat("d", 60), 4) + "/run/admin.sock"
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := dialSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func (f fakeBoot) HandleOrder(context.Context, srvboot.Order) (srvboot.OrderReply, error) {
	return srvboot.OrderReply{Done: true, Text: "done at " + f.state.Node}, nil
}

func (f fakeBoot) HandleBirthOrder(_ context.Context, from string, _ srvboot.BirthOrder) (srvboot.Reply, error) {
	f.from <- from
	return srvboot.Reply{}, nil
}
