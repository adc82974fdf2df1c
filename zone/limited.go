package zone

import (
	"net"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// limitedWriter gives cookies to, and keeps the rate limit for, answers that do not come from a zone: those about transfers,
// signatures and the server itself.
type limitedWriter struct {
	dns.ResponseWriter
	r     *dns.Msg
	guard guard
}

// Limited returns a writer of the answer to r that keeps the rate limit of a front, if the asker may have forged its address:
// over UDP, without a cookie of ours. It is not for requests with a good TSIG. Without a front it returns w.
func Limited(w dns.ResponseWriter, r *dns.Msg, shared *front.Shared) dns.ResponseWriter {
	if shared == nil {
		return w
	}
	return &limitedWriter{ResponseWriter: w, r: r, guard: guard{shared}}
}

// WriteMsg sends m, a truncated answer with which an honest asker comes back over TCP, or nothing.
func (w *limitedWriter) WriteMsg(m *dns.Msg) error {
	const anyName = 0 // answers of one class are one account
	a := Answer{Rcode: m.Rcode, Answer: m.Answer}
	switch judged := w.guard.judge(w, w.r, &a, anyName); {
	case judged == nil:
		return nil
	case judged != &a:
		m = reply(w.r, *judged, w.proto())
	default:
		WithOPT(m, w.r)
		if opt := m.IsEdns0(); opt != nil && a.cookie != "" {
			opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: a.cookie})
		}
	}
	return w.ResponseWriter.WriteMsg(m)
}

func (w *limitedWriter) proto() string {
	if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		return "udp"
	}
	return "tcp"
}

// WithOPT answers EDNS with EDNS (RFC 6891 §6.1.1), before a TSIG, which is last. The size is this server's own, whatever the asker's
// is (§6.2.3); CoreDNS copies it from the query.
func WithOPT(m, r *dns.Msg) {
	asked := r.IsEdns0()
	if asked == nil {
		return
	}
	if asked.SetUDPSize(front.MaxUDPSize); m.IsEdns0() == nil && m.IsTsig() == nil {
		m.SetEdns0(front.MaxUDPSize, asked.Do())
	}
}
