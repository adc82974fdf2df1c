package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"golang.org/x/sys/unix"
)

func TestFirstIssue(t *testing.T) {
	b, _ := newTestBundle(t)
	dir := filepath.Join(t.TempDir(), "data", "certs")
	r := newRig(t, b, "infra0", dir)
	if r.isReady() {
		t.Fatal("ready before anything was issued")
	}
	r.must()
	if !r.isReady() {
		t.Fatal("not ready")
	}
	want := []string{"ca.crt", "client.crt", "client.key", "peer.crt", "peer.key", "server.crt", "server.key"}
	files := contents(t, dir)
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if files["ca.crt"] != string(b.RootPEM()) {
		t.Error("ca.crt does not hold the roots")
	}
	keys := map[string]bool{}
	for slot, p := range r.pairs() {
		if _, err := tls.LoadX509KeyPair(p[0], p[1]); err != nil {
			t.Errorf("%s: %v", slot, err)
		}
		if fi, err := os.Stat(p[1]); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s key: mode %v %v", slot, fi.Mode(), err)
		}
		keys[files[slot+".key"]] = true
	}
	if len(keys) != 3 {
		t.Error("slots share a key")
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v %v", fi.Mode(), err)
	}
	for i, st := range r.Status() {
		slot := []string{peerSlot, clientSlot, serverSlot}[i]
		c := r.leaf(r.pairs()[slot][0])
		if st.Slot != slot || st.Err != nil || st.Subject != firstName(c) || !slices.Equal(st.SANs, sans(c)) || !st.NotAfter.Equal(c.NotAfter) ||
			!st.NotBefore.Equal(c.NotBefore) || !strings.HasPrefix(st.Issuer, "etcd-dns ") || !st.NextRenewal.After(b.Created().Add(50*day)) || st.NextRenewal.After(b.Created().Add(65*day)) {
			t.Errorf("status %+v", st)
		}
	}
	r.must()
	if !maps.Equal(contents(t, dir), files) {
		t.Error("a second check changed files that were right")
	}
}

// TestRestart: a new run finds the files of the last one and touches nothing.
func TestRestart(t *testing.T) {
	b, _ := newTestBundle(t)
	dir := t.TempDir()
	newRig(t, b, "infra0", dir).must()
	before := contents(t, dir)
	again := newRig(t, b, "infra0", dir).must()
	if !again.isReady() || !maps.Equal(contents(t, dir), before) {
		t.Error("the second run is not ready, or issued anew")
	}
}

// TestRenewalUnderReaders drives a dozen renewals with a set clock while readers load every pair as etcd does at each
// handshake: no read may fail, every certificate must change, no key may.
func TestRenewalUnderReaders(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	keys := map[string][]byte{}
	for slot, p := range r.pairs() {
		keys[slot] = readFile(t, p[1])
	}
	stop := make(chan struct{})
	var reads, torn atomic.Int64
	var wg sync.WaitGroup
	for slot, p := range r.pairs() {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := tls.LoadX509KeyPair(p[0], p[1])
				_, etcdErr := tlsutil.NewCert(p[0], p[1], nil) // as etcd reads it
				if err = errors.Join(err, etcdErr); err != nil {
					torn.Add(1)
					t.Errorf("%s: %v", slot, err)
					return
				}
				reads.Add(2)
			}
		})
	}
	for range 12 {
		before := contents(t, r.opts.Dir)
		r.advance(53 * day) // 53 days and the backdated one are less than 60 % of 91
		r.must()
		if !maps.Equal(contents(t, r.opts.Dir), before) {
			t.Fatal("renewed too early")
		}
		r.advance(10 * day)
		r.must()
		for slot, p := range r.pairs() {
			if bytes.Equal(readFile(t, p[0]), []byte(before[slot+".crt"])) {
				t.Fatalf("%s was not renewed", slot)
			}
			if !bytes.Equal(readFile(t, p[1]), keys[slot]) {
				t.Fatalf("the key of %s changed", slot)
			}
		}
	}
	close(stop)
	wg.Wait()
	if reads.Load() < 100 {
		t.Errorf("only %d reads: this shows nothing", reads.Load())
	}
	t.Logf("%d reads, %d torn", reads.Load(), torn.Load())
}

