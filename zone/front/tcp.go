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
	// TCPIdle is how long a connection may be without a query, and how long a query may take to come in. RFC 7766 §6.2.3:
	// in the order of a few seconds.
	TCPIdle = 10 * time.Second
	// tcpWrite is how long a client may take to read what is written to it at once, 96 KiB at most.
	tcpWrite = 5 * time.Second
	// maxPending is how many queries of a connection the full server may have at a time. Then no more are read.
	maxPending = 16
	// maxLarge is how many connections may send queries that are longer than smallBuffer at a time; others are closed.
	maxLarge = 64
)

// missFunc hands a query that the engine missed to the full server. packet is the callee's from the call on. It does not
// wait for the full server: it queues or sheds, and to shed is to answer SERVFAIL.
//
// write sends one message, without a length before it. It may be called from any goroutine, several times (a zone
// transfer) and concurrently, until done; msg is not kept. An error means that the connection is gone. done is called once.
type missFunc func(packet []byte, local, remote net.Addr, write func(msg []byte) error, done func())

// tcp answers DNS over TCP (RFC 7766). Queries that come in together are answered in order and with one write; the full
// server's answers come when they are ready (RFC 7766 §6.2.1.1).
//
// A connection beyond a limit takes the place of another one (RFC 7766 §6.2.2, RFC 9210 §4.2), which goesBefore chooses:
// whoever has many connections pays for them, so that a good client comes in whatever the others do. One that is being
// answered goes only for a client that has fewer; when there is no other the new one is closed. Memory is bounded: 3 KiB for
// each connection, 160 KiB for each that does not read what is written to it (tcpWrite at most), and 64 KiB for maxLarge of
// them.
type tcp struct {
	shared   *Shared
	counters *counters
	missed   missFunc

	// Tests set these before Run; then they are read-only.
	maxConns, maxPerSource int
	idle, write            time.Duration

	gathering gathering

	large chan struct{} // one for each large buffer in use
	ticks atomic.Uint64 // orders connections by when they became idle or stalled
	wg    sync.WaitGroup

	mu      sync.Mutex
	conns   []*tcpConn                // guarded by mu; each knows its place
	sources map[netip.Addr]*tcpSource // guarded by mu; those with connections
	ended   bool                      // guarded by mu
}

// tcpSource is a client: an IPv4 address or an IPv6 /64. tcp.mu guards it.
type tcpSource struct {
	addr  netip.Addr
	conns int
}

// newTCP returns what Run runs. missed gets what the engine misses.
func newTCP(s *Shared, missed missFunc) *tcp {
	return &tcp{
		shared: s, counters: s.newCounters(), missed: missed,
		maxConns: maxConns, maxPerSource: maxPerSource, idle: TCPIdle, write: tcpWrite,
		large: make(chan struct{}, maxLarge), sources: map[netip.Addr]*tcpSource{},
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
	for _, c := range t.conns {
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

// admit serves a connection, or closes it when there is no room.
func (t *tcp) admit(c net.Conn) {
	source := SourceOf(clientOf(c))
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.roomLocked(source) {
		c.Close()
		return
	}
	conn := newTCPConn(t, c)
	t.addLocked(conn, source)
	t.wg.Go(func() {
		conn.serve()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.removeLocked(conn)
	})
}

// clientOf returns a connection's other end, unmapped; nobody's address when it has none.
func clientOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// SourceOf returns the address that stands for a client where connections are counted: its own, or the first of its /64.
func SourceOf(client netip.Addr) netip.Addr {
	client = client.Unmap()
	if client.Is6() {
		// A host has a /64 for itself (RFC 7421 §1).
		return netip.PrefixFrom(client.WithZone(""), 64).Masked().Addr()
	}
	return client
}

// roomLocked makes room for a connection from a source, and says whether there is any.
func (t *tcp) roomLocked(source netip.Addr) bool {
	own := t.sources[source]
	if own == nil {
		own = &tcpSource{} // of nobody yet
	}
	var victim *tcpConn
	switch {
	case t.ended:
		return false
	case own.conns >= t.maxPerSource:
		victim = t.victimLocked(func(c *tcpConn) bool { return c.source == own && c.does() != isBusy })
	case len(t.conns) >= t.maxConns:
		victim = t.victimLocked(func(c *tcpConn) bool { return c.does() != isBusy || c.source.conns > own.conns+1 })
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

// victimLocked returns the connection that is the first to go of those that may; nil for none.
func (t *tcp) victimLocked(may func(*tcpConn) bool) (victim *tcpConn) {
	for _, c := range t.conns {
		if may(c) && (victim == nil || c.goesBefore(victim)) {
			victim = c
		}
	}
	return victim
}

func (t *tcp) addLocked(c *tcpConn, source netip.Addr) {
	if c.source = t.sources[source]; c.source == nil {
		c.source = &tcpSource{addr: source}
		t.sources[source] = c.source
	}
	c.source.conns++
	c.place = len(t.conns)
	t.conns = append(t.conns, c)
}

// removeLocked forgets a connection; once more does nothing.
func (t *tcp) removeLocked(c *tcpConn) {
	if c.source == nil {
		return
	}
	last := t.conns[len(t.conns)-1]
	t.conns[c.place], last.place = last, c.place
	t.conns[len(t.conns)-1] = nil
	t.conns = t.conns[:len(t.conns)-1]
	if c.source.conns--; c.source.conns == 0 {
		delete(t.sources, c.source.addr)
	}
	c.source = nil
}
