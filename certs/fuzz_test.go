package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

// FuzzPEM feeds what may lie in a certificate's or a key's file: nothing but whole blocks of the one kind is taken.
func FuzzPEM(f *testing.F) {
	b, _ := newTestBundle(f)
	key, err := keyPEM(b.peerCA.key)
	if err != nil {
		f.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.peerCA.cert.Raw})
	f.Add(cert)
	f.Add(append(bytes.Clone(cert), cert...))
	f.Add(key)
	f.Add(append(bytes.Clone(key), '\n', 'x'))
	f.Add(append([]byte("# a comment\n"), cert...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if chain, err := parseChain(data); err == nil {
			var again []byte
			for _, c := range chain {
				again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			}
			if same, err := parseChain(again); err != nil || len(same) != len(chain) || len(chain) == 0 {
				t.Errorf("%d certificates become %d: %v", len(chain), len(same), err)
			}
			if one, err := parseCert(data); (err == nil) != (len(chain) == 1 && one != nil) {
				t.Errorf("%d certificates are one: %v", len(chain), err)
			}
		}
		if k, err := parseKey(data); err == nil {
			if _, err := x509.MarshalPKCS8PrivateKey(k); err != nil {
				t.Errorf("a key that cannot be written: %v", err)
			}
		}
	})
}
