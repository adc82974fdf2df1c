package zone

import (
	"slices"

	"github.com/miekg/dns"
)

// Answer is what the zone says to one question. Its records belong to the snapshot: they may be sent, never changed.
type Answer struct {
	// Rcode is a dns.Rcode… value.
	Rcode int
	// AA says that the answer is authoritative.
	AA bool
	// Answer, Ns and Extra are the sections; Extra is without OPT.
	Answer, Ns, Extra []dns.RR
	// EDE is an extended error code (RFC 8914), for those who sent EDNS; 0 for none.
	EDE uint16
	// EDEText says more of EDE to a person.
	EDEText string
}

// Lookup answers one question of class IN. qname is an absolute name in any letter case; the answer has the zone's
// own, lower case.
func (s *Snapshot) Lookup(qname string, qtype uint16) Answer {
	var scratch [maxWire]byte
	wire, _ := appendWire(scratch[:0], qname)
	if _, below := prefix(wire, s.apex); !below {
		// RFC 8914 §4.21: Not Authoritative; RFC 1035 §4.1.1: REFUSED, which has no AA.
		return Answer{Rcode: dns.RcodeRefused, EDE: dns.ExtendedErrorCodeNotAuthoritative}
	}
	if a, ok := metaType(qtype); ok {
		return a
	}
	e := s.find(wire)
	if e == nil {
		// RFC 2308 §2.1, RFC 1035 §4.1.1: NXDOMAIN is authoritative and carries one SOA, nothing else.
		return Answer{Rcode: dns.RcodeNameError, AA: true, Ns: s.negative}
	}
	if e.unready != "" {
		return notReady(e.unready)
	}
	if qtype == dns.TypeANY {
		qtype = e.any()
	}
	set := e.set(qtype)
	if set == nil {
		// RFC 2308 §2.2: NODATA is NOERROR with one SOA. RFC 8020 §2: an empty non-terminal exists, so it is never
		// NXDOMAIN. RFC 4035 §3.1.4.1: DS at our apex is the parent's, and the child says NODATA.
		return Answer{Rcode: dns.RcodeSuccess, AA: true, Ns: s.negative}
	}
	if set.unready != "" {
		return notReady(set.unready)
	}
	// RFC 1034 §4.3.2 step 3a, RFC 2782 and RFC 1035 §3.3.11: the RRset, and the addresses of the names in it.
	return Answer{Rcode: dns.RcodeSuccess, AA: true, Answer: set.rrs, Extra: slices.Concat(additionalSets(set.extra, false)...)}
}

// isMeta reports whether a type is not data of a zone, but for ANY.
func isMeta(qtype uint16) bool {
	return qtype == dns.TypeNone || qtype == dns.TypeOPT || qtype >= dns.TypeNXNAME && qtype < dns.TypeANY
}

// metaType answers for the types that are not data of a zone (RFC 6895 §3.1); ANY is the only one that is.
func metaType(qtype uint16) (Answer, bool) {
	switch {
	case !isMeta(qtype):
		return Answer{}, false
	case qtype == dns.TypeAXFR || qtype == dns.TypeIXFR:
		// RFC 5936 §2.2.1: REFUSED by policy; plugin transfer, when it is there, answers before us.
		return Answer{Rcode: dns.RcodeRefused, EDE: dns.ExtendedErrorCodeProhibited}, true
	case qtype == dns.TypeNXNAME:
		// RFC 9824 §3.5: NXNAME must not be asked for: FORMERR with EDE 30.
		return Answer{Rcode: dns.RcodeFormatError, EDE: dns.ExtendedErrorCodeInvalidQueryType}, true
	case qtype == dns.TypeNone || qtype == dns.TypeOPT || qtype == dns.TypeTSIG || qtype == dns.TypeTKEY:
		// RFC 6895 §3.1: 0 is reserved; RFC 6891 §6.1.1, RFC 8945 §4.1: pseudo-records of a message, not of a zone.
		// RFC 2930 §2: TKEY is for servers that negotiate keys.
		return Answer{Rcode: dns.RcodeFormatError}, true
	}
	// RFC 8906 §3.1.4: meta types that are not supported, MAILA and MAILB too, may get NOTIMP.
	return Answer{Rcode: dns.RcodeNotImplemented}, true
}

// notReady is the answer where nothing is known for certain. A denial or a part of a set would be cached and acted on:
// half a member list boots a second cluster.
func notReady(why string) Answer {
	// RFC 8914 §4.15: Not Ready; RFC 1035 §4.1.1: SERVFAIL, which has no AA. RFC 9520 §3.2: cached five minutes at most.
	return Answer{Rcode: dns.RcodeServerFailure, EDE: dns.ExtendedErrorCodeNotReady, EDEText: why}
}
