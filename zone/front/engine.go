package front

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// verdict says what becomes of a query packet.
type verdict uint8

const (
	// dropped: nothing is sent (RFC 1035 §4.1.1 with QR=1, packets shorter than a header, rate limited).
	dropped verdict = iota
	// answered: the answer is complete and is to be sent.
	answered
	// missed: the full server answers.
	missed
)

// MaxUDPSize is the largest answer over UDP in octets: what fits an IPv6 path MTU of 1280 unfragmented (DNS flag day
// 2020).
const MaxUDPSize = 1232

const (
	headerLen = 12 // octets, RFC 1035 §4.1.1

	// Bits of the header's octet 2 (RFC 1035 §4.1.1).
	flagQR, flagOpcode, flagTC, flagRD = 0x80, 0x78, 0x02, 0x01
)

// engine turns query packets into answer packets. It does no I/O and does not allocate. Each reader owns one: it is
// not safe for concurrent use; what engines share (settings, cookies, limiter) is.
type engine struct {
	shared   *Shared
	counters *counters
	// keepalive is the idle timeout in units of 100 ms that TCP clients are told who ask for it (RFC 7828 §3.1).
	keepalive uint16
	// promised says that some client was told.
	promised bool

	// scratch for one query; name is longer than any name so that it can be written eight octets at a time.
	question Question
	name     [256]byte
}

// newEngine returns an engine that counts in c, which engines may share.
func newEngine(s *Shared, c *counters) *engine { return &engine{shared: s, counters: c} }

// handle reads the query in packet, from an address, and writes the answer to out[:n]; n is 0 unless the verdict is
// answered. out does not overlap packet and may be written to whatever the verdict is. Over TCP there are no rate
// limit and no limit of size but len(out).
func (e *engine) handle(packet []byte, from netip.Addr, tcp bool, out []byte) (n int, v verdict) {
	// RFC 1035 §4.1.1: QR=1 is an answer. Answering answers makes two servers talk forever.
	if len(packet) < headerLen || packet[2]&flagQR != 0 {
		e.counters.dropped.Add(1)
		return 0, dropped
	}
	set := e.shared.settings.Load()
	var q query
	if set.Bypass != "" || !q.read(packet) {
		return e.miss()
	}
	x := exchange{query: &q, settings: set, from: from.Unmap(), tcp: tcp, limit: min(len(out), dns.MaxMsgSize)}
	if !tcp {
		// RFC 6891 §6.2.3 to §6.2.5: the smaller of what the asker takes, 512 at least, and what this server sends.
		x.limit = min(x.limit, max(int(q.size), dns.MinMsgSize), MaxUDPSize)
	}
	if q.cookie != nil {
		x.secrets = e.shared.Cookies.secrets.Load()
	}
	x.room = e.room(&x)
	if q.end+x.room > x.limit {
		return e.miss()
	}
	e.begin(packet, &q, out)
	return e.respond(&x, out)
}

// exchange is one query on its way to an answer.
type exchange struct {
	query    *query
	settings *Settings
	from     netip.Addr
	tcp      bool
	secrets  *cookieSecrets // nil: no COOKIE is answered
	limit    int            // of the answer, in octets
	room     int            // of the answer's OPT record
	slip     bool           // the answer is a truncated one
}

// miss counts a query that the full server answers.
func (e *engine) miss() (int, verdict) {
	e.counters.missed.Add(1)
	return 0, missed
}

// begin writes the answer's header and the question, bit for bit as it was sent (RFC 4343 §4.1), to out, and the
// lower-case question to e.question.
func (e *engine) begin(packet []byte, q *query, out []byte) {
	copy(out, packet[:q.end])
	header(out)
	nameLen := q.end - headerLen - 4
	lower(&e.name, packet[headerLen:q.end-4])
	e.question = Question{Name: e.name[:nameLen], Type: binary.BigEndian.Uint16(packet[q.end-4:]), DO: q.do}
}

// header makes the header of a query, or of an answer to it, one of an answer with nothing but the question.
func header(out []byte) {
	// RFC 1035 §4.1.1: opcode and RD are copied. RFC 4035 §3.1.6: an authoritative server clears AD and CD. The other bits
	// are the answerer's, or are zero.
	out[2] = flagQR | out[2]&(flagOpcode|flagRD)
	out[3] = 0
	copy(out[4:headerLen], "\x00\x01\x00\x00\x00\x00\x00\x00")
}

// respond completes the answer that begin began.
func (e *engine) respond(x *exchange, out []byte) (int, verdict) {
	var r Result
	var cookie cookieReply
	status := cookieNone
	if x.secrets != nil {
		status = x.secrets.reply(x.query.cookie, x.from, e.shared.Clock.now(), &cookie)
	}
	if status == cookieMalformed {
		// RFC 7873 §5.2.2: a COOKIE option of a wrong length is a format error.
		out[3] |= dns.RcodeFormatError
		r = Result{Len: x.query.end, Rcode: dns.RcodeFormatError}
	} else if r = e.shared.Answerer.Answer(&e.question, out, x.query.end, x.limit-x.room); r.Len == 0 {
		return e.miss()
	}
	// RFC 7873 §5.2.5: who sends our cookie back has not forged its address.
	if !x.tcp && status != cookieValid && !e.allowed(x, &r, out) {
		return 0, dropped
	}
	if x.query.edns {
		r.Len = e.appendOPT(out, r.Len, x, &cookie, status)
	}
	e.counters.answer(x, e.question.Type, int(out[3]&0xf))
	return r.Len, answered
}

// allowed applies the rate limit to an answer: false for one that is dropped. One that slips becomes a truncated
// answer, with which a client that is not forged comes back over TCP.
func (e *engine) allowed(x *exchange, r *Result, out []byte) bool {
	class := ClassOf(int(r.Rcode), int(binary.BigEndian.Uint16(out[6:8])))
	if out[2]&flagTC != 0 {
		class = ClassPositive
	}
	switch e.shared.Limiter.Check(x.from, r.Owner, class) {
	case Drop:
		e.counters.limited.Add(1)
		e.counters.answer(x, e.question.Type, noResponse)
		return false
	case Slip:
		e.counters.limited.Add(1)
		e.counters.slipped.Add(1)
		header(out)
		out[2] |= flagTC
		r.Len, x.slip = x.query.end, true
	}
	return true
}
