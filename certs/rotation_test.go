package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestNewIssuingCA: a later generation of the bundle has a new peer CA under the same root. The node issues from it at
// its next start, with the same keys; nodes that have not seen it yet get along, since they trust the root.
func TestNewIssuingCA(t *testing.T) {
	b, key := newTestBundle(t)
	tmpl := caTemplate(b.peerCA.cert.Subject, time.Now(), issuingLifetime, testDomain)
	tmpl.Subject.CommonName, tmpl.MaxPathLenZero = "etcd-dns peer CA g2", true
	fresh, err := signCA(tmpl, rootOf(t, b, key))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := keyPEM(fresh.key)
	if err != nil {
		t.Fatal(err)
	}
	b2, err := openBundle(reseal(t, b, key, func(s map[string]any) {
		s["generation"] = 2
		set := s["peer_ca"].([]any)
		set[0].(map[string]any)["state"] = trusted
		s["peer_ca"] = append(set, keyEntry{ID: "g2", State: inUse, Cert: string(certPEM(fresh.cert.Raw)), Key: string(encoded)})
	}))
	if err != nil {
		t.Fatal(err)
	}
	if b2.ID() != b.ID() || b2.Generation() != 2 || !bytes.Equal(b2.RootPEM(), b.RootPEM()) {
		t.Error("id, generation or roots")
	}
	dir := t.TempDir()
	before := contents(t, newRig(t, b, "infra0", dir).must().opts.Dir)
	n0 := newRig(t, b2, "infra0", dir).must()
	after := contents(t, dir)
	for _, slot := range []string{peerSlot, serverSlot} {
		if after[slot+".crt"] == before[slot+".crt"] || after[slot+".key"] != before[slot+".key"] {
			t.Errorf("%s: want a new certificate for the old key", slot)
		}
	}
	if after["client.crt"] != before["client.crt"] {
		t.Error("the client certificate was issued anew without need")
	}
	if issuer := n0.Status()[0].Issuer; issuer != "etcd-dns peer CA g2" {
		t.Errorf("issuer %q", issuer)
	}
	n1 := newRig(t, b, "infra1", t.TempDir()).must()
	if _, err := exchange(serveTLS(t, n1.AdminServerTLS()), n0.AdminClientTLS("infra1")); err != nil {
		t.Errorf("new to old: %v", err)
	}
	if _, err := exchange(serveTLS(t, n0.AdminServerTLS()), n1.AdminClientTLS("infra0")); err != nil {
		t.Errorf("old to new: %v", err)
	}
}

// TestNewRoot: while a root is replaced both are trusted, and the rack keeps its id.
func TestNewRoot(t *testing.T) {
	b, key := newTestBundle(t)
	other, otherKey := newTestBundle(t)
	add := func(first, second state) func(s map[string]any) {
		return func(s map[string]any) {
			var set []any
			for i, root := range []*Bundle{b, other} {
				set = append(set, keyEntry{ID: string(rune('a' + i)), State: []state{first, second}[i], Cert: string(certPEM(root.roots[0].Raw))})
			}
			s["roots"] = set
		}
	}
	both, err := openBundle(reseal(t, b, key, add(inUse, next)))
	if err != nil {
		t.Fatal(err)
	}
	if want := append(b.RootPEM(), other.RootPEM()...); !bytes.Equal(both.RootPEM(), want) || both.ID() != b.ID() {
		t.Error("trust both roots, the primary first, under the old id")
	}
	// The new root alone may sign once it is in the bundle; a distrusted one may not.
	var body map[string]any
	if err := json.Unmarshal([]byte(content(both.raw)), &body); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		first, second state
		ok            bool
	}{{inUse, next, true}, {trusted, inUse, true}, {inUse, distrusted, false}} {
		add(tt.first, tt.second)(body)
		signed, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := sealSigned(signed, rootOf(t, other, otherKey))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openBundle(raw); (err == nil) != tt.ok {
			t.Errorf("signed by the second root in state %q: %v", tt.second, err)
		}
	}
}

// TestRunHeals: the loop outlives a data directory that cannot be written yet.
func TestRunHeals(t *testing.T) {
	b, _ := newTestBundle(t)
	data := filepath.Join(t.TempDir(), "data")
	writeFile(t, data, nil, 0o600) // a file where a directory must be
	m := NewManager(Options{Bundle: b, Node: "infra0", Dir: filepath.Join(data, "certs"), CheckEvery: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	waitFor(t, func() bool { return m.Status()[0].Err != nil })
	mustHint(t, m.Status()[0].Err)
	select {
	case <-m.Ready():
		t.Error("ready without files")
	default:
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Ready():
	case <-time.After(10 * time.Second):
		t.Errorf("not healed: %v", m.Status()[0].Err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
