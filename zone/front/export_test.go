package front

import "net/netip"

// Respond lets tests of other packages ask an engine: n is 0 when the query is dropped or missed.
func Respond(s *Shared, packet []byte, from netip.Addr, tcp bool, out []byte) (n int, miss bool) {
	n, v := newEngine(s, s.newCounters()).handle(packet, from, tcp, out)
	return n, v == missed
}
