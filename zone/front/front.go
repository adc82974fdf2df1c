// Package front answers DNS queries from packed wire forms on sockets of its own, beside those of a full DNS server.
//
// Its UDP sockets share address and port with the server's (SO_REUSEPORT); a kernel filter steers the usual queries to
// them, in batches and without an allocation. What the front cannot answer it hands to the live server, so a zone
// behaves the same on both ways. Its TCP listener does the same for connections.
package front

import (
	"context"

	"github.com/miekg/dns"
)

// Question is one question of class IN as zones look it up. It belongs to the caller of Answerer.Answer, which may
// not keep it or its Name.
type Question struct {
	// Name is the name in wire form (RFC 1035 §3.1): lower case, uncompressed, with the root label; 1 to 255 octets.
	Name []byte
	// Type is the QTYPE.
	Type uint16
	// DO says that the asker wants DNSSEC records (RFC 3225).
	DO bool
}

// Result says what Answerer.Answer did.
type Result struct {
	// Len is the length of the message in octets, 0 for a miss: nothing was written and the full server must answer.
	Len int
	// Rcode is the answer's RCODE.
	Rcode uint8
	// Owner identifies, for rate limiting, the name that the answer is about: the name that was asked or, for
	// NXDOMAIN, the zone. It is the same for all letter cases of a name, and for this process's life only.
	Owner uint64
}

// Answerer answers questions from packed wire forms. Answer is called from several goroutines at once and does not
// allocate.
type Answerer interface {
	// Answer completes the message in msg[:n]: a header with ID, QR, opcode, RD and CD set, the counts 1, 0, 0, 0, and
	// the question as it was sent, from octet 12 on. It appends sections to at most limit octets, len(msg) at most,
	// and sets AA, TC, RCODE and the counts. The caller has taken the room of what it adds itself, the OPT record, off
	// limit. On a miss the header and the question are unchanged.
	Answer(q *Question, msg []byte, n, limit int) Result
}

// Server is the full DNS server that answers what the front does not. *dnsserver.Server of CoreDNS is one, inside of
// an adapter that sets the context.
type Server interface {
	ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg)
}
