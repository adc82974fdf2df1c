// Package sign makes DNSSEC signatures that are a pure function of content, keys and epoch.
//
// Every node of a rack holds the same keys and signs by itself, so their zones have to be equal octet by octet: the
// signatures are deterministic (RFC 6979), and their validity follows a shared epoch, not the moment of signing.
package sign

import (
	"github.com/miekg/dns"
)

// Signer signs RRsets of one zone for one epoch.
type Signer interface {
	// Keys returns the apex RRsets that signing adds: DNSKEY and, when the parent is to take over a DS, CDS and
	// CDNSKEY. They are unsigned, and the caller's to keep.
	Keys() []dns.RR
	// Sign returns the signatures of one RRset: records of one owner, type and class with one TTL, in any order. The
	// same RRset always gives the same octets.
	Sign(rrset []dns.RR) ([]*dns.RRSIG, error)
	// ID names keys, their roles and the epoch: two signers with one ID sign alike.
	ID() string
}
