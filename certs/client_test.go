package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestIssueClient(t *testing.T) {
	b, _ := newTestBundle(t)
	for _, name := range []string{"root", "alice", "Alice.Smith@ops_1-2", strings.Repeat("a", 64)} {
		certificate, key, err := b.IssueClient(name, ClientOptions{Lifetime: time.Hour})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		c := pair.Leaf
		if c.Subject.CommonName != name || len(sans(c)) > 0 || len(c.EmailAddresses) > 0 || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("%s: CN %q SANs %v usages %v", name, c.Subject.CommonName, sans(c), c.ExtKeyUsage)
		}
		if err := verifyLeaf(b, c, x509.ExtKeyUsageClientAuth); err != nil {
			t.Error(err)
		}
		if left := time.Until(c.NotAfter); left > time.Hour || left < 59*time.Minute {
			t.Errorf("%s: lives for %s", name, left)
		}
		if len(pair.Certificate) != 2 {
			t.Errorf("%s: %d certificates, want the leaf and its CA", name, len(pair.Certificate))
		}
	}
	// One for a proxy means no user, and still says whose it is.
	certificate, key, err := b.IssueClient("edge", ClientOptions{Proxy: true})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	if s := pair.Leaf.Subject; s.CommonName != "" || s.String() != "O=edge" {
		t.Errorf("a proxy's subject is %s", s)
	}
	if err := verifyLeaf(b, pair.Leaf, x509.ExtKeyUsageClientAuth); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "ca", "CA", ".hidden", "-flag", "a/b", "../x", "a b", "a\x00", "\u00e9", strings.Repeat("a", 65)} {
		if _, _, err := b.IssueClient(name, ClientOptions{}); err == nil {
			t.Errorf("accepted %q", name)
		} else {
			mustHint(t, err)
		}
	}
	if _, _, err := b.IssueClient("alice", ClientOptions{Lifetime: -1}); err == nil {
		t.Error("accepted a negative lifetime")
	}
}

func TestWriteClientNeverOverwrites(t *testing.T) {
	b, _ := newTestBundle(t)
	other, _ := newTestBundle(t)
	dir := filepath.Join(t.TempDir(), "new", "out")
	f, err := b.WriteClient(dir, "alice", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		t.Error(err)
	}
	if f.CA != filepath.Join(dir, "ca.crt") || f.Cert != filepath.Join(dir, "alice.crt") || f.Key != filepath.Join(dir, "alice.key") {
		t.Errorf("paths %+v", f)
	}
	if !bytes.Equal(readFile(t, f.CA), b.RootPEM()) {
		t.Error("ca.crt does not hold the roots")
	}
	if fi, err := os.Stat(f.Key); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key mode %v %v", fi.Mode(), err)
	}
	before := contents(t, dir)
	for name, tt := range map[string]struct {
		bundle *Bundle
		client string
	}{"same name": {b, "alice"}, "another rack's roots": {other, "bob"}} {
		_, err := tt.bundle.WriteClient(dir, tt.client, ClientOptions{})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		mustHint(t, err)
		if got := contents(t, dir); !maps.Equal(got, before) {
			t.Errorf("%s: the directory changed", name)
		}
	}
	if _, err := b.WriteClient(dir, "bob", ClientOptions{}); err != nil {
		t.Errorf("a second client in one directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "carol.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteClient(dir, "carol", ClientOptions{}); err == nil {
		t.Error("carol.crt was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "carol.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key without a certificate was left: %v", err)
	}
}

func TestWriteClientAtOnce(t *testing.T) {
	b, _ := newTestBundle(t)
	dir := t.TempDir()
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := b.WriteClient(dir, "alice", ClientOptions{}); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers won, want 1", won.Load())
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key")); err != nil {
		t.Error(err)
	}
}
