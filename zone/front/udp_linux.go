package front

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// maxGathers is after how many waits a busy reader lets others have its processor: a few milliseconds.
	maxGathers = 32
	// maxErrors is how many times in a row recvmmsg may fail before the front gives up.
	maxErrors = 16
	// drainCycles bounds what is answered after the end, in batches: more than a socket's buffer holds.
	drainCycles = 2 * socketBuffer / 256 / batchSize
)

// serve answers queries until the socket is stopped or cannot be read.
func (s *udpSocket) serve() error {
	b := s.batch
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		for gathered := 0; !s.stopping.Load(); {
			var n int
			switch n, failed = b.cycle(fd); {
			case failed != nil:
				return true
			case n == batchSize:
			case n < gatherFrom || gathered == maxGathers:
				return false // the poller calls again when there is something to read
			default:
				gather()
				gathered++
			}
		}
		return true
	})
	switch {
	case failed != nil:
		return failed
	case s.stopping.Load():
		return nil // err is how stop woke the reader
	}
	return err
}

// drain answers what waits in a stopped socket.
func (s *udpSocket) drain() {
	_ = s.raw.Control(func(fd uintptr) {
		for range drainCycles {
			if n, err := s.batch.cycle(fd); n == 0 || err != nil {
				return
			}
		}
	})
}

// cycle receives one batch, answers it, and returns how many messages it had: fewer than batchSize when nothing waits
// any more. What arrives from then on wakes the poller, which is edge-triggered. Not every error ends a reader: it
// counts as a whole batch, so that the reader goes on.
func (b *batch) cycle(fd uintptr) (n int, err error) {
	n, errno := recvmmsg(fd, &b.rx[0], batchSize)
	switch {
	case errno == unix.EAGAIN:
		return 0, nil
	case errno == unix.EINTR:
		return batchSize, nil
	case errno != 0:
		if b.errors++; b.errors >= maxErrors || errno == unix.ENOSYS || errno == unix.EPERM {
			return 0, fmt.Errorf("recvmmsg: %w", errno)
		}
		return batchSize, nil //nolint:nilerr // one error is forgiven
	}
	b.errors = 0
	b.warm(n)
	answers := 0
	for i := range n {
		if size := b.answer(i, answers); size > 0 {
			b.queue(i, answers, size)
			answers++
		}
		b.arm(i)
	}
	b.send(fd, answers)
	return n, nil
}

// warm has the answerer look at the first n messages, if it gains from that.
func (b *batch) warm(n int) {
	if b.warmer == nil || n < 2 {
		return
	}
	for i := range n {
		b.questions[i] = b.in[i][min(headerLen, b.rx[i].n):min(b.rx[i].n, maxQuery)]
	}
	b.warmer.Warm(b.questions[:n])
}

// answer writes the answer to message i to b.out[k] and returns its size, 0 for none.
func (b *batch) answer(i, k int) int {
	packet := b.in[i][:min(b.rx[i].n, maxQuery)]
	if b.rx[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		return formatError(packet, b.out[k][:])
	}
	n, v := b.engine.handle(packet, b.from(i).Addr(), false, b.out[k][:])
	if v == missed {
		b.miss(i, packet)
	}
	return n
}

// queue makes the answer in b.out[k] the k-th to send, to who sent message i.
func (b *batch) queue(i, k, size int) {
	to, of := &b.tx[k].hdr, &b.rx[i].hdr
	to.Name, to.Namelen = of.Name, of.Namelen
	b.txIov[k].SetLen(size)
	if of.Control == nil {
		return
	}
	to.Control = nil
	c := b.control(i)
	to.SetControllen(len(c))
	if len(c) > 0 {
		to.Control = &c[0]
	}
}

// miss hands message i to the full server, if that has room for it.
func (b *batch) miss(i int, packet []byte) {
	up, s := b.front.upstream, b.socket
	if !up.udp.acquire() {
		return
	}
	to := b.zoned(i, b.from(i))
	control := append([]byte(nil), b.control(i)...)
	local := b.front.config.Address
	if len(control) > 0 {
		local = netip.AddrPortFrom(asked(control), local.Port())
	}
	up.start(&up.udp, &exchangeWriter{
		packet: append([]byte(nil), packet...), local: net.UDPAddrFromAddrPort(local), remote: net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr().Unmap(), to.Port())),
		send: func(msg []byte) error {
			_, _, err := s.conn.WriteMsgUDPAddrPort(msg, control, to)
			return err
		},
	})
}

// formatError answers a query that is too long to be read whole with the header alone (RFC 1035 §4.1.1: the server was
// unable to interpret the query). It returns 0 for what is no query.
func formatError(packet, out []byte) int {
	if len(packet) < headerLen || packet[2]&flagQR != 0 {
		return 0
	}
	clear(out[:headerLen])
	copy(out, packet[:2])
	out[2], out[3] = flagQR|packet[2]&(flagOpcode|flagRD), dns.RcodeFormatError
	return headerLen
}
