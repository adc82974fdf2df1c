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

	// truncated says that the asker shall come back over TCP; cookie is for the COOKIE option, in hexadecimal.
	truncated bool
	cookie    string
}

// Lookup answers one question of class IN. qname is an absolute name in any letter case; the answer has the zone's
// own, lower case. do asks for the signatures of a signed zone, and for what proves a denial (RFC 3225).
func (s *Snapshot) Lookup(qname string, qtype uint16, do bool) Answer {
	var scratch [maxWire]byte
	wire, _ := appendWire(scratch[:0], qname)
	if _, below := prefix(wire, s.apex); !below {
		// RFC 8914 §4.21: Not Authoritative; RFC 1035 §4.1.1: REFUSED, which has no AA.
		return Answer{Rcode: dns.RcodeRefused, EDE: dns.ExtendedErrorCodeNotAuthoritative}
	}
	if a, ok := metaType(qtype); ok {
		return a
	}
	do = do && s.signer != nil
	a := Answer{AA: true}
	for range maxChain {
		e := s.find(wire)
		set := s.pick(e, qtype)
		switch {
		case e == nil || set == nil:
			a.Ns = s.denialFor(wire, e, do)
			if e == nil {
				// RFC 2308 §2.1, RFC 1035 §4.1.1: NXDOMAIN is authoritative and carries one SOA; after a CNAME it is about the
				// last name (RFC 6604 §2.1). Without an rcode it is NODATA, with one SOA too (RFC 2308 §2.2). RFC 8020 §2: an
				// empty non-terminal exists, so it is never NXDOMAIN. RFC 4035 §3.1.4.1: DS at our apex is the parent's, and
				// the child says NODATA.
				a.Rcode = dns.RcodeNameError
			}
			return a
		case e.unready != "":
			return notReady(e.unready)
		case set.unready != "":
			return notReady(set.unready)
		}
		if slices.Contains(a.Answer, set.rrs[0]) {
			return a // aliases in a circle; RFC 2181 §5: no record twice
		}
		// RFC 1034 §4.3.2 step 3a, RFC 2782 and RFC 1035 §3.3.11: the RRset, and the addresses of the names in it.
		a.Answer = append(a.Answer, set.records(qtype, do)...)
		a.Extra = slices.Concat(additionalSets(set.extra, do)...)
		cname, alias := set.rrs[0].(*dns.CNAME)
		if !alias || qtype == dns.TypeCNAME || qtype == dns.TypeANY || qtype == dns.TypeRRSIG {
			return a
		}
		wire, _ = appendWire(scratch[:0], cname.Target)
		if _, below := prefix(wire, s.apex); !below {
			return a // the asker goes on elsewhere
		}
	}
	return a
}

// maxChain bounds how many aliases are followed within the zone; the asker can go on from the last one.
const maxChain = 8

// pick returns the set that answers for a type: that of the type, the name's CNAME record (RFC 1034 §3.6.2), or the
// one that stands for all of them (RFC 8482 §4.1). It is nil when there is none. Of a name that is not ready it is any.
func (s *Snapshot) pick(e *entry, qtype uint16) *rrset {
	switch {
	case e == nil:
		return nil
	case e.unready != "":
		return &rrset{}
	case qtype == dns.TypeANY, qtype == dns.TypeRRSIG && s.signer != nil:
		return e.set(e.any())
	}
	if set := e.set(qtype); set != nil || !e.alias {
		return set
	}
	return e.set(dns.TypeCNAME)
}

// records returns what goes into the answer section. RRSIG is not a type of RRsets of its own: who asks for it gets the
// signatures of one RRset of the name.
func (s *rrset) records(qtype uint16, do bool) []dns.RR {
	switch {
	case qtype == dns.TypeRRSIG && len(s.sigs) > 0:
		return s.sigs
	case do:
		return slices.Concat(s.rrs, s.sigs)
	}
	return s.rrs
}

// denialFor returns the authority section of a negative answer.
func (s *Snapshot) denialFor(wire []byte, e *entry, do bool) []dns.RR {
	if !do {
		return s.negative.rrs
	}
	out := slices.Concat(s.negative.rrs, s.negative.sigs)
	proof, k := s.proof(wire, e)
	for _, p := range proof[:k] {
		out = append(out, p.set(dns.TypeNSEC).records(dns.TypeNSEC, true)...)
	}
	return out
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
	// RFC 8906 §3.1.2: meta types that are not supported, MAILA and MAILB too, may get NOTIMP.
	return Answer{Rcode: dns.RcodeNotImplemented}, true
}

// notReady is the answer where nothing is known for certain. A denial or a part of a set would be cached and acted on:
// half a member list boots a second cluster.
func notReady(why string) Answer {
	// RFC 8914 §4.15: Not Ready; RFC 1035 §4.1.1: SERVFAIL, which has no AA. RFC 9520 §3.2: cached five minutes at most.
	return Answer{Rcode: dns.RcodeServerFailure, EDE: dns.ExtendedErrorCodeNotReady, EDEText: why}
}
