package zone

import (
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// reply turns an answer into a message for the asker of r that fits its transport.
func reply(r *dns.Msg, a Answer, proto string) *dns.Msg {
	m := new(dns.Msg)
	// RFC 1035 §4.1.1, RFC 4343 §4.1: id, RD and the question go back bit for bit, letter case included. RFC 4035 §3.1.6: an
	// authoritative server clears CD.
	m.SetReply(r)
	m.CheckingDisabled = false
	m.Rcode = a.Rcode
	m.Authoritative = a.AA
	m.Truncated = a.truncated
	m.Answer = ownedBy(a.Answer, r.Question[0].Name)
	// The snapshot's slices are shared by all queries, and writers append to and cut a message's sections.
	m.Ns = slices.Clone(a.Ns)
	m.Extra = slices.Clone(a.Extra)

	var opt *dns.OPT
	if asked := r.IsEdns0(); asked != nil {
		opt = answerOPT(asked, a, proto)
	}
	fit(m, budget(r, opt, proto))
	if asked := r.IsEdns0(); asked != nil {
		asked.SetUDPSize(sizeFor(m, asked))
	}
	if opt != nil {
		// RFC 6891 §6.1.1: an answer carries OPT if and only if the query did.
		m.Extra = append(m.Extra, opt)
	}
	return m
}

// answerOPT returns the OPT record for an answer to a query that had asked. It is never the query's own record, which
// would give its options and its Z bits back (RFC 6891 §6.1.2 and §6.1.4).
func answerOPT(asked *dns.OPT, a Answer, proto string) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(front.MaxUDPSize)
	// RFC 3225 §3: the DO bit is copied into the answer.
	opt.SetDo(asked.Do())
	if a.cookie != "" {
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: a.cookie})
	}
	if proto == "tcp" && has(asked, dns.EDNS0TCPKEEPALIVE) {
		// RFC 7828 §3.3.2: over TCP alone, in units of 100 ms.
		opt.Option = append(opt.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: uint16(front.TCPIdle / (100 * time.Millisecond))})
	}
	if a.EDE != 0 {
		// RFC 8914 §2: extended errors travel in OPT, hence only to those who sent one.
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: a.EDE, ExtraText: a.EDEText})
	}
	return opt
}

// sizeFor is the size that a query is to have once its answer fits. RFC 6891 §6.2.3: the one in the answer is this server's own, and
// CoreDNS copies it from the query. But it compresses only what does not fit the query's size (dns.Msg.Truncate), so an answer
// that fits by compression alone needs that (§6.2.4: below 512 it counts as 512).
func sizeFor(m *dns.Msg, asked *dns.OPT) uint16 {
	if !m.Compress {
		return front.MaxUDPSize
	}
	return min(max(asked.UDPSize(), dns.MinMsgSize), front.MaxUDPSize)
}

// budget returns how many octets the answer may have before opt, a TSIG and an NSID are added to it.
func budget(r *dns.Msg, opt *dns.OPT, proto string) int {
	// RFC 1035 §4.2.2: over TCP the length has 16 bits.
	size := dns.MaxMsgSize
	if proto == "udp" {
		// RFC 1035 §4.2.1: 512 octets without EDNS.
		size = dns.MinMsgSize
		if asked := r.IsEdns0(); asked != nil {
			// RFC 6891 §6.2.5: the smaller of what the asker takes and what this server sends.
			size = int(min(max(asked.UDPSize(), dns.MinMsgSize), front.MaxUDPSize))
		}
	}
	if opt != nil {
		size -= dns.Len(opt)
	}
	size -= front.NSIDRoom(r)
	if t := r.IsTsig(); t != nil {
		// RFC 8945 §5.3: the answer is signed with the query's key and algorithm, so its TSIG is as long as the query's;
		// other data of a BADTIME error has six octets (§5.2.3).
		size -= dns.Len(t) + 6
	}
	return size
}

// fit makes m at most size octets long. RFC 2181 §9: TC is not set for additional records that do not fit, so whole
// RRsets of them go first, the last one first. RFC 2181 §9 also has a client ignore a truncated answer; nobody can
// take a part of a member list for all of it when the answer is empty, so TC comes with empty sections.
func fit(m *dns.Msg, size int) {
	if m.Len() <= size {
		return
	}
	m.Compress = true
	for m.Len() > size && len(m.Extra) > 0 {
		m.Extra = withoutLastSet(m.Extra)
	}
	if m.Len() > size {
		m.Truncated = true
		m.Answer, m.Ns, m.Extra = nil, nil, nil
	}
}

// withoutLastSet cuts the last RRset off.
func withoutLastSet(rrs []dns.RR) []dns.RR {
	n := len(rrs) - 1
	last := rrs[n].Header()
	for n > 0 && rrs[n-1].Header().Rrtype == last.Rrtype && rrs[n-1].Header().Name == last.Name {
		n--
	}
	return rrs[:n:n]
}

// ownedBy returns rrs with the letter case of the name that was asked. Records with the right owner are shared, others
// copied.
func ownedBy(rrs []dns.RR, qname string) []dns.RR {
	if len(rrs) == 0 {
		return nil
	}
	out := slices.Clone(rrs)
	owner := rrs[0].Header().Name
	if owner == qname {
		return out
	}
	for i, rr := range out {
		if rr.Header().Name == owner { // not what an alias points to
			out[i] = dns.Copy(rr)
			out[i].Header().Name = qname
		}
	}
	return out
}

// soundOPT reports whether a message has one OPT record at most, and its name is the root (RFC 6891 §6.1.1 and §6.1.2).
func soundOPT(r *dns.Msg) bool {
	n := 0
	for _, rr := range r.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			n++
			if n > 1 || rr.Header().Name != "." {
				return false
			}
		}
	}
	return true
}

func has(opt *dns.OPT, code uint16) bool {
	return slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == code })
}

// wantsDNSSEC reports whether DO is set (RFC 3225).
func wantsDNSSEC(r *dns.Msg) bool {
	opt := r.IsEdns0()
	return opt != nil && opt.Do()
}
