package xfr

import (
	"net/netip"
	"slices"
)

// Policy says who may have a zone.
type Policy struct {
	// Any lets every address ask; From is then ignored.
	Any bool
	// From are the networks that may ask. IPv4 prefixes are plain, not IPv4 mapped into IPv6.
	From []netip.Prefix
	// Unsigned lets those addresses ask without TSIG.
	Unsigned bool
}

// allows reports whether an address may ask.
func (p Policy) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // a zone names our interface, not the asker
	return p.Any || slices.ContainsFunc(p.From, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Offer is a zone with those who may have it.
type Offer struct {
	Zone   Zone
	Policy Policy
}
