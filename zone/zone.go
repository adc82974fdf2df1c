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
)

// Handler is the CoreDNS plugin etcdsrv. It borrows Zones and owns nothing, so that a reload of the Corefile may
// start a new instance before the old one ends.
type Handler struct {
	// Next is set by CoreDNS while it builds the chain, then read-only. Names outside of the zone go there.
	Next plugin.Handler

	zones *Zones
}

// NewHandler returns a handler that answers from the snapshots of zones.
func NewHandler(zones *Zones) *Handler { return &Handler{zones: zones} }

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
	// RFC 6891 §6.1.1: more than one OPT record is a format error.
	if countOPT(r) > 1 {
		return dns.RcodeFormatError, nil
	}
	q := r.Question[0]
	// RFC 1035 §3.2.4: the zone is of class IN; version.bind and the like are for the plugins behind us.
	if q.Qclass != dns.ClassINET {
		return h.next(ctx, w, r)
	}
	snap := h.zones.lookup(q.Name)
	if snap == nil && !h.zones.empty() {
		return h.next(ctx, w, r)
	}
	switch r.Opcode {
	case dns.OpcodeQuery:
	case dns.OpcodeNotify:
		// RFC 1996 §3.10: NOTIFY is for secondaries, and this is a primary. RFC 2136 §2.2: NOTAUTH.
		return write(w, r, Answer{Rcode: dns.RcodeNotAuth})
	case dns.OpcodeUpdate:
		// RFC 2136 §3.3: REFUSED where policy allows no update; the roster is the only source of this zone.
		return write(w, r, Answer{Rcode: dns.RcodeRefused})
	default:
		// RFC 1035 §4.1.1: NOTIMP for the kinds of query that are not supported.
		return dns.RcodeNotImplemented, nil
	}
	if snap == nil {
		return write(w, r, notReady("no zone has been compiled yet"))
	}
	return write(w, r, snap.Lookup(q.Name, q.Qtype, wantsDNSSEC(r)))
}

// next passes on what is not ours. An authoritative server with nothing behind it refuses (RFC 1035 §4.1.1: REFUSED).
func (h *Handler) next(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if h.Next == nil {
		return dns.RcodeRefused, nil
	}
	return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
}

// write sends a. It returns success whatever a's rcode is: in a plugin's contract SERVFAIL and its like mean that
// nothing was written (coredns plugin/plugin.go).
func write(w dns.ResponseWriter, r *dns.Msg, a Answer) (int, error) {
	state := request.Request{W: w, Req: r}
	if err := w.WriteMsg(reply(r, a, state.Proto())); err != nil {
		return dns.RcodeSuccess, err
	}
	return dns.RcodeSuccess, nil
}
