package front

import (
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"
)

// optLen is the length in octets of an OPT record without options (RFC 6891 §6.1.2).
const optLen = 11

// MaxNSID is the longest NSID in octets: a host name (HOST_NAME_MAX of Linux). 512 octets hold it, every other option and the
// longest question.
const MaxNSID = 64

// NSIDRoom is how many octets an answer to r is to leave free for the identity that plugin nsid adds behind the zone's back.
func NSIDRoom(r *dns.Msg) int {
	if opt := r.IsEdns0(); opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0NSID }) {
		return 4 + MaxNSID
	}
	return 0
}

// query is what the engine reads of a packet.
type query struct {
	end  int    // of the question, from the packet's first octet on
	size uint16 // the sender's UDP payload size, 0 without EDNS
	edns bool
	do   bool // RFC 3225
	nsid bool // RFC 5001
	// keepalive: edns-tcp-keepalive was sent (RFC 7828).
	keepalive bool
	// cookie is the content of the first COOKIE option, in the packet; nil when there is none.
	cookie []byte
}

// read reads a packet of at least a header with QR=0. It is false for everything but one plain question of class IN
// with an OPT record at most: the full server tells those queries' many kinds and mistakes apart.
func (q *query) read(packet []byte) bool {
	// The header's other bits mean nothing in a query; CoreDNS ignores them, too.
	// RFC 1035 §4.1.1, RFC 9619 §4: one question; QUERY has no other records but additional ones.
	if packet[2]&flagOpcode != 0 || string(packet[4:11]) != "\x00\x01\x00\x00\x00\x00\x00" || packet[11] > 1 {
		return false
	}
	end := nameEnd(packet)
	if end == 0 || len(packet) < end+4 || binary.BigEndian.Uint16(packet[end+2:]) != dns.ClassINET {
		return false
	}
	q.end = end + 4
	if packet[11] == 0 {
		return len(packet) == q.end
	}
	return q.readOPT(packet[q.end:])
}

// nameEnd returns where the question's name ends, 0 for one that is cut, compressed or too long.
func nameEnd(packet []byte) int {
	for off := headerLen; off < len(packet); {
		c := int(packet[off])
		off++
		if c == 0 {
			// RFC 1035 §3.1: 255 octets at most, the root label included.
			if off-headerLen > 255 {
				return 0
			}
			return off
		}
		if c > 63 {
			return 0
		}
		off += c
	}
	return 0
}

// readOPT reads the rest of a packet with one additional record. It is false unless that is a well-formed OPT record of
// EDNS version 0 (RFC 6891 §6.1.2), alone.
func (q *query) readOPT(rr []byte) bool {
	const version, flags, length = 6, 7, 9
	if len(rr) < optLen || rr[0] != 0 || binary.BigEndian.Uint16(rr[1:]) != dns.TypeOPT || rr[version] != 0 {
		return false
	}
	q.edns, q.size, q.do = true, binary.BigEndian.Uint16(rr[3:]), rr[flags]&0x80 != 0
	options := rr[optLen:]
	if int(binary.BigEndian.Uint16(rr[length:])) != len(options) {
		return false
	}
	for len(options) > 0 {
		if len(options) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(options), 4+int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < n || !q.readOption(code, options[4:n]) {
			return false
		}
		options = options[n:]
	}
	return true
}

// hasOPT reports whether a query carries an OPT record, of any version and however malformed its options are, and its DO
// bit. It looks where resolvers put it: right behind the question. RFC 6891 §7: also FORMERR comes with OPT then, so that
// nobody takes this server for one without EDNS.
func hasOPT(packet []byte) (do, ok bool) {
	end := nameEnd(packet)
	if end == 0 || string(packet[6:10]) != "\x00\x00\x00\x00" || string(packet[10:12]) == "\x00\x00" || len(packet) < end+4+optLen {
		return false, false
	}
	const flags = 7
	rr := packet[end+4:]
	return rr[flags]&0x80 != 0, rr[0] == 0 && binary.BigEndian.Uint16(rr[1:]) == dns.TypeOPT
}

