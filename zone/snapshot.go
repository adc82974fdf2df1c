package zone

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Snapshot is one version of the zone. It never changes once Compile has returned it, so any number of goroutines may
// read it.
type Snapshot struct {
	domain string
	serial uint32
	digest string
	// names holds every name that exists, empty non-terminals included, in lower case.
	names map[string]*entry
	// negative is the authority section of NXDOMAIN and NODATA.
	negative []dns.RR
}

// entry is one name of the zone.
type entry struct {
	sets map[uint16]*rrset
	// unready says why nothing may be said of this name yet; empty when it may.
	unready string
}

// rrset is the answer for one name and type.
type rrset struct {
	rrs []dns.RR
	// extra is the additional section: the addresses of the names in rrs, RRset by RRset.
	extra []dns.RR
	// unready says why this set may not be served yet; empty when it may.
	unready string
}

// Serial returns the serial of the zone's SOA record; 0 while SOA is not served, since such a zone has no version.
func (s *Snapshot) Serial() uint32 { return s.serial }

// Digest returns the SHA-256 of the content without the serial, in hexadecimal. Two snapshots with one digest give
// the same answers, but for the serial.
func (s *Snapshot) Digest() string { return s.digest }

// WriteTo writes the zone in master format (RFC 1035 §5), one record a line, apex first and then in canonical order
// (RFC 4034 §6.1). Names that answer SERVFAIL because they are not known yet are comments.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, s.text())
	return int64(n), err
}

func (s *Snapshot) text() string {
	var b strings.Builder
	for _, name := range s.sorted() {
		e := s.names[name]
		if e.unready != "" {
			fmt.Fprintf(&b, "; not ready: %s\t%s\n", name, e.unready)
		}
		for _, t := range e.types() {
			set := e.sets[t]
			if set.unready != "" {
				fmt.Fprintf(&b, "; not ready: %s\t%s\t%s\n", name, dns.TypeToString[t], set.unready)
			}
			for _, rr := range set.rrs {
				fmt.Fprintln(&b, rr)
			}
		}
	}
	return b.String()
}

// seal gives the content its serial. The receiver is not changed; the two share all but the SOA record.
func (s *Snapshot) seal(serial uint32) *Snapshot {
	out := *s
	out.serial = serial
	apex := *s.names[s.domain]
	apex.sets = make(map[uint16]*rrset, len(s.names[s.domain].sets))
	for t, set := range s.names[s.domain].sets {
		apex.sets[t] = set
	}
	soa := *apex.sets[dns.TypeSOA].rrs[0].(*dns.SOA)
	soa.Serial = serial
	apex.sets[dns.TypeSOA] = &rrset{rrs: []dns.RR{&soa}, unready: apex.sets[dns.TypeSOA].unready}
	// RFC 2308 §3 and §5: the SOA of a negative answer has the smaller of its own TTL and MINIMUM.
	negative := soa
	negative.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	out.negative = []dns.RR{&negative}
	out.names = make(map[string]*entry, len(s.names))
	for name, e := range s.names {
		out.names[name] = e
	}
	out.names[s.domain] = &apex
	return &out
}

// versioned reports whether SOA is served, so that the content needs a serial of its own.
func (s *Snapshot) versioned() bool { return s.names[s.domain].sets[dns.TypeSOA].unready == "" }

func (s *Snapshot) sum() string {
	h := sha256.Sum256([]byte(s.text()))
	return hex.EncodeToString(h[:])
}

// contains reports whether a lower-case name is at or below the apex.
func (s *Snapshot) contains(name string) bool {
	if _, ok := s.names[name]; ok {
		return true
	}
	// Label by label: "a\.rack1.example.com." ends in ".rack1.example.com." and is not below it.
	return dns.IsSubDomain(s.domain, name)
}

func (s *Snapshot) sorted() []string {
	out := make([]string, 0, len(s.names))
	for name := range s.names {
		out = append(out, name)
	}
	slices.SortFunc(out, canonicalOrder)
	return out
}

// canonicalOrder compares names label by label from the right (RFC 4034 §6.1).
func canonicalOrder(a, b string) int {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(la)
	slices.Reverse(lb)
	return slices.Compare(la, lb)
}

// types returns the entry's types: SOA and NS first, as RFC 1035 §5.2 wants and people expect, then by number.
func (e *entry) types() []uint16 {
	rank := func(t uint16) int {
		switch t {
		case dns.TypeSOA:
			return 0
		case dns.TypeNS:
			return 1
		}
		return 2
	}
	out := make([]uint16, 0, len(e.sets))
	for t := range e.sets {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b uint16) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return out
}

// served reports whether the entry answers for a type with records.
func (e *entry) served(t uint16) bool {
	set := e.sets[t]
	return set != nil && set.unready == ""
}
