package zone

import (
	"bytes"
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// Bits of a message's header (RFC 1035 §4.1.1).
const (
	flagAA = 0x04
	flagTC = 0x02
)

// Answer implements front.Answerer: what Lookup says, from packed forms. It misses whatever needs thought: meta
// types, names that are not ready, and answers too long to be packed.
func (s *Snapshot) Answer(q *front.Question, msg []byte, n, limit int) front.Result {
	if isMeta(q.Type) || q.Type == dns.TypeRRSIG && s.signer != nil {
		return front.Result{}
	}
	h := hash(q.Name)
	answers, e := s.locate(h, q.Name)
	if answers == nil {
		if labels, below := prefix(q.Name, s.apex); below {
			return s.deny(q, nil, labels, msg, n, min(limit, len(msg)))
		}
		return front.Result{}
	}
	if answers.miss(len(q.Name)) {
		return front.Result{}
	}
	f, ok := answers.find(len(q.Name), q.Type, q.DO)
	if !ok {
		return s.deny(q, e, q.Name[:len(q.Name)-len(s.apex)], msg, n, min(limit, len(msg)))
	}
	if len(f.cuts) == 0 {
		return front.Result{}
	}
	body, additional, ok := f.fit(min(limit, len(msg)) - n)
	msg[2] |= flagAA
	if !ok {
		// A part of a member list must not pass for all of it, so TC comes with empty sections (RFC 2181 §9).
		msg[2] |= flagTC
		return front.Result{Len: n, Owner: h}
	}
	binary.BigEndian.PutUint16(msg[6:], f.records)
	binary.BigEndian.PutUint16(msg[10:], additional)
	return front.Result{Len: n + copy(msg[n:], body), Owner: h}
}

// locate returns the packed answers and the entry of a name; nil when it does not exist.
func (s *Snapshot) locate(h uint64, wire []byte) (packed, *entry) {
	if slot := s.names.get(h, wire); slot != nil {
		return slot.answers(), slot.entry
	}
	if len(wire) == len(s.apex) && bytes.Equal(wire, s.apex) {
		return s.top.packed, s.top
	}
	return nil, nil
}

// deny writes a negative answer: NODATA if the name has an entry, else NXDOMAIN. labels stand before the apex.
func (s *Snapshot) deny(q *front.Question, e *entry, labels, msg []byte, n, limit int) front.Result {
	r := front.Result{Rcode: dns.RcodeSuccess, Owner: s.owner}
	if e == nil {
		r.Rcode = dns.RcodeNameError
	}
	signed := q.DO && s.signer != nil
	soa, count := &s.denial, 1
	if signed {
		soa, count = &s.signedDenial, 1+len(s.negative.sigs)
	}
	end := soa.appendTo(msg, n, len(labels), limit)
	if signed {
		proof, k := s.proof(q.Name, e)
		for _, p := range proof[:k] {
			var records int
			end, records = p.appendNSEC(msg, end, headerLen+len(labels), limit)
			count += records
		}
	}
	msg[2] |= flagAA
	msg[3] |= r.Rcode
	if end == 0 {
		// RFC 4035 §3.1.1: what proves a denial may not be left out, so that TC is set.
		msg[2] |= flagTC
		r.Len = n
		return r
	}
	binary.BigEndian.PutUint16(msg[8:], uint16(count))
	r.Len = end
	return r
}

// proof returns the first k names whose NSEC records prove a denial (RFC 4035 §3.1.3): of a type, when the name has an
// entry, else of the name and of the wildcard that could have stood for it.
func (s *Snapshot) proof(wire []byte, e *entry) (owners [2]*entry, k int) {
	labels := wire[:len(wire)-len(s.apex)]
	switch {
	case e != nil && !e.empty():
		return [2]*entry{e}, 1
	case e != nil:
		// The NSEC record before an empty non-terminal names a successor below it (RFC 4035 §3.1.3.1, RFC 4592 §2.2.2).
		return [2]*entry{s.order.owner(labels, s.top)}, 1
	}
	var wildcard [maxWire + 2]byte
	star := append(append(wildcard[:0], 1, '*'), s.encloser(labels, wire)...)
	owners = [2]*entry{s.order.owner(labels, s.top), s.order.owner(star, s.top)}
	if owners[0] == owners[1] {
		return owners, 1
	}
	return owners, 2
}

// encloser returns the labels below the apex of the closest encloser (RFC 4592 §3.3.1) of a name that does not exist.
func (s *Snapshot) encloser(labels, wire []byte) []byte {
	for len(labels) > 0 {
		skip := 1 + int(labels[0])
		labels, wire = labels[skip:], wire[skip:]
		if len(labels) == 0 || s.names.get(hash(wire), wire) != nil {
			break
		}
	}
	return labels
}

// appendNSEC puts the entry's NSEC record and its signatures behind msg[:n], for a question whose name has the apex at
// offset apex. It returns the new length and the number of records; 0 if there is no room up to limit, or if n is 0.
func (e *entry) appendNSEC(msg []byte, n, apex, limit int) (end, records int) {
	f, ok := e.packed.find(int(e.wireLen), dns.TypeNSEC, true)
	if !ok || n == 0 || len(f.cuts) == 0 {
		return 0, 0
	}
	labels := e.labels()
	// The packed records begin with a pointer of two octets to the question; the first gets the owner's labels instead.
	if n+len(labels)+len(f.body) > limit {
		return 0, 0
	}
	const pointer = 0xc000 // RFC 1035 §4.1.4
	owner, to := n, pointer|apex
	n += copy(msg[n:], labels)
	for body := f.body; len(body) > 0; records++ {
		size := 12 + int(binary.BigEndian.Uint16(body[10:]))
		copy(msg[n:], body[:size])
		binary.BigEndian.PutUint16(msg[n:], uint16(to))
		to = pointer | owner
		n, body = n+size, body[size:]
	}
	return n, records
}
