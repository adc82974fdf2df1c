package front

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	prefixLen = 2 // octets: the length before each message, RFC 1035 §4.2.2
	// smallBuffer is what a connection reads into: many queries, or one with a TSIG.
	smallBuffer = 2048
	largeBuffer = prefixLen + dns.MaxMsgSize
	// outBuffer holds the longest answer behind half as much of shorter ones.
	outBuffer = largeBuffer + dns.MaxMsgSize/2
)

// Buffers are shared by all connections: they need one while they write, and few need a large one.
var (
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	outBuffers   = sync.Pool{New: func() any { return new([outBuffer]byte) }}
)

// take answers the queries that have come in whole. It is false when the connection has to end.
func (c *tcpConn) take() bool {
	used := c.complete(0)
	if used > 0 {
		c.begin()
		ok := c.answerAll() && c.flush()
		c.end()
		if !ok {
			return false
		}
		c.postpone()
		if c.pipelined >= tcpGatherFrom {
			c.t.gathering.wait()
		}
	}
	return c.fitBuffer()
}

// complete returns where the message ends whose length is at an offset, 0 when it has not come in whole.
func (c *tcpConn) complete(off int) int {
	if c.n < off+prefixLen {
		return 0
	}
	if end := off + prefixLen + int(binary.BigEndian.Uint16(c.in[off:])); end <= c.n {
		return end
	}
	return 0
}

// answerAll answers the queries in c.in in order, and moves what is left to its beginning.
func (c *tcpConn) answerAll() bool {
	c.t.shared.Clock.Set(time.Now())
	off := 0
	c.pipelined = 0
	for end := c.complete(0); end > 0; end = c.complete(off) {
		c.pipelined++
		if !c.answer(c.in[off+prefixLen : end]) {
			return false
		}
		off = end
	}
	c.n = copy(c.in, c.in[off:c.n])
	return true
}

// answer puts the answer to one query behind the others in c.out, or gives the query to the full server.
func (c *tcpConn) answer(packet []byte) bool {
	if c.w > outBuffer-largeBuffer && !c.flush() {
		return false
	}
	if c.out == nil {
		c.out, c.w = outBuffers.Get().(*[outBuffer]byte), 0
	}
	n, v := c.engine.handle(packet, c.from, true, c.out[c.w+prefixLen:])
	switch v {
	case answered:
		binary.BigEndian.PutUint16(c.out[c.w:], uint16(n))
		c.w += prefixLen + n
		if c.engine.promised {
			c.promised.Store(true)
		}
	case missed:
		return c.miss(packet)
	}
	return true
}

// miss gives a query to the full server, and waits when that has too many of this connection.
func (c *tcpConn) miss(packet []byte) bool {
	select {
	case c.pending <- struct{}{}:
	default:
		// What is answered is not to wait, too.
		if !c.flush() {
			return false
		}
		select {
		case c.pending <- struct{}{}:
		case <-c.closed:
			return false
		}
	}
	c.begin()
	c.t.missed(bytes.Clone(packet), c.conn.LocalAddr(), c.conn.RemoteAddr(), c.send, c.missDone)
	return true
}

// fitBuffer changes the input buffer when the query that has begun needs a larger one, or none does any longer.
// It is false when too many connections have a large one.
func (c *tcpConn) fitBuffer() bool {
	need := prefixLen
	if c.n >= prefixLen {
		need += int(binary.BigEndian.Uint16(c.in))
	}
	switch {
	case need <= smallBuffer && c.n <= smallBuffer:
		c.shrink()
	case c.large == nil:
		select {
		case c.t.large <- struct{}{}:
		default:
			return false
		}
		c.large = largeBuffers.Get().(*[largeBuffer]byte)
		copy(c.large[:], c.in[:c.n])
		c.in = c.large[:]
	}
	return true
}

// shrink gives a large buffer back.
func (c *tcpConn) shrink() {
	if c.large == nil {
		return
	}
	c.n = copy(c.small[:], c.in[:c.n])
	c.in = c.small[:]
	largeBuffers.Put(c.large)
	c.large = nil
	<-c.t.large
}