func TestAddressChange(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	old := map[string][]byte{}
	for slot, p := range r.pairs() {
		old[slot] = readFile(t, p[0])
	}
	r.setAddrs("10.0.1.10", "10.9.9.9")
	r.must()
	for slot, p := range r.pairs() {
		changed := !bytes.Equal(readFile(t, p[0]), old[slot])
		if changed != (slot != clientSlot) {
			t.Errorf("%s re-issued: %v", slot, changed)
		}
	}
	if err := r.leaf(r.Files().PeerCert).VerifyHostname("10.9.9.9"); err != nil {
		t.Error(err)
	}
	r.setAddrs("10.9.9.9", "10.0.1.10", "10.0.1.10")
	peer := readFile(t, r.Files().PeerCert)
	r.must()
	if !bytes.Equal(readFile(t, r.Files().PeerCert), peer) {
		t.Error("the same addresses in another order were issued anew")
	}
	r.setAddrs("10.9.9.9")
	r.must()
	if r.leaf(r.Files().PeerCert).VerifyHostname("10.0.1.10") == nil {
		t.Error("an address that is gone stays in the certificate")
	}
}

// TestRunFollowsPrompts runs the real loop: ready, an address change by Reconcile, an end without leftovers (goleak).
func TestRunFollowsPrompts(t *testing.T) {
	b, _ := newTestBundle(t)
	var addr atomic.Pointer[netip.Addr]
	first, second := netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.1.99")
	addr.Store(&first)
	m := NewManager(Options{Bundle: b, Node: "infra0", Dir: t.TempDir(), CheckEvery: time.Hour,
		Addrs: func() []netip.Addr { return []netip.Addr{*addr.Load()} }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("not ready: %+v", m.Status())
	}
	addr.Store(&second)
	m.Reconcile()
	waitFor(t, func() bool { return slices.Contains(m.Status()[0].SANs, "10.0.1.99") })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRunNoticesClockStep: the wall clock jumps over the renewal date; timers, which are monotonic, would wait.
func TestRunNoticesClockStep(t *testing.T) {
	b, _ := newTestBundle(t)
	var ahead atomic.Int64
	m := NewManager(Options{Bundle: b, Node: "infra0", Dir: t.TempDir(), CheckEvery: 50 * time.Millisecond,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	m.open()
	defer m.close()
	if err := m.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	prompted := make(chan bool, 1)
	go func() { prompted <- m.wait(t.Context(), time.Hour) }()
	ahead.Store(int64(70 * day))
	select {
	case again := <-prompted:
		if !again {
			t.Error("the loop ended")
		}
	case <-time.After(10 * time.Second):
		t.Error("a clock step went unnoticed")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}

func TestCrashLeftoversAndDamage(t *testing.T) {
	b, _ := newTestBundle(t)
	other, _ := newTestBundle(t)
	foreign := newRig(t, other, "infra0", t.TempDir()).must()
	sibling := newRig(t, b, "infra1", t.TempDir()).must()
	tests := []struct {
		name  string
		spoil func(r *rig)
		keys  bool // the peer key is replaced
	}{
		{"temporary files", func(r *rig) { writeFile(t, filepath.Join(r.opts.Dir, ".peer.crt.tmp-1"), []byte("x"), 0o600) }, false},
		{"certificate lost", func(r *rig) { remove(t, r.Files().PeerCert) }, false},
		{"certificate empty", func(r *rig) { writeFile(t, r.Files().PeerCert, nil, 0o644) }, false},
		{"certificate cut short", func(r *rig) {
			writeFile(t, r.Files().PeerCert, readFile(t, r.Files().PeerCert)[:300], 0o644)
		}, false},
		{"chain lost", func(r *rig) {
			writeFile(t, r.Files().PeerCert, certPEM(r.leaf(r.Files().PeerCert).Raw), 0o644)
		}, false},
		{"key lost", func(r *rig) { remove(t, r.Files().PeerKey) }, true},
		{"key empty", func(r *rig) { writeFile(t, r.Files().PeerKey, nil, 0o600) }, true},
		{"key of another slot", func(r *rig) { writeFile(t, r.Files().PeerKey, readFile(t, r.Files().ServerKey), 0o600) }, true},
		{"key readable by all", func(r *rig) { writeFile(t, r.Files().PeerKey, readFile(t, r.Files().PeerKey), 0o644) }, false},
		{"pair of another rack", func(r *rig) {
			writeFile(t, r.Files().PeerCert, readFile(t, foreign.Files().PeerCert), 0o644)
			writeFile(t, r.Files().PeerKey, readFile(t, foreign.Files().PeerKey), 0o600)
		}, true},
		{"pair of another node", func(r *rig) {
			writeFile(t, r.Files().PeerCert, readFile(t, sibling.Files().PeerCert), 0o644)
			writeFile(t, r.Files().PeerKey, readFile(t, sibling.Files().PeerKey), 0o600)
		}, true},
		{"server pair in the peer's place", func(r *rig) { writeFile(t, r.Files().PeerCert, readFile(t, r.Files().ServerCert), 0o644) }, false},
		{"roots lost", func(r *rig) { remove(t, r.Files().CA) }, false},
		{"roots of another rack", func(r *rig) { writeFile(t, r.Files().CA, other.RootPEM(), 0o644) }, false},
		{"everything lost", func(r *rig) {
			if err := os.RemoveAll(r.opts.Dir); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			key := readFile(t, newRig(t, b, "infra0", dir).must().Files().PeerKey)
			tt.spoil(newRig(t, b, "infra0", dir))
			r := newRig(t, b, "infra0", dir).must()
			if !r.isReady() || len(contents(t, dir)) != 7 || !bytes.Equal(readFile(t, r.Files().CA), b.RootPEM()) {
				t.Errorf("not healed: ready %v, files %v", r.isReady(), slices.Sorted(maps.Keys(contents(t, dir))))
			}
			for slot, p := range r.pairs() {
				pair, err := tls.LoadX509KeyPair(p[0], p[1])
				if err != nil {
					t.Fatalf("%s: %v", slot, err)
				}
				if fi, err := os.Stat(p[1]); err != nil || fi.Mode().Perm() != 0o600 {
					t.Errorf("%s key: mode %v %v", slot, fi.Mode(), err)
				}
				if err := verifyLeaf(b, pair.Leaf, pair.Leaf.ExtKeyUsage[0]); err != nil {
					t.Errorf("%s: %v", slot, err)
				}
			}
			if got := uris(r.leaf(r.Files().PeerCert)); len(got) != 1 || got[0] != identityURI(b.ID(), "infra0") {
				t.Errorf("identity %v", got)
			}
			if replaced := !bytes.Equal(key, readFile(t, r.Files().PeerKey)); replaced != tt.keys {
				t.Errorf("key replaced: %v, want %v", replaced, tt.keys)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills a real file system before a renewal is due.
func TestDiskFull(t *testing.T) {
	testBrokenDisk(t,
		func(dir string) error {
			f, err := os.Create(filepath.Join(dir, "..", "ballast"))
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // it is full
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			return nil
		},
		func(dir string) error { return os.Remove(filepath.Join(dir, "..", "ballast")) })
}

func TestDiskReadOnly(t *testing.T) {
	remount := func(dir string, flags uintptr) error {
		return unix.Mount("", filepath.Dir(dir), "", unix.MS_REMOUNT|flags, "")
	}
	testBrokenDisk(t,
		func(dir string) error { return remount(dir, unix.MS_RDONLY) },
		func(dir string) error { return remount(dir, 0) })
}

// testBrokenDisk breaks the disk below the published files when a renewal is due: the old files must stay and be
// served, the error be shown, and a repair be enough.
func testBrokenDisk(t *testing.T, breakDisk, repair func(dir string) error) {
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("cannot mount a file system to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", filepath.Join(mnt, "certs")).must()
	before := contents(t, r.opts.Dir)
	r.advance(70 * day)
	if err := breakDisk(r.opts.Dir); err != nil {
		t.Fatal(err)
	}
	err := r.reconcile(t.Context())
	if err == nil {
		t.Fatal("a renewal that could not be written was reported as done")
	}
	mustHint(t, err)
	if !maps.Equal(contents(t, r.opts.Dir), before) {
		t.Error("the published files changed")
	}
	for _, st := range r.Status() {
		if st.Err == nil || st.NotAfter.IsZero() {
			t.Errorf("status hides the error or what is in use: %+v", st)
		}
	}
	// A restart in that state still serves what there is.
	restarted := newRig(t, b, "infra0", r.opts.Dir)
	restarted.advance(70 * day)
	if err := restarted.reconcile(t.Context()); err == nil || !restarted.isReady() {
		t.Errorf("restart on the broken disk: ready %v, err %v", restarted.isReady(), err)
	}
	if err := repair(r.opts.Dir); err != nil {
		t.Fatal(err)
	}
	r.must()
	if after := contents(t, r.opts.Dir); after["peer.crt"] == before["peer.crt"] || after["peer.key"] != before["peer.key"] {
		t.Error("not renewed after the repair, or with another key")
	}
	if st := r.Status()[0]; st.Err != nil {
		t.Errorf("the error stays: %v", st.Err)
	}
}
