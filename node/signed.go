package node

import (
	"context"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// signedPlugin stands before the zone. It refuses requests with a bad TSIG and signs the answers to those with a good one
// (RFC 8945 §5.2 and §5.3).
type signedPlugin struct {
	// shared has the rate limit.
	shared *front.Shared
	key    xfr.Key
	next   plugin.Handler
}

// Name is that of the directive that brings it.
func (signedPlugin) Name() string { return pluginName + "-tsig" }

// ServeDNS passes on what has no TSIG as it is.
func (p signedPlugin) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	sig := xfr.CheckTSIG(w, r, p.key)
	switch {
	case sig.Rcode != dns.RcodeSuccess:
		m := new(dns.Msg).SetRcode(r, sig.Rcode)
		m.CheckingDisabled = false // RFC 4035 §3.1.6
		zone.WithOPT(m, r)
		if sig.Error != 0 {
			xfr.Sign(m, r, sig.Error, time.Now())
		}
		_ = zone.Limited(w, r, p.shared).WriteMsg(m) // whoever is gone costs no line in the log
		return dns.RcodeSuccess, nil
	case !sig.Signed:
		return plugin.NextOrFailure(p.Name(), p.next, ctx, w, r)
	}
	s := &signingWriter{ResponseWriter: w, r: r}
	rcode, err := plugin.NextOrFailure(p.Name(), p.next, ctx, s, r)
	if !plugin.ClientWrite(rcode) {
		// The server would write this error itself, without a signature.
		m := new(dns.Msg).SetRcode(r, rcode)
		zone.WithOPT(m, r)
		_ = s.WriteMsg(m)
		return dns.RcodeSuccess, nil
	}
	return rcode, err
}

// signingWriter adds a TSIG, which the server's writer completes, to the one answer.
type signingWriter struct {
	dns.ResponseWriter
	r *dns.Msg
}

// WriteMsg sends m signed.
func (w *signingWriter) WriteMsg(m *dns.Msg) error {
	zone.WithOPT(m, w.r)
	xfr.Sign(m, w.r, 0, time.Now())
	return w.ResponseWriter.WriteMsg(m)
}
