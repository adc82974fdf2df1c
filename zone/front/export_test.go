package front

import (
	"net/netip"
	"time"
)

// Respond lets tests of other packages ask an engine: n is 0 when the query is dropped or missed.
func Respond(s *Shared, packet []byte, from netip.Addr, tcp bool, out []byte) (n int, miss bool) {
	e := newEngine(s, s.newCounters())
	e.keepalive = uint16(TCPIdle / (100 * time.Millisecond)) // as newTCPConn does
	n, v := e.handle(packet, from, tcp, out)
	return n, v == missed
}
