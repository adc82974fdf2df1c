package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxConns and maxPerSource bound the TCP connections, of all clients and of one: an IPv4 address or an IPv6 /64.
	maxConns, maxPerSource = 1024, 64
	// tcpIdle is how long a connection may be without a query, and how long a query may take to come in. RFC 7766 §6.2.3:
	// in the order of a few seconds.
	tcpIdle = 10 * time.Second
	// tcpWrite is how long a client may take to read what is written to it at once, 96 KiB at most.
	tcpWrite = 5 * time.Second
	// maxPending is how many queries of a connection the full server may have at a time. Then no more are read.
	maxPending = 16
	// maxLarge is how many connections may send queries that are longer than smallBuffer at a time; others are closed.
	maxLarge = 64
)

// missFunc hands a query that the engine missed to the full server. packet is the callee's from the call on. It does not
// block: it queues or sheds, and to shed is to call done without write.
//
// write sends one message, without a length before it. It may be called from any goroutine, several times (a zone
// transfer) and concurrently, until done; msg is not kept. An error means that the connection is gone. done is called once.
type missFunc func(packet []byte, local, remote net.Addr, write func(msg []byte) error, done func())

// tcp answers DNS over TCP (RFC 7766). Queries that come in together are answered in order and with one write; the full
// server's answers come when they are ready (RFC 7766 §6.2.1.1).
//
// A connection beyond a limit takes the place of the one that has been idle for longest, of its own source when that
// has too many; those that were told an idle timeout (RFC 7828) go last. When none is idle the new one is closed. Its
// memory is bounded: 3 KiB for each connection, 96 KiB for each that does not read what is written to it (tcpWrite at
// most), and 64 KiB for maxLarge of them.
type tcp struct {
	shared   *Shared
	counters *counters
	missed   missFunc

	// Tests set these before Run; then they are read-only.
	maxConns, maxPerSource int
	idle, write            time.Duration

	large chan struct{} // one for each large buffer in use
	ticks atomic.Uint64 // orders connections by when they became idle
	wg    sync.WaitGroup

	mu      sync.Mutex
	conns   map[*tcpConn]struct{} // guarded by mu
	sources map[netip.Addr]int    // guarded by mu
	ended   bool                  // guarded by mu
}

// newTCP returns what Run runs. missed gets what the engine misses.
func newTCP(s *Shared, missed missFunc) *tcp {
	return &tcp{
		shared: s, counters: s.newCounters(), missed: missed,
		maxConns: maxConns, maxPerSource: maxPerSource, idle: tcpIdle, write: tcpWrite,
		large: make(chan struct{}, maxLarge),
		conns: map[*tcpConn]struct{}{}, sources: map[netip.Addr]int{},
	}
}

// Run serves the connections of all listeners until ctx ends; then it closes listeners and connections, waits for
// everything that it started and for the misses, and returns nil. It returns an error when a listener fails. The
// listeners are Run's to close. It is called once.
func (t *tcp) Run(ctx context.Context, ls ...net.Listener) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	for _, l := range ls {
		t.wg.Go(func() {
			if err := t.accept(running, l); err != nil {
				fail(err)
			}
		})
	}
	<-running.Done()
	t.end(ls)
	t.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// end closes what Run serves. Nothing is admitted from then on.
func (t *tcp) end(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for c := range t.conns {
		c.close()
	}
}

// accept admits connections until ctx ends.
func (t *tcp) accept(ctx context.Context, l net.Listener) error {
	const firstPause, lastPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case err == nil:
			pause = firstPause
			t.admit(c)
		case !passes(err):
			return fmt.Errorf("accept TCP connections on %v: %w", l.Addr(), err)
		default:
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
		}
	}
}

// passes says whether an error of accept is of one connection or of a shortage.
func passes(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		// accept(2): errors of the network that the connection has met.
		syscall.ECONNABORTED, syscall.ENETDOWN, syscall.EPROTO, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit serves a connection, or closes it when there are too many.
func (t *tcp) admit(c net.Conn) {
	conn := newTCPConn(t, c)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.roomLocked(conn.source) {
		c.Close()
		return
	}
	t.conns[conn] = struct{}{}
	t.sources[conn.source]++
	t.wg.Go(func() {
		conn.serve()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.removeLocked(conn)
	})
}

// roomLocked makes room for a connection from a source, and says whether there is any.
func (t *tcp) roomLocked(source netip.Addr) bool {
	var victim *tcpConn
	switch {
	case t.ended:
		return false
	case t.sources[source] >= t.maxPerSource:
		victim = t.idlestLocked(source)
	case len(t.conns) >= t.maxConns:
		victim = t.idlestLocked(netip.Addr{})
	default:
		return true
	}
	if victim == nil {
		return false
	}
	t.removeLocked(victim)
	victim.close()
	return true
}

// idlestLocked returns the connection, of a source or of any, that has been idle for longest; nil when none is.
func (t *tcp) idlestLocked(source netip.Addr) (victim *tcpConn) {
	for c := range t.conns {
		if source.IsValid() && c.source != source || c.busy.Load() > 0 {
			continue
		}
		if victim == nil || c.idlerThan(victim) {
			victim = c
		}
	}
	return victim
}

// removeLocked forgets a connection; once more does nothing.
func (t *tcp) removeLocked(c *tcpConn) {
	if _, ok := t.conns[c]; !ok {
		return
	}
	delete(t.conns, c)
	if t.sources[c.source]--; t.sources[c.source] == 0 {
		delete(t.sources, c.source)
	}
}
