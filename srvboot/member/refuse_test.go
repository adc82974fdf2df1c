package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestRefusals: what must not start does not, says why, and leaves no write-ahead log behind.
func TestRefusals(t *testing.T) {
	type launchChange func(r *rack, l *srvboot.Launch, o *Options)
	tests := map[string]struct {
		change   launchChange
		reason   string
		identity bool
	}{
		"another cluster ID": {
			change:   func(_ *rack, l *srvboot.Launch, _ *Options) { l.ClusterID = "00000000deadbeef" },
			reason:   "expected 00000000deadbeef",
			identity: true,
		},
		"another member ID": {
			change:   func(_ *rack, l *srvboot.Launch, _ *Options) { l.MemberID = "00000000deadbeef" },
			reason:   "expected 00000000deadbeef",
			identity: true,
		},
		"another token": {
			change:   func(_ *rack, l *srvboot.Launch, _ *Options) { l.Token = "stale" },
			reason:   "gives cluster ID",
			identity: true,
		},
		"a part of the SRV set": {
			change: func(r *rack, l *srvboot.Launch, o *Options) {
				o.View = func(srvboot.Launch) (View, error) { return ViewOf(l.Members[:2], r.roster(), "") }
			},
			reason:   "gives cluster ID",
			identity: true,
		},
		"a target without address": {
			change: func(r *rack, l *srvboot.Launch, o *Options) {
				o.View = func(srvboot.Launch) (View, error) {
					v, err := ViewOf(l.Members, r.roster(), "")
					delete(v.Hosts, "infra2."+testDomain) // etcd skips such a target silently
					return v, err
				}
			},
			reason: "infra2.rack1.example.com has no address",
		},
		"no SRV record": {
			change: func(r *rack, _ *srvboot.Launch, o *Options) {
				o.View = func(srvboot.Launch) (View, error) { return ViewOf(nil, r.roster(), "") }
			},
			reason: "no such host",
		},
		"own name missing": {
			change: func(r *rack, l *srvboot.Launch, o *Options) {
				o.View = func(srvboot.Launch) (View, error) { return ViewOf(l.Members[1:], r.roster(), "") }
			},
			reason: `cannot find local etcd member "infra0" in SRV records`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRack(t, rackOptions{nodes: 3, plain: true})
			n := r.nodes[0]
			launch := r.launch(n)
			l := r.launcher(n, func(o *Options) { test.change(r, &launch, o) })
			e := r.awaitDeath(r.start(l, launch))
			if !strings.Contains(e.Error(), test.reason) {
				t.Errorf("reason %q does not contain %q", e, test.reason)
			}
			if e.WrongIdentity() != test.identity || e.Removed() {
				t.Errorf("WrongIdentity() = %v, Removed() = %v; want %v, false", e.WrongIdentity(), e.Removed(), test.identity)
			}
			noWAL(t, n)
		})
	}
}

func noWAL(t *testing.T, n *testNode) {
	t.Helper()
	if found, _ := filepath.Glob(filepath.Join(n.dir, "member", "wal*")); len(found) > 0 {
		t.Errorf("a refused start left %v", found)
	}
}

// TestRefusesForeignData: data under other IDs, a database without its log, and data where none should be.
func TestRefusesForeignData(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	l := r.launcher(n)
	p := r.start(l, r.launch(n))
	r.await(p, "healthy", r.healthy)
	stopNow(t, p)

	again := r.launch(n)
	if e := r.awaitDeath(r.start(l, again)); !e.WrongIdentity() || !strings.Contains(e.Reason, "told to start as new") {
		t.Errorf("new on data: %v", e)
	}
	again.New = false
	other := again
	other.MemberID = "00000000deadbeef"
	if e := r.awaitDeath(r.start(l, other)); !e.WrongIdentity() || !strings.Contains(e.Reason, r.ids[n.name]) {
		t.Errorf("data of another member: %v", e)
	}
	// safety.md C1: the log is gone, the database is left.
	wal := filepath.Join(n.dir, "member", "wal")
	if err := os.Rename(wal, wal+".gone"); err != nil {
		t.Fatal(err)
	}
	if e := r.awaitDeath(r.start(l, r.launch(n))); !e.WrongIdentity() || !strings.Contains(e.Reason, "no write-ahead log") {
		t.Errorf("database without a log: %v", e)
	}
	if err := os.Rename(wal+".gone", wal); err != nil {
		t.Fatal(err)
	}
	r.await(r.start(l, again), "healthy on its own data", r.healthy)
}

