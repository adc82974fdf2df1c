package xfr

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Limits of a server.
const (
	// maxTransfers and maxPerSource are how many transfers run at once, in all and to one address.
	maxTransfers, maxPerSource = 16, 2
	// longest is how long one transfer may take. It is looked at between two messages; a peer that reads nothing at
	// all is the business of the connection's own write deadline.
	longest = 2 * time.Minute
)

// ServerOptions configure a Server.
type ServerOptions struct {
	// Key is the one that signs transfers.
	Key Key
	// Done, when set, is told how each request ended; it is called from several goroutines.
	Done func(Event)
	// Now is time.Now unless set.
	Now func() time.Time
}

// Kind is how a request ended.
type Kind string

// Kinds of an Event.
const (
	// Full is the whole zone.
	Full Kind = "full"
	// Incremental is the changes.
	Incremental Kind = "incremental"
	// Current says that the asker had nothing to learn.
	Current Kind = "current"
	// Retry says that it was told to ask again over TCP.
	Retry Kind = "retry-tcp"
	// Refused covers every answer with an error.
	Refused Kind = "refused"
	// Broken is a transfer that did not come to its end.
	Broken Kind = "broken"
)

// Event is the end of one request.
type Event struct {
	Origin string
	Client netip.AddrPort
	// Type is AXFR or IXFR; Rcode the answer's.
	Type  uint16
	Rcode int
	Kind  Kind
	// Serial is the one that the client has now; it says nothing after Retry, Refused and Broken.
	Serial            uint32
	Records, Messages int
	Took              time.Duration
	// Err is why the transfer broke or was refused.
	Err error
}

// Server answers AXFR (RFC 5936) and IXFR (RFC 1995). It is safe for concurrent use and starts nothing.
type Server struct {
	key  Key
	done func(Event)
	now  func() time.Time

	mu sync.Mutex
	// running counts the transfers of each address, all those of all; guarded by mu.
	running map[netip.Addr]int
	all     int
}

// NewServer returns a server of transfers.
func NewServer(o ServerOptions) *Server {
	s := &Server{key: o.Key, done: o.Done, now: o.Now, running: map[netip.Addr]int{}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.done == nil {
		s.done = func(Event) {}
	}
	return s
}

// Serve answers one AXFR or IXFR query; it always answers or closes the connection. find returns the zone with an apex
// in lower case. The writer has to verify TSIG and to sign messages that carry a TSIG, as dns.Server's does, and to
// give up on a peer that does not read.
func (s *Server) Serve(w dns.ResponseWriter, r *dns.Msg, find func(origin string) (Offer, bool)) {
	t := &transfer{server: s, w: w, r: r, start: s.now()}
	t.event.Client, t.tcp = client(w.RemoteAddr())
	if len(r.Question) == 1 {
		t.event.Origin, t.event.Type = dns.CanonicalName(r.Question[0].Name), r.Question[0].Qtype
	}
	if v, no := t.admit(find); no != nil {
		t.refuse(no)
	} else {
		t.answer(v)
	}
	t.event.Took = s.now().Sub(t.start)
	s.done(t.event)
}

// client returns the peer's address and whether it came over TCP, the only one that can carry several messages.
func client(a net.Addr) (netip.AddrPort, bool) {
	if u, ok := a.(interface{ Unwrap() net.Addr }); ok && u.Unwrap() != nil {
		a = u.Unwrap() // a proxy's word for the address
	}
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort()), true
	case *net.UDPAddr:
		return unmap(a.AddrPort()), false
	}
	return netip.AddrPort{}, false
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// enter takes a place among the running transfers.
func (s *Server) enter(a netip.Addr) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxTransfers || s.running[a] >= maxPerSource {
		return nil, false
	}
	s.all++
	s.running[a]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.running[a]--; s.running[a] == 0 {
			delete(s.running, a)
		}
	}, true
}
