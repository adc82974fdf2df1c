package front

import (
	"runtime"
	"sync"
	"time"
)

// A busy reader that has emptied its socket waits gatherTime, to which the kernel adds some 50 µs, before it looks again: each
// system call then serves several queries, and clients are woken less often. It is what network cards call interrupt
// moderation. At 100,000 queries per second it saves four tenths of the CPU time of a query over UDP, and three over TCP; a client
// that asks one thing at a time never meets it.
const (
	gatherTime = 120 * time.Microsecond
	// gatherFrom is the size of a batch from which on a reader of UDP counts as busy. tcpGatherFrom is that of a connection, whose
	// client is one that pipelines (RFC 7766 §6.2.1.1).
	gatherFrom, tcpGatherFrom = 3, 2
)

// gathering is a wait that connections share: as many as there are, one of them keeps a processor for it.
type gathering struct {
	mu   sync.Mutex
	over chan struct{} // guarded by mu: closed when the wait is over; nil when nobody waits
}

// wait returns a moment later.
func (g *gathering) wait() {
	g.mu.Lock()
	if over := g.over; over != nil {
		g.mu.Unlock()
		<-over
		return
	}
	over := make(chan struct{})
	g.over = over
	g.mu.Unlock()
	runtime.Gosched() // those who have something to do come first, and then wait too
	gather()
	g.mu.Lock()
	g.over = nil
	g.mu.Unlock()
	close(over)
}
