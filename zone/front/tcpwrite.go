package front

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// maxWaiting is how many octets of the full server's answers may wait behind one that is being written: what it may have
// of one connection (maxPending), unless the answers are very long.
const maxWaiting = largeBuffer

// flush writes the answers in c.out at once, and gives the buffer back.
func (c *tcpConn) flush() bool {
	if c.out == nil {
		return true
	}
	out, w := c.out, c.w
	c.out, c.w = nil, 0
	defer outBuffers.Put(out)
	return w == 0 || c.write(out[:w]) == nil
}

// send writes one answer of the full server. While the client does not read another one, it leaves the answer behind
// that one and returns: who does not read must not hold the full server's places (maxMisses), which are for all
// connections. A zone transfer fills the room and then waits; transfers are few.
func (c *tcpConn) send(msg []byte) error {
	if len(msg) > dns.MaxMsgSize {
		return fmt.Errorf("DNS message of %d octets, expected %d at most", len(msg), dns.MaxMsgSize)
	}
	if c.leave(msg) {
		return c.deliver()
	}
	return c.write(appendFramed(nil, msg))
}

// leave puts an answer behind those that wait; false when there is no room.
func (c *tcpConn) leave(msg []byte) bool {
	c.waitMu.Lock()
	defer c.waitMu.Unlock()
	if len(c.waiting)+prefixLen+len(msg) > maxWaiting {
		return false
	}
	c.waiting = appendFramed(c.waiting, msg)
	return true
}

// appendFramed appends a message with its length before it: one write of both makes one segment (RFC 7766 §8).
func appendFramed(b, msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(msg))), msg...)
}

// deliver writes the answers that wait, unless another goroutine writes: that one will.
func (c *tcpConn) deliver() error {
	for c.hasWaiting() {
		select {
		case c.writing <- struct{}{}:
		default:
			return nil
		}
		err := c.writeLocked(c.takeWaiting())
		<-c.writing
		if err != nil {
			return err
		}
	}
	return nil
}

// write writes the answers that wait, b, and those that came to wait meanwhile.
func (c *tcpConn) write(b []byte) error {
	select {
	case c.writing <- struct{}{}:
	case <-c.closed:
		return net.ErrClosed
	}
	err := c.writeLocked(c.takeWaiting())
	if err == nil {
		err = c.writeLocked(b)
	}
	<-c.writing
	if err != nil {
		return err
	}
	return c.deliver()
}

func (c *tcpConn) hasWaiting() bool {
	c.waitMu.Lock()
	defer c.waitMu.Unlock()
	return len(c.waiting) > 0
}

func (c *tcpConn) takeWaiting() []byte {
	c.waitMu.Lock()
	defer c.waitMu.Unlock()
	b := c.waiting
	c.waiting = nil
	return b
}

// writeLocked writes all of b, or closes the connection: the rest of a message cannot follow later. The caller holds
// c.writing.
func (c *tcpConn) writeLocked(b []byte) error {
	if q, ok := c.conn.(interface{ writeNow(b []byte) int }); ok && len(b) > 0 {
		b = b[q.writeNow(b):]
	}
	if len(b) == 0 {
		return nil
	}
	c.renewTick()
	c.stalled.Store(true)
	defer c.stalled.Store(false)
	err := c.conn.SetWriteDeadline(time.Now().Add(c.t.write))
	if err == nil {
		_, err = c.conn.Write(b)
	}
	if err != nil {
		c.close()
	}
	return err
}
