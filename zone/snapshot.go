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

	"github.com/etcd-dns/etcd-dns/zone/sign"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
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
	// unready counts the names of which nothing is known yet, records all records.
	unready, records int
	// negative is the SOA record of NXDOMAIN and NODATA, and what signs it.
	negative rrset
	// denial and signedDenial are the packed forms of negative, without and with its signatures.
	denial, signedDenial relocatable
	// signer signed the zone; nil for a zone without DNSSEC.
	signer sign.Signer
	// journal holds the latest changes that led here, oldest first.
	journal []xfr.Delta
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
	h.Write([]byte(signerID(s.signer)))
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

// count adds an entry to the totals, or takes it off.
func (s *Snapshot) count(e *entry, sign int, p *packer) {
	if e.unready != "" {
		s.unready += sign
	}
	for _, set := range e.sets {
		s.records += sign * (len(set.rrs) + len(set.sigs))
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
	if slot := s.names.get(hash(wire), wire); slot != nil {
		return slot.entry
	}
	return nil
}

// seal gives the content its serial. The receiver is not changed; the two share all but the SOA record.
func (s *Snapshot) seal(serial uint32) (*Snapshot, error) {
	out := *s
	out.serial = serial
	apex := s.top.clone()
	set := apex.set(dns.TypeSOA)
	soa := *set.rrs[0].(*dns.SOA)
	soa.Serial = serial
	set.rrs, set.sigs = []dns.RR{&soa}, nil
	if s.signer != nil {
		if err := set.sign(s.signer); err != nil {
			return nil, err
		}
		out.records += len(set.sigs)
	}
	newPacker().pack(apex)
	out.top = apex
	out.negative = set.withTTL(min(soa.Hdr.Ttl, soa.Minttl))
	out.denial = relocate(out.negative.rrs)
	if s.signer != nil {
		out.signedDenial = relocate(slices.Concat(out.negative.rrs, out.negative.sigs))
	}
	return &out, nil
}

// withTTL returns a copy with another TTL, as the SOA of a negative answer has it: the smaller of its own TTL and
// MINIMUM (RFC 2308 §3 and §5). Signatures hold for the original TTL (RFC 4034 §3.1.4).
func (s *rrset) withTTL(ttl uint32) rrset {
	out := rrset{rrtype: s.rrtype}
	for _, rr := range s.rrs {
		rr = dns.Copy(rr)
		rr.Header().Ttl = ttl
		out.rrs = append(out.rrs, rr)
	}
	for _, rr := range s.sigs {
		rr = dns.Copy(rr)
		rr.Header().Ttl = ttl
		out.sigs = append(out.sigs, rr)
	}
	return out
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
