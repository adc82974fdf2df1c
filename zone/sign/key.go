package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/dns"
)

// MaxKeyNumber is the highest key number: a thousand roll-overs. Number n costs n derivations once.
const MaxKeyNumber = 1000

// keyLabel begins the HKDF info of every derived key.
const keyLabel = "etcd-dns zone signing key"

// RFC 4034 §2.1: zone key and secure entry point, and the only protocol there is.
const (
	keyFlags    = dns.ZONE | dns.SEP
	keyProtocol = 3
)

// Key is one combined signing key: it signs the DNSKEY set and the zone (algorithm 13, RFC 6605).
type Key struct {
	number  uint32
	private *ecdsa.PrivateKey
	dnskey  dns.DNSKEY
	tag     uint16
}

// Number is the key's place in the sequence, from 0.
func (k *Key) Number() uint32 { return k.number }

// Tag is the key tag (RFC 4034 appendix B), never 0, and never that of the key before.
func (k *Key) Tag() uint16 { return k.tag }

// DNSKEY returns the key's record at the zone apex.
func (k *Key) DNSKEY(apex string) *dns.DNSKEY {
	out := k.dnskey
	out.Hdr.Name = dns.CanonicalName(apex)
	return &out
}

// DS returns the record that the parent publishes: SHA-256, which RFC 8624 §3.3 makes mandatory.
func (k *Key) DS(apex string) *dns.DS { return k.DNSKEY(apex).ToDS(dns.SHA256) }

// Matches reports whether ds, read from the parent, names this key by SHA-256 or SHA-384. Others count as unknown:
// RFC 8624 §3.3 forbids to trust them or validators rarely have them.
func (k *Key) Matches(apex string, ds *dns.DS) bool {
	if ds.DigestType != dns.SHA256 && ds.DigestType != dns.SHA384 {
		return false
	}
	own := k.DNSKEY(apex).ToDS(ds.DigestType)
	return own.KeyTag == ds.KeyTag && own.Algorithm == ds.Algorithm && equalHex(own.Digest, ds.Digest)
}

// Ring holds the sequence of keys: number 0 is the bundle's, and each further one is derived from it, so that every
// node has the same successor and no secret needs to be sent. It is safe for concurrent use.
type Ring struct {
	base   *ecdsa.PrivateKey
	secret []byte

	mu   sync.Mutex
	keys []*Key // by number, guarded by mu
}

// NewRing reads key 0, a P-256 key as PKCS #8 PEM.
func NewRing(text []byte) (*Ring, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, refuse("use the bundle that etcd-dns init wrote", "the zone key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the zone key: %w", err)
	}
	base, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || base.Curve != elliptic.P256() {
		return nil, refuse("use the bundle that etcd-dns init wrote", "the zone key is a %T, expected ECDSA on P-256", parsed)
	}
	secret, err := base.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read the zone key: %w", err)
	}
	return &Ring{base: base, secret: secret}, nil
}

// Key returns key number n, at most MaxKeyNumber. The same bundle gives the same key everywhere.
func (r *Ring) Key(n uint32) (*Key, error) {
	if n > MaxKeyNumber {
		return nil, refuse("make a new bundle: etcd-dns init", "key number %d is above %d", n, MaxKeyNumber)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for next := uint32(len(r.keys)); next <= n; next++ {
		k, err := r.deriveLocked(next)
		if err != nil {
			return nil, fmt.Errorf("derive zone key %d: %w", next, err)
		}
		r.keys = append(r.keys, k)
	}
	return r.keys[n], nil
}

// attempts bounds the search for a key. One in 65,536 has an unusable tag, one in 2^32 is no scalar of the curve.
const attempts = 16

// deriveLocked finds the first candidate whose tag differs from the key's before, since validators and this package
// tell the two keys of a roll-over by their tags. Tag 0 is left out: libraries take it for no tag.
func (r *Ring) deriveLocked(n uint32) (*Key, error) {
	for attempt := range uint32(attempts) {
		private, err := r.candidate(n, attempt)
		if err != nil {
			continue
		}
		k, err := newKey(n, private)
		if err != nil {
			return nil, err
		}
		if k.tag == 0 || n > 0 && k.tag == r.keys[n-1].tag {
			continue
		}
		return k, nil
	}
	return nil, errors.New("no candidate fits")
}

// candidate is HKDF-SHA256 (RFC 5869) over key 0's scalar; ParseRawPrivateKey refuses what is not in [1, n-1].
func (r *Ring) candidate(n, attempt uint32) (*ecdsa.PrivateKey, error) {
	if n == 0 && attempt == 0 {
		return r.base, nil
	}
	info := binary.BigEndian.AppendUint32([]byte(keyLabel), n)
	info = binary.BigEndian.AppendUint32(info, attempt)
	raw, err := hkdf.Key(sha256.New, r.secret, nil, string(info), 32)
	if err != nil {
		return nil, err
	}
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
}

func newKey(n uint32, private *ecdsa.PrivateKey) (*Key, error) {
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	k := &Key{number: n, private: private, dnskey: dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: KeyTTL},
		Flags: keyFlags, Protocol: keyProtocol, Algorithm: dns.ECDSAP256SHA256,
		PublicKey: base64.StdEncoding.EncodeToString(point[1:]), // RFC 6605 §4: x | y, without the octet that says so
	}}
	k.tag = k.dnskey.KeyTag()
	return k, nil
}
