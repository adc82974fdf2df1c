package front

import "net/netip"

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

// engine turns query packets into answer packets. It does no I/O and does not allocate. Each reader owns one: it is
// not safe for concurrent use; what engines share (settings, cookies, limiter) is.
type engine struct {
	shared *Shared
	// scratch for one query
	question Question
}

// handle reads the query in packet, from an address, and writes the answer to out[:n]. over TCP there are no rate
// limit and no limit of size but len(out).
func (e *engine) handle(packet []byte, from netip.Addr, tcp bool, out []byte) (n int, v verdict) {
	return 0, missed
}

// Shared is what all readers of a front share. Its parts are swapped whole.
type Shared struct{}
