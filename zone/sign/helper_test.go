package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

const apex = "rack1.example.com."

// testTime lies in epoch 5144.
var testTime = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func right(now time.Time) Clock { return Clock{Now: now, Plausible: true} }

// newTestRing returns a ring whose key 0 is made of one repeated octet.
func newTestRing(tb testing.TB, octet byte) *Ring {
	tb.Helper()
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = octet
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := NewRing(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
