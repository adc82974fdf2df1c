package front

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tcpConn is one connection. serve owns it; other goroutines write answers of the full server, and close it.
type tcpConn struct {
	t      *tcp
	conn   net.Conn
	opened time.Time
	from   netip.Addr

	// source is nil, and place nothing, unless it is in t.conns; t.mu guards both.
	source *tcpSource
	place  int

	busy     atomic.Int32  // queries being answered: by serve, counted as one, and by the full server
	stalled  atomic.Bool   // a write waits for the client to read
	tick     atomic.Uint64 // when it became idle or stalled
	promised atomic.Bool   // it was told an idle timeout
	until    atomic.Int64  // when it has been idle for too long, in nanoseconds after opened

	closeOnce sync.Once
	closed    chan struct{}
	pending   chan struct{} // one for each query that the full server has
	writing   chan struct{} // holds one while somebody writes

	waitMu  sync.Mutex
	waiting []byte // guarded by waitMu: answers of the full server behind the one that is being written

	// owned by serve
	engine *engine
	small  [smallBuffer]byte
	in     []byte             // small or large
	large  *[largeBuffer]byte // nil when small suffices
	n      int                // octets in in
	out    *[outBuffer]byte   // nil when nothing waits to be written
	w      int                // octets in out
	// pipelined is how many queries came in together, the last time.
	pipelined int
}

func newTCPConn(t *tcp, conn net.Conn) *tcpConn {
	c := &tcpConn{t: t, conn: quick(conn), opened: time.Now(), from: clientOf(conn), closed: make(chan struct{}),
		pending: make(chan struct{}, maxPending), writing: make(chan struct{}, 1), engine: newEngine(t.shared, t.counters)}
	c.engine.keepalive = uint16(t.idle / (100 * time.Millisecond)) // RFC 7828 §3.1
	c.in = c.small[:]
	c.tick.Store(t.ticks.Add(1))
	return c
}

// What a connection does, in the order in which connections go to make room.
const (
	isIdle    = iota
	isStalled // its client does not read
	isBusy
)

// does says what a connection does.
func (c *tcpConn) does() int {
	switch {
	case c.busy.Load() == 0:
		return isIdle
	case c.stalled.Load():
		return isStalled
	}
	return isBusy
}

// goesBefore orders connections by who is the first to go. Those of the source that has the most come before all others,
// so that nobody gains by many connections, by asking for a keepalive on each, by not reading or by asking a lot. Of one
// source it is as above, those that were told an idle timeout (RFC 7828) last, and else the one that has waited for
// longest. t.mu is held.
func (c *tcpConn) goesBefore(d *tcpConn) bool {
	if a, b := c.source.conns, d.source.conns; a != b {
		return a > b
	}
	if a, b := c.does(), d.does(); a != b {
		return a < b
	}
	if a, b := c.promised.Load(), d.promised.Load(); a != b {
		return b
	}
	return c.tick.Load() < d.tick.Load()
}

// close ends the connection. It does not wait.
func (c *tcpConn) close() {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.conn.Close()
	})
}

// serve answers queries until the connection ends, and waits for the full server's answers.
func (c *tcpConn) serve() {
	defer c.shrink()
	c.renew()
	for {
		n, err := c.conn.Read(c.in[c.n:])
		c.n += n
		if n > 0 && !c.take() {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.waits() {
			continue
		}
		if errors.Is(err, io.EOF) {
			// The client may have closed its half only, and wait for answers.
			c.drain(c.closed)
		}
		if err != nil {
			break
		}
	}
	c.close()
	c.drain(nil)
}

// drain waits until the full server has no query, or gone is closed.
func (c *tcpConn) drain(gone <-chan struct{}) {
	held := 0
	for ; held < maxPending; held++ {
		select {
		case c.pending <- struct{}{}:
			continue
		case <-gone:
		}
		break
	}
	for range held {
		<-c.pending
	}
}

// renew begins a new idle time.
func (c *tcpConn) renew() {
	c.postpone()
	// An error means that the connection is closed, which the next Read tells.
	_ = c.conn.SetReadDeadline(time.Now().Add(c.t.idle))
}

// postpone is renew without the deadline, which may pass meanwhile; waits then sets the new one.
func (c *tcpConn) postpone() { c.until.Store(int64(time.Since(c.opened) + c.t.idle)) }

// waits says, after a read has timed out, whether the connection may wait on: it is not idle while the full server has
// a query (RFC 7766 §3), nor when its time was renewed meanwhile. Who sends a query slowly has no more time, from the last
// whole one on.
func (c *tcpConn) waits() bool {
	if c.n == 0 && c.busy.Load() > 0 {
		c.renew()
		return true
	}
	left := time.Duration(c.until.Load()) - time.Since(c.opened)
	return left > 0 && c.conn.SetReadDeadline(time.Now().Add(left)) == nil
}

// missDone ends a query that the full server had. The time until the connection is idle for too long begins anew
// (RFC 7766 §6.2.3).
func (c *tcpConn) missDone() {
	c.renew()
	c.end()
	<-c.pending
}

func (c *tcpConn) begin() { c.busy.Add(1) }

func (c *tcpConn) end() {
	c.renewTick()
	c.busy.Add(-1)
}

// renewTick notes that the connection waits for its client from now on.
func (c *tcpConn) renewTick() { c.tick.Store(c.t.ticks.Add(1)) }
