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
	if isMeta(q.Type) {
		return front.Result{}
	}
	h := hash(q.Name)
	e := s.names.get(h, q.Name)
	if e == nil && len(q.Name) == len(s.apex) && bytes.Equal(q.Name, s.apex) {
		e = s.top
	}
	if e == nil {
		labels, below := prefix(q.Name, s.apex)
		if !below {
			return front.Result{}
		}
		return s.deny(dns.RcodeNameError, s.owner, len(labels), msg, n, limit)
	}
	if e.unready != "" {
		return front.Result{}
	}
	f, ok := e.packed.find(int(e.wireLen), q.Type, q.DO)
	if !ok {
		return s.deny(dns.RcodeSuccess, h, len(e.labels()), msg, n, limit)
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

// deny writes a negative answer to a question whose name has prefix octets before the apex.
func (s *Snapshot) deny(rcode uint8, owner uint64, prefix int, msg []byte, n, limit int) front.Result {
	end := s.denial.appendTo(msg, n, prefix, min(limit, len(msg)))
	if end == 0 {
		return front.Result{}
	}
	msg[2] |= flagAA
	msg[3] |= rcode
	binary.BigEndian.PutUint16(msg[8:], uint16(len(s.negative)))
	return front.Result{Len: end, Rcode: rcode, Owner: owner}
}
