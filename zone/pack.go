package zone

import (
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"
)

// packed holds a name and the packed answers for its types in one run of octets, so that a query touches few lines
// of memory:
//
//	the name in wire form
//	u8   miss: 1 if the full server has to give every answer
//	u16  the type that ANY is answered with (RFC 8482), 0 for none
//	per answer:
//	  u16  type; 0 ends the list
//	  u8   dnssec: 1 if it is for those who set DO
//	  u8   cuts, 0 if this answer is not packed and the full server has to give it
//	  u16  octets of this answer after this field
//	  u16  records in the answer section
//	  per cut: u16 length and u16 additional records, shortest first
//	  the sections as they follow a question for this name at offset 12
//
// Pointers in the sections go to the question or within the sections, so an answer may be cut at any of its cuts.
type packed []byte

// miss reports whether the full server has to give every answer.
func (p packed) miss(nameLen int) bool { return p[nameLen] != 0 }

// form is one packed answer.
type form struct {
	// records is the number of records in the answer section.
	records uint16
	// cuts are lengths of body with the number of additional records they leave, four octets each; none for an answer that is not packed.
	cuts []byte
	body []byte
}

// find returns the packed answer for a type. ok is false when the name has no such type. nameLen is the length of the
// name.
func (p packed) find(nameLen int, qtype uint16, do bool) (f form, ok bool) {
	if qtype == dns.TypeANY {
		qtype = binary.BigEndian.Uint16(p[nameLen+1:])
	}
	for at := nameLen + 3; ; {
		t := binary.BigEndian.Uint16(p[at:])
		if t == 0 {
			return f, ok
		}
		size := int(binary.BigEndian.Uint16(p[at+4:]))
		if t == qtype && (do || p[at+2] == 0) {
			rest := p[at+6 : at+6+size]
			cuts := 4 * int(p[at+3])
			if cuts == 0 {
				return form{}, true
			}
			f = form{binary.BigEndian.Uint16(rest), rest[2 : 2+cuts], rest[2+cuts:]}
			ok = true
			if p[at+2] == 1 || !do {
				return f, true // the form for DO comes after the other
			}
		}
		at += 6 + size
	}
}

// fit returns the longest part of the answer that has at most size octets: RFC 2181 §9 lets whole additional RRsets
// be left out without a word. ok is false when not even the answer section fits.
func (f form) fit(size int) (body []byte, additional uint16, ok bool) {
	for at := len(f.cuts) - 4; at >= 0; at -= 4 {
		if n := int(binary.BigEndian.Uint16(f.cuts[at:])); n <= size {
			return f.body[:n], binary.BigEndian.Uint16(f.cuts[at+2:]), true
		}
	}
	return nil, 0, false
}

// packer packs entries. It is scratch space for one goroutine.
type packer struct {
	msg  []byte
	out  []byte
	seen map[string]int
}

func newPacker() *packer { return &packer{msg: make([]byte, dns.MaxMsgSize), seen: map[string]int{}} }

// pack fills in the entry's packed answers.
func (p *packer) pack(e *entry) {
	p.out = append(append(p.out[:0], e.wire()...), 0)
	if e.unready != "" || e.alias {
		p.out[e.wireLen] = 1
	}
	representative := e.any()
	if representative == dns.TypeANY {
		representative = 0
	}
	p.out = binary.BigEndian.AppendUint16(p.out, representative)
	for i := range e.sets {
		s := &e.sets[i]
		p.form(e.name, s, false)
		if len(s.sigs) > 0 {
			p.form(e.name, s, true)
		}
	}
	p.out = append(p.out, 0, 0)
	e.packed = slices.Clone(p.out)
}

// form appends one packed answer to out.
func (p *packer) form(name string, s *rrset, do bool) {
	head := len(p.out)
	p.out = binary.BigEndian.AppendUint16(p.out, s.rrtype)
	p.out = append(p.out, 0, 0, 0, 0)
	if do {
		p.out[head+2] = 1
	}
	if s.unready != "" {
		return
	}
	body, records, cuts, ok := p.sections(name, s, do)
	size := 2 + 4*len(cuts) + len(body)
	if !ok || len(cuts) > 255 || size > 0xffff {
		return // too long to be packed, and hence too long for UDP
	}
	p.out[head+3] = byte(len(cuts))
	binary.BigEndian.PutUint16(p.out[head+4:], uint16(size))
	p.out = binary.BigEndian.AppendUint16(p.out, uint16(records))
	for _, c := range cuts {
		p.out = binary.BigEndian.AppendUint16(p.out, uint16(c.length))
		p.out = binary.BigEndian.AppendUint16(p.out, uint16(c.additional))
	}
	p.out = append(p.out, body...)
}

type cut struct{ length, additional int }

// sections packs the answer and the additional section as they follow a question at offset 12.
func (p *packer) sections(name string, s *rrset, do bool) (body []byte, records int, cuts []cut, ok bool) {
	clear(p.seen)
	at, err := dns.PackDomainName(name, p.msg, headerLen, p.seen, true)
	if err != nil {
		return nil, 0, nil, false
	}
	at += 4
	begin := at
	put := func(rrs []dns.RR) bool {
		for _, rr := range rrs {
			if at, err = packRR(rr, p.msg, at, p.seen, true); err != nil {
				return false
			}
		}
		return true
	}
	ok = put(s.rrs)
	records = len(s.rrs)
	if do {
		ok = ok && put(s.sigs)
		records += len(s.sigs)
	}
	cuts = append(cuts, cut{at - begin, 0})
	additional := 0
	for _, x := range additionalSets(s.extra, do) {
		ok = ok && put(x)
		additional += len(x)
		cuts = append(cuts, cut{at - begin, additional})
	}
	return p.msg[begin:at], records, cuts, ok
}

// additionalSets lists what goes into an additional section in the order in which it may be cut off from the end: the
// addresses first and then, for those who want them, their signatures.
func additionalSets(extra []*rrset, do bool) (out [][]dns.RR) {
	for _, x := range extra {
		out = append(out, x.rrs)
	}
	if !do {
		return out
	}
	for _, x := range extra {
		if len(x.sigs) > 0 {
			out = append(out, x.sigs)
		}
	}
	return out
}

// headerLen is the length of a message's header in octets (RFC 1035 §4.1.1), and so the offset of the question.
const headerLen = 12
