package xfr

import (
	"fmt"

	"github.com/miekg/dns"
)

// refusal is why a request gets no transfer.
type refusal struct {
	rcode int
	// tsig is the error field of the answer's TSIG.
	tsig uint16
	// ede is an extended error (RFC 8914) that goes to those who sent EDNS; none is below 0.
	ede  int
	text string
}

func (e *refusal) Error() string { return fmt.Sprintf("%s: %s", dns.RcodeToString[e.rcode], e.text) }

// noEDE says that there is no extended error.
const noEDE = -1

// admit checks the request: its signature first (RFC 8945 §5.2), then its form, then the zone, then the asker.
func (t *transfer) admit(find func(string) (Offer, bool)) (Version, *refusal) {
	sig := CheckTSIG(t.w, t.r, t.server.key)
	if sig.Rcode != dns.RcodeSuccess {
		t.noTSIG = sig.Error == 0
		text := "the TSIG is not the one last record"
		if sig.Error != 0 {
			text = "the TSIG is not good: " + dns.RcodeToString[int(sig.Error)]
		}
		return nil, &refusal{rcode: sig.Rcode, tsig: sig.Error, ede: noEDE, text: text}
	}
	if no := t.form(); no != nil {
		return nil, no
	}
	offer, ok := find(t.event.Origin)
	if !ok || t.r.Question[0].Qclass != dns.ClassINET {
		// RFC 5936 §2.2.1: NOTAUTH from a server that is not authoritative for the zone; RFC 8914 §4.21.
		return nil, &refusal{rcode: dns.RcodeNotAuth, ede: int(dns.ExtendedErrorCodeNotAuthoritative), text: "no zone of ours has this apex"}
	}
	if no := t.policy(offer.Policy, sig.Signed); no != nil {
		return nil, no
	}
	v := offer.Zone.Version()
	if v == nil {
		// RFC 8914 §4.15: Not Ready. SERVFAIL makes the asker try again, here or elsewhere.
		return nil, &refusal{rcode: dns.RcodeServerFailure, ede: int(dns.ExtendedErrorCodeNotReady), text: "the zone is not complete yet"}
	}
	return v, nil
}

// form checks the sections. RFC 5936 §2.1: one question and nothing in answer and authority; RFC 1995 §3: an IXFR
// query has the asker's SOA in authority. RFC 1035 §4.1.1: FORMERR.
func (t *transfer) form() *refusal {
	r := t.r
	bad := func(text string) *refusal { return &refusal{rcode: dns.RcodeFormatError, ede: noEDE, text: text} }
	switch {
	case len(r.Question) != 1 || r.Opcode != dns.OpcodeQuery || r.Response:
		return bad("not a query with one question")
	case t.event.Type == dns.TypeAXFR && !t.tcp:
		// RFC 5936 §4.2 leaves AXFR over UDP undefined. It is our policy, not the query's form, that is against it.
		return &refusal{rcode: dns.RcodeRefused, ede: int(dns.ExtendedErrorCodeProhibited), text: "AXFR goes over TCP"}
	case len(r.Answer) > 0:
		return bad("records in the answer section")
	case t.event.Type == dns.TypeAXFR && len(r.Ns) > 0:
		return bad("records in the authority section")
	case t.event.Type == dns.TypeIXFR:
		if len(r.Ns) != 1 {
			return bad("an IXFR query has one SOA in its authority section")
		}
		soa, ok := r.Ns[0].(*dns.SOA)
		if !ok || dns.CanonicalName(soa.Hdr.Name) != t.event.Origin {
			return bad("the authority section has no SOA of this zone")
		}
		t.serial, t.incremental = soa.Serial, true
	case t.event.Type != dns.TypeAXFR:
		return bad("not a transfer")
	}
	return nil
}

// policy checks the asker. RFC 5936 §5, RFC 8914 §4.19: REFUSED and Prohibited.
func (t *transfer) policy(p Policy, signed bool) *refusal {
	no := func(text string) *refusal {
		return &refusal{rcode: dns.RcodeRefused, ede: int(dns.ExtendedErrorCodeProhibited), text: text}
	}
	switch {
	case !p.allows(t.event.Client.Addr()):
		return no("transfers do not go to this address")
	case p.Unsigned && !signed:
		return nil
	case !signed:
		return no("a transfer needs the TSIG key " + t.server.key.Name)
	case !t.server.key.is(t.r.IsTsig()):
		return no("this TSIG key is not for transfers; " + t.server.key.Name + " is")
	}
	return nil
}
