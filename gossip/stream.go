package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// What a stranger may take before he has shown that he holds the key: memberlist decrypts a stream when all of it is
// there, and the length that a stream claims is not authenticated.
const (
	// maxStream is the number of octets that may be read from a stream: the table's runs, each with a full record and what
	// memberlist adds, fit.
	maxStream = maxPeers * 1024
	// maxStreams is how many streams may be open from others at a time, and maxStreamsFrom how many of them from one address.
	maxStreams, maxStreamsFrom = 64, 16
)

var errStreamTooLong = errors.New("the stream is longer than any that we send")

// openStreams are the streams in both directions; the transport's mu guards them.
type openStreams map[*stream]struct{}

// stream is a connection that knows its limits.
type stream struct {
	net.Conn
	from netip.Addr
	// inbound is whether the other side opened it.
	inbound bool
	left    int
	closed  func() // takes it out of openStreams; runs once
}

// track makes a stream of conn, or returns nil when there must be no further one.
func (t *transport) track(conn net.Conn, from netip.Addr, inbound bool) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil || inbound && t.open.full(from) {
		return nil
	}
	s := &stream{Conn: conn, from: from, inbound: inbound, left: maxStream}
	s.closed = sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, s)
	})
	t.open[s] = struct{}{}
	return s
}

func (o openStreams) full(from netip.Addr) bool {
	all, same := 0, 0
	for s := range o {
		if s.inbound {
			all++
			if s.from == from {
				same++
			}
		}
	}
	return all >= maxStreams || same >= maxStreamsFrom
}

// closeAll closes the connections and leaves it to their readers to notice.
func (o openStreams) closeAll() {
	for s := range o {
		_ = s.Conn.Close()
	}
}

// Read stops at maxStream.
func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errStreamTooLong
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close may be called again.
func (s *stream) Close() error {
	s.closed()
	return s.Conn.Close()
}
