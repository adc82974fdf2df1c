package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDomain = "rack1.example.com"

func newTestBundle(t testing.TB) (*Bundle, RootKey) {
	t.Helper()
	b, key, err := NewBundle(InitOptions{Domain: testDomain, Names: map[string][]string{"": {"infra0", "infra1", "infra2"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b, key
}

// rootOf puts the root's certificate and key together.
func rootOf(t testing.TB, b *Bundle, key RootKey) issuingCA {
	t.Helper()
	signer, err := parseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return issuingCA{cert: b.roots[0], key: signer}
}

// mustHint fails unless the error carries a hint.
func mustHint(t *testing.T, err error) {
	t.Helper()
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() == "" {
		t.Errorf("error without a hint: %v", err)
	}
}

// rig is a manager whose reconciliations the test calls itself, with a clock and addresses that the test sets.
type rig struct {
	*Manager
	t testing.TB

	mu     sync.Mutex
	now    time.Time
	synced bool
	addrs  []netip.Addr
}

func newRig(t testing.TB, b *Bundle, node, dir string) *rig {
	t.Helper()
	r := &rig{t: t, now: b.Created(), synced: true, addrs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}}
	r.Manager = NewManager(Options{
		Bundle: b, Node: node, Dir: dir, Log: zap.NewNop(), CheckEvery: 20 * time.Millisecond,
		Now:    func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
		Synced: func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.synced },
		Addrs:  func() []netip.Addr { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.addrs) },
	})
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) setAddrs(addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs = nil
	for _, a := range addrs {
		r.addrs = append(r.addrs, netip.MustParseAddr(a))
	}
}

func (r *rig) must() *rig {
	r.t.Helper()
	if err := r.reconcile(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r
}

func (r *rig) isReady() bool {
	select {
	case <-r.Ready():
		return true
	default:
		return false
	}
}

// leaf reads the published certificate of a slot.
func (r *rig) leaf(path string) *x509.Certificate {
	r.t.Helper()
	chain, err := parseChain(readFile(r.t, path))
	if err != nil {
		r.t.Fatal(err)
	}
	if len(chain) != 2 {
		r.t.Fatalf("%s holds %d certificates, want the leaf and its CA", path, len(chain))
	}
	return chain[0]
}

func (r *rig) pairs() map[string][2]string {
	f := r.Files()
	return map[string][2]string{
		peerSlot:   {f.PeerCert, f.PeerKey},
		clientSlot: {f.ClientCert, f.ClientKey},
		serverSlot: {f.ServerCert, f.ServerKey},
	}
}

// contents returns every file of the directory.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		out[e.Name()] = string(readFile(t, filepath.Join(dir, e.Name())))
	}
	return out
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte, perm os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, data, perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func numbered(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("node%d", i))
	}
	return out
}
