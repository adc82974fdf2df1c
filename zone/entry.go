package zone

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// entry is one name of the zone. It never changes once it is in a snapshot.
type entry struct {
	// What a query needs comes first, within one line of memory.

	// packed begins with the wire form of name.
	packed packed
	// unready says why nothing may be said of this name yet; empty when it may.
	unready string
	// wireLen is the length of the wire form, apexLen that of the apex's at its end.
	wireLen, apexLen uint8
	// alias says that the name has a CNAME record, which needs more thought than a packed answer.
	alias bool

	// name is in lower case.
	name string
	// sets are in the order of types.
	sets []rrset
}

// rrset is the answer for one name and type.
type rrset struct {
	rrtype uint16
	rrs    []dns.RR
	// sigs sign rrs, in a signed zone.
	sigs []dns.RR
	// extra is the additional section: the RRsets of the addresses of the names in rrs.
	extra []*rrset
	// unready says why this set may not be served yet; empty when it may.
	unready string
}

// newEntry returns an entry without any set, an empty non-terminal. ok is false when the name does not fit the wire.
func newEntry(name, apex string) (e *entry, ok bool) {
	e = &entry{name: name}
	wire, ok := appendWire(make([]byte, 0, len(name)+1), name)
	e.packed, e.wireLen, e.apexLen = packed(wire), uint8(len(wire)), uint8(len(apex)+1)
	return e, ok
}

// wire returns the name's wire form.
func (e *entry) wire() []byte { return e.packed[:e.wireLen] }

// labels returns what of the wire form stands before the apex.
func (e *entry) labels() []byte {
	w := e.wire()
	return w[:len(w)-int(e.apexLen)]
}

// set returns the set of a type, nil if there is none.
func (e *entry) set(rrtype uint16) *rrset {
	for i := range e.sets {
		if e.sets[i].rrtype == rrtype {
			return &e.sets[i]
		}
	}
	return nil
}

// make returns the set of a type and adds it if there is none.
func (e *entry) make(rrtype uint16) *rrset {
	if s := e.set(rrtype); s != nil {
		return s
	}
	at, _ := slices.BinarySearchFunc(e.sets, rrtype, func(s rrset, t uint16) int { return compareTypes(s.rrtype, t) })
	e.sets = slices.Insert(e.sets, at, rrset{rrtype: rrtype})
	return &e.sets[at]
}

func (e *entry) add(rr dns.RR) {
	s := e.make(rr.Header().Rrtype)
	e.alias = e.alias || rr.Header().Rrtype == dns.TypeCNAME
	s.rrs = append(s.rrs, rr)
}

// clone returns a copy whose sets may be replaced.
func (e *entry) clone() *entry {
	out := *e
	out.sets = slices.Clone(e.sets)
	return &out
}

// empty reports whether the name is an empty non-terminal (RFC 8499 §7), which has no NSEC record.
func (e *entry) empty() bool { return len(e.sets) == 0 && e.unready == "" }

// compareTypes puts SOA and NS first, as RFC 1035 §5.2 wants and people expect, then goes by number.
func compareTypes(a, b uint16) int {
	rank := func(t uint16) int {
		switch t {
		case dns.TypeSOA:
			return 0
		case dns.TypeNS:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// served reports whether the entry answers for a type with records.
func (e *entry) served(t uint16) bool {
	s := e.set(t)
	return s != nil && s.unready == ""
}

// ready reports whether something may be said of every type.
func (e *entry) ready() bool {
	return e.unready == "" && !slices.ContainsFunc(e.sets, func(s rrset) bool { return s.unready != "" })
}

// any picks the one RRset that stands for all of them (RFC 8482 §4.1); TypeANY, which no name has, when there is none.
func (e *entry) any() uint16 {
	for _, t := range []uint16{dns.TypeNS, dns.TypeSRV, dns.TypeA, dns.TypeAAAA} {
		if e.served(t) {
			return t
		}
	}
	for i := range e.sets {
		if e.sets[i].unready == "" {
			return e.sets[i].rrtype
		}
	}
	return dns.TypeANY
}

// sum is what the entry adds to the zone's digest: its name and its records without signatures. buf is scratch.
func (e *entry) sum(buf []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(e.wire())
	h.Write([]byte(e.unready))
	for _, s := range e.sets {
		if s.rrtype == dns.TypeNSEC {
			continue
		}
		h.Write([]byte{0, byte(s.rrtype >> 8), byte(s.rrtype)})
		h.Write([]byte(s.unready))
		for _, rr := range s.rrs {
			if n, err := packRR(rr, buf, 0, nil, false); err == nil {
				h.Write(buf[:n])
			}
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// writeTo writes the entry in master format (RFC 1035 §5).
func (e *entry) writeTo(b *strings.Builder) {
	line := func(s string) {
		b.WriteString(s)
		b.WriteByte('\n')
	}
	if e.unready != "" {
		line("; not ready: " + e.name + "\t" + e.unready)
	}
	for _, s := range e.sets {
		if s.unready != "" {
			line("; not ready: " + e.name + "\t" + dns.Type(s.rrtype).String() + "\t" + s.unready)
		}
		for _, rr := range slices.Concat(s.rrs, s.sigs) {
			line(rr.String())
		}
	}
}
