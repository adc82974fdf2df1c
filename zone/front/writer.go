package front

import (
	"errors"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// exchangeWriter is the dns.ResponseWriter of one missed query. It signs what the handler wants signed (RFC 8945) and
// chains the MACs of a transfer's messages, as dns.Server's does.
type exchangeWriter struct {
	packet        []byte
	local, remote net.Addr
	send          func(msg []byte) error
	// done, when it is not nil, is called after the last send.
	done func()
	keys tsigKeys

	// The rest is guarded by mu: a transfer's messages come from another goroutine than its last one.
	mu         sync.Mutex
	status     error
	mac        string
	timersOnly bool
	closed     bool
}

var errClosed = errors.New("the exchange is closed")

// verify checks the signature of a query that has one.
func (w *exchangeWriter) verify(r *dns.Msg) {
	if t := r.IsTsig(); t != nil {
		// RFC 8945 §5.2: a handler that asks for the status gets the real one, a missing key included.
		w.status, w.mac = w.keys.verify(w.packet, t), t.MAC
	}
}

// refuse answers what the full server is not asked about: with the header, the question as far as it was read, and an
// OPT record if the query has one.
func (w *exchangeWriter) refuse(r *dns.Msg, rcode int) {
	m := new(dns.Msg)
	// RFC 1035 §4.1.1: ID, opcode and RD are copied. The other bits of a query mean nothing in an answer (RFC 8906 §2).
	m.Id, m.Response, m.Opcode, m.RecursionDesired, m.Rcode = r.Id, true, r.Opcode, r.RecursionDesired, rcode
	if m.Question = r.Question; len(m.Question) == 1 {
		do, edns := hasOPT(w.packet)
		if opt := r.IsEdns0(); opt != nil {
			do, edns = opt.Do(), true
		}
		if edns {
			m.SetEdns0(MaxUDPSize, do)
		}
	}
	_ = w.WriteMsg(m) // the asker is gone, or asks again
}

// LocalAddr is the address that was asked.
func (w *exchangeWriter) LocalAddr() net.Addr { return w.local }

// RemoteAddr is the asker's.
func (w *exchangeWriter) RemoteAddr() net.Addr { return w.remote }

// WriteMsg packs and sends m, signed if it ends with a TSIG record.
func (w *exchangeWriter) WriteMsg(m *dns.Msg) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var data []byte
	var err error
	if m.IsTsig() != nil {
		// RFC 8945 §5.3.1: each MAC covers the one before, from the query's on.
		data, w.mac, err = w.keys.sign(m, w.mac, w.timersOnly)
	} else {
		data, err = m.Pack()
	}
	if err != nil {
		return err
	}
	return w.write(data)
}

// Write sends a packed message.
func (w *exchangeWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *exchangeWriter) write(b []byte) error {
	if w.closed {
		return errClosed
	}
	return w.send(b)
}

// Close ends the exchange; the front goes on to serve the socket or connection.
func (w *exchangeWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

// TsigStatus is nil for a query without or with a good signature, else what is wrong with it.
func (w *exchangeWriter) TsigStatus() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// TsigTimersOnly is for the second message of a transfer and those behind it (RFC 8945 §5.3.1).
func (w *exchangeWriter) TsigTimersOnly(b bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timersOnly = b
}

// Hijack does nothing: sockets and connections are the front's.
func (w *exchangeWriter) Hijack() {}

// tsigKeys are the secrets in base64 by key name.
type tsigKeys map[string]string

// secret returns a key's; RFC 8945 §4.2: key names are domain names, so their case does not count.
func (k tsigKeys) secret(t *dns.TSIG) (string, bool) {
	s, ok := k[dns.CanonicalName(t.Hdr.Name)]
	return s, ok
}

func (k tsigKeys) verify(packet []byte, t *dns.TSIG) error {
	secret, ok := k.secret(t)
	if !ok {
		return dns.ErrSecret
	}
	return dns.TsigVerify(packet, secret, "", false)
}

func (k tsigKeys) sign(m *dns.Msg, mac string, timersOnly bool) ([]byte, string, error) {
	t := m.IsTsig()
	secret, ok := k.secret(t)
	// RFC 8945 §5.3.2: an answer that says BADKEY or BADSIG is not signed, and needs no key.
	if !ok && t.Error != dns.RcodeBadKey && t.Error != dns.RcodeBadSig {
		return nil, "", dns.ErrSecret
	}
	return dns.TsigGenerate(m, secret, mac, timersOnly)
}
