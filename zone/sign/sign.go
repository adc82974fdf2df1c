// Package sign makes DNSSEC signatures that are a pure function of content, keys and epoch.
//
// Every node of a rack holds the same keys and signs by itself, so their zones have to be equal octet by octet: the
// signatures are deterministic (RFC 6979), and their validity follows a shared epoch, not the moment of signing.
// State says which keys play which role, and Advance, a pure function, when a roll-over may take its next step.
package sign

import (
	"crypto"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"
)

// Signer signs RRsets of one zone for one epoch. It is safe for concurrent use.
type Signer interface {
	// Keys returns the apex RRsets that signing adds: DNSKEY and, when the parent is to take over a DS or to drop it,
	// CDS and CDNSKEY. They are unsigned, and the caller's to keep.
	Keys() []dns.RR
	// Sign returns the signatures of one RRset: records of one owner, type and class with one TTL, in any order. The
	// same RRset always gives the same octets. DNSKEY, CDS and CDNSKEY get one signature of each published key, sorted
	// by key number; every other type gets that of the active key.
	Sign(rrset []dns.RR) ([]*dns.RRSIG, error)
	// ID names keys, their roles and the epoch: two signers with one ID sign alike.
	ID() string
}

// signer is the Signer of one state.
type signer struct {
	apex      string
	epoch     uint32
	published []*Key
	active    *Key
	keys      []dns.RR
	id        string
}

// New returns the signer of a state for the zone apex, an absolute name. It refuses a state that signs nothing, is
// contradictory, or names other keys than ring holds.
func New(apex string, s State, ring *Ring) (Signer, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if !s.Signs() {
		return nil, refuse("etcd-dns dnssec on", "zone %s is not signed", apex)
	}
	out := &signer{apex: dns.CanonicalName(apex), epoch: s.Epoch}
	id := []string{out.apex, string(s.Mode), fmt.Sprintf("epoch %d", s.Epoch), fmt.Sprintf("announced %t", s.Announced)}
	for _, k := range s.Keys {
		key, err := ring.Key(k.Number)
		if err != nil {
			return nil, err
		}
		if key.Tag() != k.Tag {
			return nil, refuse("use one bundle on all nodes: sha256sum cluster.bundle",
				"key %d of this node's bundle has tag %d, the rack's has %d", k.Number, key.Tag(), k.Tag)
		}
		out.published = append(out.published, key)
		if k.Phase == Active {
			out.active = key
		}
		id = append(id, fmt.Sprintf("key %d/%d %s", k.Number, k.Tag, k.Phase))
	}
	out.keys = apexRecords(out.apex, s, out.published, out.active)
	out.id = strings.Join(id, ", ")
	return out, nil
}

func (s *signer) ID() string { return s.id }

func (s *signer) Keys() []dns.RR {
	out := make([]dns.RR, len(s.keys))
	for i, rr := range s.keys {
		out[i] = dns.Copy(rr)
	}
	return out
}

// Sign implements Signer.
func (s *signer) Sign(rrset []dns.RR) ([]*dns.RRSIG, error) {
	if err := s.check(rrset); err != nil {
		return nil, err
	}
	keys := []*Key{s.active}
	switch rrset[0].Header().Rrtype {
	// RFC 4035 §2.2: the DNSKEY set is signed by a key of the parent's DS. RFC 7344 §4.1: so are CDS and CDNSKEY. During
	// a roll-over that may be either key, so each signs.
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		keys = s.published
	}
	out := make([]*dns.RRSIG, 0, len(keys))
	for _, k := range keys {
		sig := &dns.RRSIG{
			// RFC 4034 §3: the TTL of an RRSIG is that of the RRset it covers.
			Hdr:       dns.RR_Header{Ttl: rrset[0].Header().Ttl},
			Algorithm: k.dnskey.Algorithm, KeyTag: k.tag, SignerName: s.apex,
			Inception: uint32(Inception(s.epoch).Unix()), Expiration: uint32(Expiration(s.epoch).Unix()),
		}
		// RFC 4034 §3.1.8.1 and §6: the library brings the RRset into canonical form and order.
		if err := sig.Sign(deterministic{k}, rrset); err != nil {
			return nil, fmt.Errorf("sign %s %s: %w", rrset[0].Header().Name, dns.TypeToString[sig.TypeCovered], err)
		}
		sig.Hdr.Name = strings.ToLower(sig.Hdr.Name)
		out = append(out, sig)
	}
	return out, nil
}

// check refuses what is no RRset of this zone.
func (s *signer) check(rrset []dns.RR) error {
	if len(rrset) == 0 {
		return fmt.Errorf("sign: the RRset is empty")
	}
	h := rrset[0].Header()
	// RFC 4035 §2.2: an RRSIG set is not signed.
	if h.Rrtype == dns.TypeRRSIG || !dns.IsSubDomain(s.apex, h.Name) {
		return fmt.Errorf("sign %s %s: not a set that zone %s signs", h.Name, dns.TypeToString[h.Rrtype], s.apex)
	}
	for _, rr := range rrset[1:] {
		// RFC 2181 §5.2: the records of an RRset have one TTL.
		if o := rr.Header(); o.Rrtype != h.Rrtype || o.Class != h.Class || o.Ttl != h.Ttl || !strings.EqualFold(o.Name, h.Name) {
			return fmt.Errorf("sign %s: the record %q is not of the same set", h.Name, rr)
		}
	}
	return nil
}

// deterministic hides the randomness that the library passes on: without it crypto/ecdsa signs by RFC 6979.
type deterministic struct{ *Key }

func (d deterministic) Public() crypto.PublicKey { return d.private.Public() }

func (d deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.private.Sign(nil, digest, opts)
}
