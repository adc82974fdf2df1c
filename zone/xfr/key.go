package xfr

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// Key is a TSIG key (RFC 8945).
type Key struct {
	// Name and Algorithm are absolute names in lower case, such as "hmac-sha256.".
	Name, Algorithm string
	Secret          []byte
}

// Secrets returns the key in the form of dns.Server and dns.Client.
func (k Key) Secrets() map[string]string {
	return map[string]string{k.Name: base64.StdEncoding.EncodeToString(k.Secret)}
}

// is reports whether a TSIG record names this key.
func (k Key) is(t *dns.TSIG) bool {
	return dns.CanonicalName(t.Hdr.Name) == k.Name && dns.CanonicalName(t.Algorithm) == k.Algorithm
}

// fudge is how many seconds two clocks may differ; RFC 8945 §10 recommends 300.
const fudge = 300

// Signature is what the TSIG of a request is worth.
type Signature struct {
	// Rcode is the answer's when the request may not be looked at further, else dns.RcodeSuccess. Error goes into the
	// answer's TSIG: BADSIG, BADKEY or BADTIME beside NOTAUTH.
	Rcode int
	Error uint16
	// Signed says that there is a TSIG and that it is good.
	Signed bool
}

// CheckTSIG judges the TSIG of a request. The listener has verified it: its provider must know every key that may
// sign, because a miekg server without any takes each signature for good. It also takes a key's secret with any algorithm; own is
// good with its own alone.
func CheckTSIG(w dns.ResponseWriter, r *dns.Msg, own Key) Signature {
	if misplaced(r) {
		// RFC 8945 §5.1: more than one TSIG, or one that is not last: FORMERR.
		return Signature{Rcode: dns.RcodeFormatError}
	}
	asked := r.IsTsig()
	if asked == nil {
		return Signature{}
	}
	switch err := w.TsigStatus(); {
	case dns.CanonicalName(asked.Hdr.Name) == own.Name && !own.is(asked):
		return Signature{Rcode: dns.RcodeNotAuth, Error: dns.RcodeBadKey} // RFC 8945 §5.2.1: nor is the algorithm
	case err == nil:
		return Signature{Signed: true}
	case errors.Is(err, dns.ErrSecret), errors.Is(err, dns.ErrKeyAlg):
		return Signature{Rcode: dns.RcodeNotAuth, Error: dns.RcodeBadKey} // RFC 8945 §5.2.1
	case errors.Is(err, dns.ErrTime):
		return Signature{Rcode: dns.RcodeNotAuth, Error: dns.RcodeBadTime} // RFC 8945 §5.2.3
	default:
		return Signature{Rcode: dns.RcodeNotAuth, Error: dns.RcodeBadSig} // RFC 8945 §5.2.2
	}
}

func misplaced(r *dns.Msg) bool {
	for _, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra[:max(0, len(r.Extra)-1)]} {
		for _, rr := range section {
			if rr.Header().Rrtype == dns.TypeTSIG {
				return true
			}
		}
	}
	return false
}

// Sign appends the TSIG of an answer to r, which the writer completes (RFC 8945 §5.3). tsigError is Signature.Error. Nothing
// may be appended to m afterwards.
func Sign(m, r *dns.Msg, tsigError uint16, now time.Time) {
	asked := r.IsTsig()
	if asked == nil || m.IsTsig() != nil {
		return
	}
	t := &dns.TSIG{Hdr: dns.RR_Header{Name: asked.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: asked.Algorithm,
		TimeSigned: uint64(max(0, now.Unix())), Fudge: fudge, OrigId: m.Id, Error: tsigError}
	if tsigError == dns.RcodeBadTime {
		// RFC 8945 §5.2.3: the asker's time in Time Signed, ours in Other Data, 48 bits.
		t.OtherData = hex.EncodeToString(time48(t.TimeSigned))
		t.OtherLen, t.TimeSigned = 6, asked.TimeSigned
	}
	m.Extra = append(m.Extra, t)
}

func time48(s uint64) []byte {
	return []byte{byte(s >> 40), byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}
