package sign

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The sequence of keys is a promise to every later version: a node that is upgraded must go on with the same keys.
func TestKeySequenceIsFixed(t *testing.T) {
	ring := newTestRing(t, 7)
	for n, want := range []string{
		"rack1.example.com. 3600 IN DNSKEY 257 3 13 HhhTL9R1TALzBB2cdc6zO4P/2BrHzk/ogsyxyYvFiW6kbDEcTi/0DdlqNlPm5FRF0y3+SG7O11x6kMahiIHAow==",
		"rack1.example.com. 3600 IN DNSKEY 257 3 13 lhQtoY0gUVjxhzS1Vkt2x7GimMqCpIbNhFR2JuPxwra8gt1ZlFd40F0ZeMVsuvHwVrLHpQhWNTaEohiPERSXgQ==",
		"rack1.example.com. 3600 IN DNSKEY 257 3 13 fNx7lITBxn1MpioZlwSIv9yGXQb/Bk7cNKpJ7ON+CsV8doTJo6rabcqughOxQiwYvHG/hhdxHaArs5bMHznktw==",
	} {
		if got := must[*Key](t)(ring.Key(uint32(n))).DNSKEY(apex).String(); strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("key %d: %s, want %s", n, got, want)
		}
	}
	// From any starting point.
	if a, b := must[*Key](t)(newTestRing(t, 7).Key(2)), must[*Key](t)(ring.Key(2)); a.Tag() != b.Tag() || !a.private.Equal(b.private) {
		t.Error("key 2 depends on what was asked before")
	}
	if a, b := must[*Key](t)(newTestRing(t, 8).Key(1)), must[*Key](t)(ring.Key(1)); a.private.Equal(b.private) {
		t.Error("two bundles share a key")
	}
}

// Neighbours differ in their tags, and none is 0, over more keys than a tag has values to collide by chance.
func TestTagsOfNeighbours(t *testing.T) {
	skipped := 0
	for octet := byte(1); octet < 40; octet++ {
		ring := newTestRing(t, octet)
		last := uint16(0)
		for n := range uint32(MaxKeyNumber / 2) {
			k := must[*Key](t)(ring.Key(n))
			if k.Tag() == 0 || k.Tag() == last || k.Tag() != k.DNSKEY(apex).KeyTag() {
				t.Fatalf("ring %d key %d: tag %d after %d", octet, n, k.Tag(), last)
			}
			if first, err := ring.candidate(n, 0); err == nil && !first.Equal(k.private) {
				skipped++
			}
			last = k.Tag()
		}
	}
	if skipped == 0 {
		t.Error("no collision among these keys: the second attempt was never needed, so it was not tested")
	}
}

func TestDS(t *testing.T) {
	k := must[*Key](t)(newTestRing(t, 7).Key(0))
	ds := k.DS(apex)
	if ds.DigestType != dns.SHA256 || ds.Algorithm != dns.ECDSAP256SHA256 || ds.KeyTag != k.Tag() || ds.Hdr.Name != apex {
		t.Errorf("got %v", ds)
	}
	for digest, want := range map[uint8]bool{dns.SHA1: false, dns.SHA256: true, dns.SHA384: true} {
		if got := k.Matches(apex, k.DNSKEY(apex).ToDS(digest)); got != want {
			t.Errorf("digest type %d: matches %t, want %t", digest, got, want)
		}
	}
	if k.Matches("rack2.example.com.", ds) || must[*Key](t)(newTestRing(t, 8).Key(0)).Matches(apex, ds) {
		t.Error("the DS fits another zone or another key")
	}
}

func TestRingRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"P-384": p384, "Ed25519": ed} {
		der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
		if _, err := NewRing(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := NewRing([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if _, err := newTestRing(t, 7).Key(MaxKeyNumber + 1); err == nil {
		t.Error("a key beyond the last one was made")
	}
}