// TestShadowedName: /etc/hosts or nsswitch.conf may resolve a name before we are asked. Here the view itself is made
// to disagree with what the spec expects, which the child cannot tell apart.
func TestShadowedName(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 2, plain: true})
	c := &child{spec: r.spec(r.nodes[0])}
	c.spec.Hosts = map[string][]netip.Addr{"localhost": {netip.MustParseAddr("192.0.2.1")}}
	err := c.checkHosts(t.Context())
	var f *failure
	if !errors.As(err, &f) || !strings.Contains(f.hint, "remove localhost from /etc/hosts") {
		t.Errorf("checkHosts = %v, want a hint to remove localhost", err)
	}
	// The own name is compared with itself only, so it may be shadowed.
	c.spec.AdvertisePeer = []string{"http://localhost:2380"}
	if err := c.checkHosts(t.Context()); err != nil {
		t.Errorf("the own name: %v", err)
	}
	c.spec.AdvertisePeer = nil
	c.spec.Hosts["localhost"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if got, err := net.LookupHost("localhost"); err == nil && len(got) == 1 {
		if err := c.checkHosts(t.Context()); err != nil {
			t.Errorf("a name that resolves as it should: %v", err)
		}
	}
}

// TestFatalReasons: the parent learns the reason when etcd cannot go on.
func TestFatalReasons(t *testing.T) {
	tests := map[string]struct {
		arrange func(t *testing.T, r *rack, s *Spec)
		reason  string
	}{
		"peer port in use": {
			func(t *testing.T, r *rack, s *Spec) { occupy(t, s.ListenPeer[0]) }, "address already in use",
		},
		"client port in use": {
			func(t *testing.T, r *rack, s *Spec) { occupy(t, s.ListenClient[0]) }, "address already in use",
		},
		"data directory is a file": {
			func(t *testing.T, r *rack, s *Spec) {
				if err := os.WriteFile(s.DataDir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "not a directory",
		},
		"etcd calls Fatal": {
			func(t *testing.T, r *rack, s *Spec) {
				if err := os.MkdirAll(filepath.Join(s.DataDir, "member"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(s.DataDir, "member", "snap"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "failed to create snapshot directory: open ",
		},
		"certificate missing": {
			func(t *testing.T, r *rack, s *Spec) { s.TLS.PeerCert += ".gone" }, "no such file",
		},
		"timing refused": {
			func(t *testing.T, r *rack, s *Spec) { s.ElectionMs = s.HeartbeatMs }, "--election-timeout",
		},
		"a foreign address": {
			func(t *testing.T, r *rack, s *Spec) { s.ListenPeer = []string{"https://192.0.2.1:2380"} }, "cannot assign requested address",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRack(t, rackOptions{nodes: 1})
			n := r.nodes[0]
			spec := r.spec(n)
			test.arrange(t, r, &spec)
			l := r.launcher(n, func(o *Options) { o.Base = func() Spec { return spec } })
			e := r.awaitDeath(r.start(l, r.launch(n)))
			if !strings.Contains(e.Error(), test.reason) {
				t.Errorf("reason %q does not contain %q", e, test.reason)
			}
			if e.WrongIdentity() {
				t.Errorf("%v counts as a wrong identity, which would set data aside", e)
			}
		})
	}
}

func occupy(t *testing.T, raw string) {
	t.Helper()
	_, addr, _ := strings.Cut(raw, "://")
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestCorruptLog: a damaged write-ahead log is named as such.
func TestCorruptLog(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	l := r.launcher(n)
	p := r.start(l, r.launch(n))
	r.await(p, "healthy", r.healthy)
	stopNow(t, p)
	segments, _ := filepath.Glob(filepath.Join(n.dir, "member", "wal", "*.wal"))
	f, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const behindTheHead = 200
	if _, err := f.WriteAt([]byte(strings.Repeat("\xff", 64)), behindTheHead); err != nil {
		t.Fatal(err)
	}
	f.Close()
	restart := r.launch(n)
	restart.New = false
	e := r.awaitDeath(r.start(l, restart))
	if !strings.Contains(e.Reason, "crc mismatch") || e.WrongIdentity() || e.Hint() != "" {
		t.Errorf("reason %q, WrongIdentity() = %v, Hint() = %q; want crc mismatch, false and none", e.Reason, e.WrongIdentity(), e.Hint())
	}
}

// TestOnStart: a process whose number cannot be recorded must not run; the caller could not kill it after a crash.
func TestOnStart(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	var pid int
	full := errors.New("no space left on device")
	l := r.launcher(n, func(o *Options) { o.OnStart = func(p int) error { pid = p; return full } })
	if _, err := l.Start(t.Context(), r.launch(n)); !errors.Is(err, full) {
		t.Errorf("Start = %v, want %v", err, full)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !os.IsNotExist(err) {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
	noWAL(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	ok := r.launcher(n, func(o *Options) { o.OnStart = func(p int) error { pid = p; return nil } })
	m, err := ok.Start(ctx, r.launch(n))
	if err != nil {
		t.Fatal(err)
	}
	p := m.(*Process)
	if p.PID() != pid {
		t.Errorf("OnStart got %d, the process is %d", pid, p.PID())
	}
	r.await(p, "healthy", r.healthy)
	cancel() // the member stops when Start's context ends
	select {
	case <-p.Done():
	case <-time.After(killAfter + time.Second):
		t.Error("the member outlived the context of Start")
	}
	if p.Err() != nil {
		t.Errorf("Err() = %v after its context ended, want nil", p.Err())
	}
}
