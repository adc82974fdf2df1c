// Package zone compiles a roster into an immutable DNS zone and answers from it as the CoreDNS plugin etcdsrv.
//
// Everything is decided when the roster changes: Compile is a pure function from a roster to a Snapshot, a Publisher
// swaps snapshots atomically, and a query costs one pointer load and two map look-ups. What is not known for certain
// is neither published nor denied: it is SERVFAIL.
package zone

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// Handler is the CoreDNS plugin etcdsrv. It borrows Zones and owns nothing, so that a reload of the Corefile may
// start a new instance before the old one ends.
type Handler struct {
	// Next is set by CoreDNS while it builds the chain, then read-only. What is in none of our zones goes there; we refuse it
	// without a next one, and when that has no answer.
	Next plugin.Handler

	zones *Zones
	guard guard
}

// NewHandler returns a handler that answers from the snapshots of zones. It gives out the cookies of a front and keeps
// its rate limit; shared is nil where there is no front.
func NewHandler(zones *Zones, shared *front.Shared) *Handler {
	return &Handler{zones: zones, guard: guard{shared}}
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return "etcdsrv" }

// Ready implements ready.Readiness: true from the first snapshot on. A node that waits for its cluster is ready,
// because it answers for all that is known.
func (h *Handler) Ready() bool { return !h.zones.empty() }

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	// RFC 1035 §4.1.2, RFC 9619 §4: a query has exactly one question. CoreDNS checks it for its own listeners.
	if len(r.Question) != 1 {
		return dns.RcodeFormatError, nil
	}
	if !soundOPT(r) {
		return dns.RcodeFormatError, nil
	}
	q := r.Question[0]
	snap := h.zones.lookup(q.Name)
	// RFC 1035 §3.2.4: the zones are of class IN.
	foreign := q.Qclass != dns.ClassINET || snap == nil && !h.zones.empty()
	if foreign && h.Next != nil {
		if rcode, err := plugin.NextOrFailure(h.Name(), h.Next, ctx, Limited(w, r, h.guard.shared), r); plugin.ClientWrite(rcode) {
			return rcode, err
		}
	}
	a := answer(snap, r, foreign)
	var about uint64
	if snap != nil && a.Rcode == dns.RcodeNameError {
		about = snap.owner
	} else {
		about, _ = owner(q.Name)
	}
	return write(w, r, h.guard.judge(w, r, &a, about))
}

// answer decides what to say. snap is nil while there is no zone yet, and for most of what is foreign: not of our zones.
func answer(snap *Snapshot, r *dns.Msg, foreign bool) Answer {
	q := r.Question[0]
	switch {
	case foreign:
		return outside(r)
	case r.Opcode == dns.OpcodeNotify:
		// RFC 1996 §3.10: NOTIFY is for secondaries, and this is a primary. RFC 2136 §2.2: NOTAUTH.
		return Answer{Rcode: dns.RcodeNotAuth}
	case r.Opcode == dns.OpcodeUpdate:
		// RFC 2136 §3.3: REFUSED where policy allows no update; the roster is the only source of this zone. RFC 8914 §4.19.
		return Answer{Rcode: dns.RcodeRefused, EDE: dns.ExtendedErrorCodeProhibited}
	case r.Opcode != dns.OpcodeQuery:
		// RFC 1035 §4.1.1: NOTIMP for the kinds of query that are not supported.
		return Answer{Rcode: dns.RcodeNotImplemented}
	case snap == nil:
		return notReady("no zone has been compiled yet")
	}
	return snap.Lookup(q.Name, q.Qtype, wantsDNSSEC(r))
}

// outside answers for what is in none of our zones. RFC 8914 §4.21: an authoritative server says Not Authoritative in
// its REFUSED.
func outside(r *dns.Msg) Answer {
	a := Answer{Rcode: dns.RcodeRefused, EDE: dns.ExtendedErrorCodeNotAuthoritative}
	q := r.Question[0]
	switch {
	case r.Opcode == dns.OpcodeNotify, r.Opcode == dns.OpcodeUpdate, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		// RFC 2136 §3.1.2, RFC 5936 §2.2.1: NOTAUTH from a server that is not authoritative for the zone. RFC 1996 has no
		// rcode of its own.
		a.Rcode = dns.RcodeNotAuth
	case r.Opcode != dns.OpcodeQuery:
		return Answer{Rcode: dns.RcodeNotImplemented} // RFC 1035 §4.1.1
	case q.Qclass != dns.ClassINET:
		// RFC 8914 §4.22: Not Supported. Here ends who asks for version.bind of class CH, unless plugin chaos answered.
		a.EDE = dns.ExtendedErrorCodeNotSupported
	}
	return a
}

// write sends a, if it is not nil. It returns success whatever a's rcode is: in a plugin's contract SERVFAIL and its
// like mean that nothing was written (coredns plugin/plugin.go).
func write(w dns.ResponseWriter, r *dns.Msg, a *Answer) (int, error) {
	if a == nil {
		return dns.RcodeSuccess, nil
	}
	state := request.Request{W: w, Req: r}
	// Who is gone before the answer is not worth a line in the log, which plugin errors would write of an error: anybody
	// could fill the disk with them.
	_ = w.WriteMsg(reply(r, *a, state.Proto()))
	return dns.RcodeSuccess, nil
}
