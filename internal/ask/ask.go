// Package ask puts one question to one name server as a careful client does: over UDP, again when a datagram is lost, over
// TCP when the answer is cut off (RFC 7766 §5), and without believing an answer to another question (RFC 5452 §9.1).
package ask

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// UDPSize is what fits into one packet on every path (DNS flag day 2020; RFC 9715 §3.2 has 1400 as the most). It is for the OPT
// record of queries.
const UDPSize = 1232

// Server is a name server, and how it is asked.
type Server struct {
	At      string        // ADDRESS:PORT
	Timeout time.Duration // of each try
	Tries   int           // over UDP; 0 is one
	TCP     bool          // not over UDP at all
}

var errOther = errors.New("the answer is to another question")

// Ask returns the server's answer, whatever its rcode. Each try has another ID, which q has in the end. An error means that
// there is no answer, and tells of the last try.
func (s Server) Ask(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	if s.TCP {
		return s.once(ctx, q, "tcp")
	}
	for try := 1; ; try++ {
		reply, err := s.once(ctx, q, "udp")
		switch {
		case err == nil && reply.Truncated:
			return s.once(ctx, q, "tcp")
		case err == nil:
			return reply, nil
		case try >= s.Tries || ctx.Err() != nil:
			return nil, err
		}
	}
}

func (s Server) once(ctx context.Context, q *dns.Msg, network string) (*dns.Msg, error) {
	q.Id = dns.Id()
	reply, _, err := (&dns.Client{Net: network, Timeout: s.Timeout}).ExchangeContext(ctx, q, s.At)
	switch {
	case err != nil:
		return nil, fmt.Errorf("no answer: %w", err)
	case !reply.Response || len(reply.Question) != 1 || !same(reply.Question[0], q.Question[0]):
		return nil, errOther
	}
	return reply, nil
}

// same compares without case (RFC 4343).
func same(a, b dns.Question) bool {
	return dns.CanonicalName(a.Name) == dns.CanonicalName(b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
}
