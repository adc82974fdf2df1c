package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// tick is how exactly the times of checks and drains are kept.
	tick = 100 * time.Millisecond
	// acceptPause is how long no connection is taken after the process ran out of descriptors; existing ones end meanwhile.
	acceptPause = 100 * time.Millisecond
)

// Proxy carries each connection that it accepts to one of the follower's endpoints, byte for byte: TLS is between client and
// member. The exported fields are set before Run and not changed.
type Proxy struct {
	// RetryDelay is how long after a failed dial an endpoint is tried again.
	RetryDelay time.Duration
	// Drain is how long connections to an endpoint that left the set may stay.
	Drain time.Duration
	// MaxConnections bounds the connections at one time; more are closed at once.
	MaxConnections int
	// Roots, if set, are the CAs one of which must have signed the certificate of each https endpoint, for the host that SRV names.
	// It is verified in each check, and before the first connection to a new endpoint or address; clients verify their own.
	Roots *x509.CertPool
	// Ready, if set, is called once, when an endpoint has an address and connections are taken.
	Ready func()

	checkEvery, greetTimeout time.Duration // the constants, but in tests

	log      *zap.Logger
	follow   *Follower
	listener net.Listener
	wg       sync.WaitGroup // of everything that Run started

	mu sync.Mutex // guards the rest
	// remotes are those in the set, and those that left it and have connections; order is a list of them.
	remotes map[string]*remote
	order   []*remote
	// open is how many connections there are, turn how many there were, refused and drained what was closed before its time.
	open, turn, refused, drained int
	// full and lost say that it has been said that no connection, or no endpoint, is left.
	full, lost bool
}

// NewProxy makes a proxy for the connections of a listener, which Run closes.
func NewProxy(log *zap.Logger, follow *Follower, l net.Listener) *Proxy {
	return &Proxy{RetryDelay: time.Second, Drain: 30 * time.Second, MaxConnections: 4096, checkEvery: checkEvery, greetTimeout: greetTimeout, log: log, follow: follow, listener: l,
		remotes: map[string]*remote{}, turn: rand.IntN(1 << 16)} // many gateways do not all begin with the first endpoint
}

// Run takes connections until ctx ends, which ends them too. Until the follower has an endpoint with an address they wait unaccepted. An error is the
// listener's.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.wg.Wait()
	defer cancel()
	context.AfterFunc(ctx, func() { _ = p.listener.Close() }) // so that Accept returns; cancel sees to it in any case
	ready := make(chan struct{})
	p.wg.Go(func() { p.mind(ctx, ready) })
	select {
	case <-ctx.Done():
		return nil
	case <-ready:
	}
	if p.Ready != nil {
		p.Ready()
	}
	var said time.Time
	for {
		conn, err := p.listener.Accept()
		switch {
		case err == nil:
			p.wg.Go(func() { p.serve(ctx, conn) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			if time.Since(said) >= remindEvery {
				said = time.Now()
				p.log.Error("accept", zap.Error(err), zap.String("hint", "LimitNOFILE= in the unit, or a lower --max-connections"))
			}
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// mind keeps the table as the follower and the clock say. It closes ready when there is an endpoint, and all connections at the end.
func (p *Proxy) mind(ctx context.Context, ready chan<- struct{}) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range p.order {
			r.closeLinks()
		}
	}()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for known := false; ; {
		set, changed := p.follow.Set()
		p.apply(set)
		for same := true; same; {
			if !known && p.usable() {
				known = true
				close(ready)
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
				same = false
			case now := <-clock.C:
				p.tend(ctx, now)
			}
		}
	}
}

// usable reports whether there is an endpoint that may get connections.
func (p *Proxy) usable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.order, func(r *remote) bool { return r.left.IsZero() && !r.suspect && r.endpoint.Known() })
}

// serve carries one connection.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	if !p.enter() {
		return
	}
	defer p.leave()
	r, server := p.connect(ctx)
	if server == nil {
		return
	}
	l := &link{client, server, time.Now()}
	defer l.close()
	if !p.attach(ctx, r, l) {
		return
	}
	defer p.detach(r, l)
	var up sync.WaitGroup
	up.Go(func() { carry(l, server, client) })
	carry(l, client, server)
	up.Wait()
}

// enter counts a connection in, unless there are too many.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= p.MaxConnections {
		p.refused++
		if !p.full {
			p.full = true
			p.log.Warn("there are as many connections as may be; more are refused", zap.Int("max", p.MaxConnections), zap.String("hint", "--max-connections"))
		}
		return false
	}
	p.open++
	return true
}

func (p *Proxy) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.full = p.full && p.open > p.MaxConnections*9/10
}

// connect dials one endpoint after the other until one takes the connection. Nothing has passed to or from the client yet, so
// that it does not notice. The endpoint that is returned counts one more as dialing.
func (p *Proxy) connect(ctx context.Context) (*remote, net.Conn) {
	tried := map[*remote]bool{}
	for ctx.Err() == nil {
		r := p.reserve(tried)
		if r == nil {
			return nil, nil
		}
		tried[r] = true
		conn, err := p.dial(ctx, r)
		if err == nil {
			return r, conn
		}
	}
	return nil, nil
}

// reserve picks an endpoint that was not tried yet, and counts a connection on its way to it.
func (p *Proxy) reserve(tried map[*remote]bool) *remote {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []candidate
	var remotes []*remote
	for _, r := range p.order {
		if r.left.IsZero() && !r.suspect && !tried[r] {
			all = append(all, candidate{r.endpoint.Priority, r.endpoint.Weight, len(r.links) + r.dialing, r.down, time.Now().Before(r.doubt)})
			remotes = append(remotes, r)
		}
	}
	i := pick(all, p.turn, rand.IntN)
	if i < 0 {
		p.refused++
		if !p.lost {
			p.lost = true
			p.log.Error("no endpoint takes connections; they are refused", zap.Int("endpoints", len(tried)), zap.String("hint", "etcd-dns status"))
		}
		return nil
	}
	p.turn++
	remotes[i].dialing++
	return remotes[i]
}

func (p *Proxy) dial(ctx context.Context, r *remote) (net.Conn, error) {
	p.mu.Lock()
	e := r.endpoint
	p.mu.Unlock()
	conn, err := e.Dial(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			p.judge(r, err)
		}
		r.dialing--
		p.follow.Prompt()
		return nil, err
	}
	if r.down { // the check tells whether it is up: the kernel takes connections for a process that hangs
		r.checkAt = time.Now()
	}
	p.lost = false
	return conn, nil
}

// attach puts a connection into the table, where the end of its endpoint or of the proxy finds it.
func (p *Proxy) attach(ctx context.Context, r *remote, l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.dialing--
	if ctx.Err() != nil {
		return false
	}
	r.total++
	r.links[l] = struct{}{}
	return true
}

func (p *Proxy) detach(r *remote, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(r.links, l)
	if now := time.Now(); now.Sub(l.began) < brief {
		r.doubt = now.Add(doubtFor)
	}
}

// carry copies one direction. The end of the stream is passed on as such, and the other direction goes on (RFC 9293 §3.6); an
// error ends both. io.Copy splices between TCP connections, so the bytes stay in the kernel.
func carry(l *link, to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		l.close()
		return
	}
	half, ok := to.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		l.close()
	}
}
