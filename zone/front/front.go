// Package front answers DNS queries from packed wire forms on sockets of its own, beside those of a full DNS server.
//
// Its UDP sockets share address and port with the server's (SO_REUSEPORT); a kernel filter steers the usual queries to
// them, in batches and without an allocation. What the front cannot answer it hands to the live server, so a zone
// behaves the same on both ways. Its TCP listener does the same for connections.
package front

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
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
	// Answer completes the message in msg[:n]: a header with ID, QR, opcode and RD set, the counts 1, 0, 0, 0, and
	// the question as it was sent, from octet 12 on. It appends sections to at most limit octets, len(msg) at most,
	// and sets AA, TC, RCODE and the counts. The caller has taken the room of what it adds itself, the OPT record, off
	// limit. On a miss the header and the question are unchanged.
	Answer(q *Question, msg []byte, n, limit int) Result
}

// MaxBatch is how many questions Warm is given at most: as many as a reader takes at once.
const MaxBatch = 64

// Warmer is an Answerer that may load what it will need for a whole batch of questions at once. It is told what comes
// behind the headers of the packets: in most cases, but not always, one question. It keeps nothing of it.
type Warmer interface{ Warm(questions [][]byte) }

// Server is the full DNS server that answers what the front does not. *dnsserver.Server of CoreDNS is one, inside of
// an adapter that sets the context.
type Server interface {
	ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg)
}

// Config is what a front is made of.
type Config struct {
	// Address is the address and port of the full server. The unspecified address is the wildcard of both families.
	Address netip.AddrPort
	// Sockets is how many UDP sockets share the load; zero for one per CPU that Go uses.
	Sockets int
	// Shared belongs to this front alone.
	Shared *Shared
	// Accept judges a missed query's header before the rest is read, as the full server's does; nil for the default.
	Accept dns.MsgAcceptFunc
}

// Front is the sockets of one address. Open and Steer are not for concurrent use, and Run is called once.
type Front struct {
	config   Config
	upstream *upstream
	unsent   atomic.Uint64 // UDP answers that the kernel did not take
	// flushed is what Flush has reported, guarded by mu.
	mu      sync.Mutex
	flushed *snapshot
	// group is set by Open, then read-only.
	group *group
	// fail, when tests set it, may make a system call fail.
	fail func(call string) error
}

// clockTick is how often the clock of cookies and rate limits is set; they count in seconds.
const clockTick = 500 * time.Millisecond

// New returns a front that has no sockets yet and starts nothing.
func New(c Config) *Front {
	if c.Sockets <= 0 {
		c.Sockets = runtime.GOMAXPROCS(0)
	}
	if c.Accept == nil {
		c.Accept = dns.DefaultMsgAcceptFunc
	}
	return &Front{config: c, upstream: newUpstream(c.Accept), fail: func(string) error { return nil }}
}

// Open binds the sockets. It comes before the full server binds its own: the kernel knows the sockets of an address by
// the order in which they were bound. Until Steer the server gets all queries. On an error nothing is left open.
func (f *Front) Open() error {
	g, err := openGroup(&f.config, f.fail)
	if err != nil {
		return fmt.Errorf("open the fast path on %s: %w", f.config.Address, err)
	}
	f.group = g
	return nil
}

// SetServer makes s the server that answers what the front does not. secrets are its TSIG secrets in base64 by key
// name, lower case and absolute; they are read-only from now on. Misses wait for the first server.
func (f *Front) SetServer(s Server, secrets map[string]string) { f.upstream.set(s, secrets) }

// Steer makes the kernel give new TCP connections to the front, and the usual queries over UDP too or, with usual false,
// to the full server. Connections are the front's also while Settings.Bypass has the full server answer everything: the
// front bounds them. Queries that the front already has are answered.
func (f *Front) Steer(usual bool) error {
	if err := f.group.steer(usual, true); err != nil {
		return fmt.Errorf("steer queries on %s: %w", f.config.Address, err)
	}
	return nil
}

// Run serves until ctx ends, then gives everything to the full server, answers what has come in before, closes the
// sockets and waits for what it started. An error says why the front had to end earlier; the full server then answers
// alone.
func (f *Front) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	for _, s := range f.group.udp {
		s.batch = newBatch(s, f)
		group.Go(func() error {
			defer close(s.done)
			return s.serve()
		})
	}
	tcp := newTCP(f.config.Shared, f.upstream.missed)
	connections, closeTCP := context.WithCancel(context.WithoutCancel(ctx))
	defer closeTCP()
	group.Go(func() error { return tcp.Run(connections, f.group.tcp) })
	group.Go(func() error { f.tick(running); return nil })
	group.Go(func() error {
		<-running.Done()
		return f.leave(closeTCP)
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the fast path on %s: %w", f.config.Address, err)
	}
	return nil
}

// Close closes the sockets of a front that was opened and will not run.
func (f *Front) Close() error { return f.group.close() }

// tick keeps the clock of cookies and rate limits.
func (f *Front) tick(ctx context.Context) {
	tick := time.NewTicker(clockTick)
	defer tick.Stop()
	for {
		f.config.Shared.Clock.Set(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leave hands the address over to the full server without losing a query:
//
//  1. The kernel gives the server everything that comes from now on; TCP connections close.
//  2. The readers end and what waits in their sockets is answered.
//  3. Misses end, as their answers need the sockets.
//  4. The first socket closes. The last of the group, the server's, takes its place in the kernel's order, and
//     there it stays when the others close.
func (f *Front) leave(closeTCP func()) error {
	err := f.group.steer(false, false)
	closeTCP()
	f.upstream.stop()
	for _, s := range f.group.udp {
		s.stop()
		<-s.done
	}
	for i, s := range f.group.udp {
		s.drain()
		f.upstream.idle()
		err = errors.Join(err, s.conn.Close())
		if i == 0 {
			err = errors.Join(err, f.group.handOver())
		}
	}
	return err
}
