package node

import (
	"net"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// limitedWriter keeps the rate limit for answers that do not come from the zone: those about transfers and signatures.
type limitedWriter struct {
	dns.ResponseWriter
	r      *dns.Msg
	shared *front.Shared
	client *net.UDPAddr
}

// limited returns a writer of the answer to r that keeps the rate limit, if the asker may have forged its address: over
// UDP. It is not for requests with a good TSIG.
func limited(w dns.ResponseWriter, r *dns.Msg, shared *front.Shared) dns.ResponseWriter {
	if a, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		return &limitedWriter{ResponseWriter: w, r: r, shared: shared, client: a}
	}
	return w
}

// WriteMsg sends m, a truncated answer with which an honest asker comes back over TCP, or nothing.
func (w *limitedWriter) WriteMsg(m *dns.Msg) error {
	w.shared.Clock.Set(time.Now())
	const anyName = 0 // answers of one class are one account
	switch w.shared.Limiter.Check(w.client.AddrPort().Addr(), anyName, front.ClassOf(m.Rcode, len(m.Answer))) {
	case front.Drop:
		return nil
	case front.Slip:
		m = new(dns.Msg).SetReply(w.r)
		m.Truncated, m.CheckingDisabled = true, false // RFC 4035 §3.1.6
		withOPT(m, w.r)
	}
	return w.ResponseWriter.WriteMsg(m)
}
