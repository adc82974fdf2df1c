package certs

import (
	"crypto/x509"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMismatch issues certificates that differ from what is desired in one thing, each verifying all the same.
func TestMismatch(t *testing.T) {
	b, key := newTestBundle(t)
	want := desiredFor(peerSlot, b, "infra0", "infra0", nil)
	again, err := signCert(func() *x509.Certificate { c := *b.peerCA.cert; return &c }(), b.peerCA.key.Public(), rootOf(t, b, key))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(d *desired)
		want   string
	}{
		{"nothing", func(*desired) {}, ""},
		{"host name missing", func(d *desired) { d.leaf.dns = d.leaf.dns[1:] }, "names differ"},
		{"domain missing", func(d *desired) { d.leaf.dns = slices.Delete(slices.Clone(d.leaf.dns), 1, 2) }, "names differ"},
		{"another order", func(d *desired) {
			d.leaf.dns = []string{d.leaf.dns[0], d.leaf.dns[2], d.leaf.dns[1]}
		}, "names differ"},
		{"wildcard", func(d *desired) { d.leaf.dns = append(slices.Clone(d.leaf.dns), "*."+testDomain) }, "names differ"},
		{"common name", func(d *desired) { d.leaf.cn = d.leaf.dns[0] }, "names differ"},
		{"address missing", func(d *desired) { d.leaf.ips = d.leaf.ips[1:] }, "addresses changed"},
		{"address more", func(d *desired) { d.leaf.ips = append(slices.Clone(d.leaf.ips), net.IP{10, 0, 0, 1}) }, "addresses changed"},
		{"another node", func(d *desired) { d.leaf.uri = identityURI(b.ID(), "infra1") }, "identity differs"},
		{"another bundle", func(d *desired) { d.leaf.uri = identityURI(strings.Repeat("0", 32), "infra0") }, "identity differs"},
		{"no identity", func(d *desired) { d.leaf.uri = "" }, "identity differs"},
		{"usage missing", func(d *desired) { d.leaf.usages = d.leaf.usages[:1] }, "usage differs"},
		{"CA certificate replaced, same key", func(d *desired) { d.ca.cert = again }, "another CA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := want
			tt.change(&got)
			signer, err := newKey()
			if err != nil {
				t.Fatal(err)
			}
			tmpl, err := leafTemplate(got.leaf, got.ca, b.Created(), leafLifetime)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := signCert(tmpl, signer.Public(), got.ca)
			if err != nil {
				t.Fatal(err)
			}
			p := pair{chain: []*x509.Certificate{cert, got.ca.cert}, key: signer}
			if err := got.usable(p, b.pool(), b.Created()); err != nil {
				t.Fatalf("not usable, so this shows nothing: %v", err)
			}
			reason := want.mismatch(p, b.Created())
			if (reason == "") != (tt.want == "") || !strings.Contains(reason, tt.want) {
				t.Errorf("mismatch %q, want %q", reason, tt.want)
			}
		})
	}
}

// TestFirstNameInvariant: a certificate whose first name is not the subject would never be renewed by certmagic.
func TestFirstNameInvariant(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	want := desiredFor(peerSlot, b, "infra0", "infra0", nil)
	want.leaf.dns = []string{testDomain, "infra0." + testDomain}
	s := r.slots[0]
	_, err := s.engine.obtain(t.Context(), order{want: want, key: s.key, now: b.Created(), lifetime: leafLifetime})
	if err == nil || !strings.Contains(err.Error(), "first name") {
		t.Errorf("err %v, want the first name refused", err)
	}
}

// TestNotReadyWithoutRoots: etcd reads the trust file once, at its start, so it must be there.
func TestNotReadyWithoutRoots(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	if err := os.Mkdir(r.Files().CA, 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	err := r.reconcile(t.Context())
	if err == nil || r.isReady() {
		t.Fatalf("ready %v without roots, err %v", r.isReady(), err)
	}
	mustHint(t, err)
	remove(t, r.Files().CA)
	if r.must(); !r.isReady() {
		t.Error("not ready after the repair")
	}
}

// A node with peer addresses has a second name, which the peer certificate holds and no other.
func TestPeerHost(t *testing.T) {
	b, _ := newTestBundle(t)
	for purpose, want := range map[string]bool{peerSlot: true, serverSlot: false, clientSlot: false} {
		if got := slices.Contains(desiredFor(purpose, b, "infra0", "infra0-peer", nil).leaf.dns, "infra0-peer."+testDomain); got != want {
			t.Errorf("%s: has the name %v, want %v", purpose, got, want)
		}
	}
}
