package zone

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"iter"
	"math/bits"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Snapshot is one version of the zone. It never changes once Compile has returned it, so any number of goroutines may
// read it.
type Snapshot struct {
	domain string
	// apex is the domain in wire form, owner its hash.
	apex  []byte
	owner uint64

	serial  uint32
	content content
	// top is the apex's entry, the only one that has the serial in it.
	top *entry
	// names holds every name below the apex, empty non-terminals included; order holds the same.
	names *table
	order order
	// unready counts the names of which nothing is known yet.
	unready int
	// negative is the authority section of NXDOMAIN and NODATA, denial its packed form.
	negative []dns.RR
	denial   relocatable
}

// Serial returns the serial of the zone's SOA record; 0 while SOA is not served, since such a zone has no version.
func (s *Snapshot) Serial() uint32 { return s.serial }

// Domain returns the zone's apex: absolute, lower case, with the trailing dot.
func (s *Snapshot) Domain() string { return s.domain }

// Digest returns the digest of the content without the serial, in hexadecimal. Two snapshots with one digest give the
// same answers, but for the serial.
func (s *Snapshot) Digest() string {
	h := sha256.New()
	h.Write(s.apex)
	h.Write(s.content.bytes())
	return hex.EncodeToString(h.Sum(nil))
}

// content is the sum of the entries' digests, modulo 2^256: it does not hang on their order, and a change costs what
// changed. It tells contents apart that differ by accident. Whoever could make two contents with one sum on purpose
// holds the bundle, and needs no such art.
type content [4]uint64

func (c *content) add(sum [sha256.Size]byte) {
	carry := uint64(0)
	for i := range c {
		c[i], carry = bits.Add64(c[i], binary.BigEndian.Uint64(sum[8*i:]), carry)
	}
}

func (c *content) subtract(sum [sha256.Size]byte) {
	borrow := uint64(0)
	for i := range c {
		c[i], borrow = bits.Sub64(c[i], binary.BigEndian.Uint64(sum[8*i:]), borrow)
	}
}

func (c *content) bytes() (out []byte) {
	for _, word := range c {
		out = binary.BigEndian.AppendUint64(out, word)
	}
	return out
}

// fill makes the tables of a snapshot from nothing.
func (s *Snapshot) fill(entries map[string]*entry, p *packer) {
	names := new(table).edit(len(entries))
	below := make([]*entry, 0, len(entries))
	for _, e := range entries {
		s.count(e, 1, p)
		if len(e.labels()) > 0 {
			names.put(e)
			below = append(below, e)
		}
	}
	s.names = names.done()
	s.order = sorted(below).done()
}

// change makes the tables of a snapshot from another's: entries replace theirs, and what is gone and has no successor
// goes.
func (s *Snapshot) change(base *Snapshot, entries map[string]*entry, gone map[string]bool, p *packer) {
	s.content, s.unready = base.content, base.unready
	names, order := base.names.edit(base.names.count+len(entries)), base.order.edit()
	for name := range gone {
		if old := base.entry(name); old != nil && entries[name] == nil {
			names.remove(old.wire())
			order.remove(old.labels())
			s.count(old, -1, p)
		}
	}
	for _, e := range entries {
		old := base.find(e.wire())
		if old != nil {
			if old.same(e, p.msg) {
				continue
			}
			s.count(old, -1, p)
		}
		s.count(e, 1, p)
		if len(e.labels()) > 0 {
			names.put(e)
			order.put(e)
		}
	}
	s.names, s.order = names.done(), order.done()
}

// count adds an entry to the totals, or takes it off.
func (s *Snapshot) count(e *entry, sign int, p *packer) {
	if e.unready != "" {
		s.unready += sign
	}
	if sign > 0 {
		s.content.add(e.sum(p.msg))
	} else {
		s.content.subtract(e.sum(p.msg))
	}
}

// same reports whether two entries of one name say the same. buf is scratch.
func (e *entry) same(o *entry, buf []byte) bool {
	extras := func(a, b rrset) bool { return slices.Equal(a.extra, b.extra) }
	return bytes.Equal(e.packed, o.packed) && slices.EqualFunc(e.sets, o.sets, extras) && e.sum(buf) == o.sum(buf)
}

// all yields the entries in canonical order, apex first.
func (s *Snapshot) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if yield(s.top) {
			s.order.all()(yield)
		}
	}
}

// entry finds a name in lower case.
func (s *Snapshot) entry(name string) *entry {
	var scratch [maxWire]byte
	wire, ok := appendWire(scratch[:0], name)
	if !ok {
		return nil
	}
	return s.find(wire)
}

// find finds a name in wire form.
func (s *Snapshot) find(wire []byte) *entry {
	if len(wire) == len(s.apex) && bytes.Equal(wire, s.apex) {
		return s.top
	}
	return s.names.get(hash(wire), wire)
}

// contains reports whether a name in any letter case is at or below the apex.
func (s *Snapshot) contains(name string) bool {
	var scratch [maxWire]byte
	wire, ok := appendWire(scratch[:0], name)
	_, below := prefix(wire, s.apex)
	return ok && below
}

// seal gives the content its serial. The receiver is not changed; the two share all but the SOA record.
func (s *Snapshot) seal(serial uint32) *Snapshot {
	out := *s
	out.serial = serial
	apex := *s.top
	apex.sets = slices.Clone(apex.sets)
	set := apex.set(dns.TypeSOA)
	soa := *set.rrs[0].(*dns.SOA)
	soa.Serial = serial
	set.rrs = []dns.RR{&soa}
	newPacker().pack(&apex)
	out.top = &apex
	// RFC 2308 §3 and §5: the SOA of a negative answer has the smaller of its own TTL and MINIMUM.
	negative := soa
	negative.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	out.negative = []dns.RR{&negative}
	out.denial = relocate(out.negative)
	return &out
}

// complete reports whether everything is known, so that others may keep the zone as a whole.
func (s *Snapshot) complete() bool { return s.unready == 0 && s.top.ready() }

// versioned reports whether SOA is served, so that the content needs a serial of its own.
func (s *Snapshot) versioned() bool { return s.top.served(dns.TypeSOA) }

// WriteTo writes the zone in master format (RFC 1035 §5), one record a line, apex first and then in canonical order
// (RFC 4034 §6.1). Names that answer SERVFAIL because they are not known yet are comments.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	var total int64
	var b strings.Builder
	for e := range s.all() {
		b.Reset()
		e.writeTo(&b)
		n, err := io.WriteString(w, b.String())
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
