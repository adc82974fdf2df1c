// Package xfr hands zones to secondaries: AXFR and IXFR out, and NOTIFY.
package xfr

import (
	"iter"

	"github.com/miekg/dns"
)

// Zone is a zone that can be transferred. Its methods are safe for concurrent use.
type Zone interface {
	// Origin is the apex: absolute, lower case, with the trailing dot.
	Origin() string
	// Version returns what is served now; nil while there is nothing that may be transferred, because the zone is not
	// complete: a secondary would keep a part of it.
	Version() Version
}

// Version is one immutable version of a zone.
type Version interface {
	// SOA returns the SOA record with this version's serial. It is shared: not to be changed.
	SOA() *dns.SOA
	// Records returns all other records, signatures included, in canonical order of their owners (RFC 4034 §6.1).
	// They are shared: not to be changed.
	Records() iter.Seq[dns.RR]
	// Len returns how many records there are, the SOA once.
	Len() int
	// Since returns the changes, oldest first, that lead from a serial which this node itself has served to this
	// version; ok is false when the serial is none of those, or when they are too many to be worth it.
	Since(serial uint32) (changes []Delta, ok bool)
}

// Delta is the difference between two versions in the form of RFC 1995 §4.
type Delta struct {
	From, To *dns.SOA
	// Removed and Added are without the SOA records.
	Removed, Added []dns.RR
}