// readOption takes one option. Those that are not known are ignored (RFC 6891 §6.1.2).
func (q *query) readOption(code uint16, data []byte) bool {
	switch code {
	case dns.EDNS0NSID:
		q.nsid = true
	case dns.EDNS0COOKIE:
		// Of several cookies the first counts.
		if q.cookie == nil {
			q.cookie = data
		}
	case dns.EDNS0TCPKEEPALIVE:
		// RFC 7828 §3.2.1: clients send no timeout.
		q.keepalive = true
		return len(data) == 0
	case dns.EDNS0LLQ, dns.EDNS0UL, dns.EDNS0SUBNET, dns.EDNS0EXPIRE, dns.EDNS0EDE, dns.EDNS0REPORTING, dns.EDNS0ZONEVERSION:
		// The full server refuses these with FORMERR when they are malformed (RFC 7871 §7.1.2 asks for it).
		return false
	}
	return true
}

// room returns the length of the answer's OPT record.
func (e *engine) room(x *exchange) int {
	if !x.query.edns {
		return 0
	}
	n := optLen
	if x.sendsNSID() {
		n += 4 + len(x.settings.NSID)
	}
	if x.secrets != nil {
		n += 4 + cookieLen
	}
	if x.sendsKeepalive() {
		n += 4 + 2
	}
	return n
}

// sendsNSID: RFC 5001 §2.2: a server that is configured for it answers those who ask. A truncated answer of the rate
// limit stays small.
func (x *exchange) sendsNSID() bool { return x.query.nsid && len(x.settings.NSID) > 0 && !x.slip }

// sendsKeepalive: RFC 7828 §3.3.1: over UDP the option is ignored.
func (x *exchange) sendsKeepalive() bool { return x.query.keepalive && x.tcp }

// appendOPT appends an OPT record to the answer in out[:n] and returns the answer's length. RFC 6891 §6.1.1: an answer
// carries OPT if and only if the query did.
func (e *engine) appendOPT(out []byte, n int, x *exchange, cookie *cookieReply, status cookieStatus) int {
	opt := out[n : n+optLen]
	// RFC 6891 §6.1.2: owner root, the size that this server takes, extended RCODE and version 0, no flags.
	copy(opt, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00")
	if x.query.do {
		// RFC 3225 §3: DO is copied; RFC 6891 §6.1.4: the other bits are not.
		opt[7] = 0x80
	}
	end := n + optLen
	if x.sendsNSID() {
		end = appendOption(out, end, dns.EDNS0NSID, x.settings.NSID)
	}
	if status == cookieValid || status == cookieInvalid {
		end = appendOption(out, end, dns.EDNS0COOKIE, cookie[:])
	}
	if x.sendsKeepalive() {
		var timeout [2]byte
		binary.BigEndian.PutUint16(timeout[:], e.keepalive)
		end = appendOption(out, end, dns.EDNS0TCPKEEPALIVE, timeout[:])
		e.promised = true
	}
	binary.BigEndian.PutUint16(opt[9:], uint16(end-n-optLen))
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])+1)
	return end
}

func appendOption(out []byte, n int, code uint16, data []byte) int {
	binary.BigEndian.PutUint16(out[n:], code)
	binary.BigEndian.PutUint16(out[n+2:], uint16(len(data)))
	return n + 4 + copy(out[n+4:], data)
}

// lower writes the wire form of a name, 255 octets at most, to dst in lower case (RFC 4343 §3). Lengths of labels are
// 63 at most and 'A' is 65, so they need not be told from letters.
func lower(dst *[256]byte, name []byte) {
	copy(dst[:], name)
	const ones = 0x0101010101010101
	for i := 0; i < len(name) && i+8 <= len(dst); i += 8 {
		w := binary.LittleEndian.Uint64(dst[i:])
		// Eight octets at a time: the top bit of each says whether it is in 'A' to 'Z', and becomes its bit 0x20.
		low := w &^ (0x80 * ones)
		upper := (low + (0x80-'A')*ones) &^ (low + (0x7f-'Z')*ones) &^ w & (0x80 * ones)
		binary.LittleEndian.PutUint64(dst[i:], w|upper>>2)
	}
}
