package zone

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// relocatable is a run of packed records whose owners are at or below the apex, to be put behind a question for any
// name of the zone. Their compression pointers are as if the question were for the apex itself.
type relocatable struct {
	body []byte
	// pointers are the places of compression pointers in body.
	pointers []int
}

// relocate packs records. None when they do not fit a message.
func relocate(rrs []dns.RR) relocatable {
	msg := make([]byte, dns.MaxMsgSize)
	seen := map[string]int{}
	at, err := dns.PackDomainName(apexOf(rrs), msg, headerLen, seen, true)
	if err != nil {
		return relocatable{}
	}
	at += 4
	begin := at
	var r relocatable
	for _, rr := range rrs {
		from := at
		if at, err = packRR(rr, msg, at, seen, true); err != nil {
			return relocatable{}
		}
		r.pointers = append(r.pointers, pointersOf(msg, from, begin, rr)...)
	}
	r.body = append(r.body, msg[begin:at]...)
	return r
}

func apexOf(rrs []dns.RR) string { return rrs[0].Header().Name }

// pointersOf finds the compression pointers of a packed record: that of its owner and, in an SOA record, the only one
// here whose RDATA may be compressed (RFC 3597 §4), those of MNAME and RNAME.
func pointersOf(msg []byte, at, begin int, rr dns.RR) (out []int) {
	name := func() {
		for msg[at] != 0 {
			if msg[at] >= 0xc0 {
				out = append(out, at-begin)
				at += 2
				return
			}
			at += 1 + int(msg[at])
		}
		at++
	}
	name()
	if rr.Header().Rrtype == dns.TypeSOA {
		at += 10
		name()
		name()
	}
	return out
}

// appendTo puts the records behind msg[:n], a message with a question for a name that has prefix octets before the
// apex. It returns the new length, 0 if there is no room up to limit.
func (r *relocatable) appendTo(msg []byte, n, prefix, limit int) int {
	if len(r.body) == 0 || n+len(r.body) > limit {
		return 0
	}
	copy(msg[n:], r.body)
	for _, at := range r.pointers {
		// RFC 1035 §4.1.4: two one bits and an offset of 14 bits, which a question and one section never exceed.
		p := binary.BigEndian.Uint16(msg[n+at:])
		binary.BigEndian.PutUint16(msg[n+at:], p+uint16(prefix))
	}
	return n + len(r.body)
}
