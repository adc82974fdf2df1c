package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	// checkEvery is how often an endpoint that is up is tried.
	checkEvery = 5 * time.Second
	// brief is how soon a connection ends that was of no use: the endpoint hung up, or the client did not like its certificate. Short
	// commands end as soon; that is no fault, and doubts about all endpoints alike change nothing.
	brief = time.Second
	// doubtFor is how long an endpoint is in doubt after that.
	doubtFor = time.Minute
)

// remote is an endpoint with its connections. Its fields are guarded by the proxy's mu.
type remote struct {
	endpoint Endpoint
	links    map[*link]struct{}
	// dialing is how many connections are on their way to it.
	dialing int
	// down says that the last dial or check failed; failures counts them, total the connections that it had.
	down            bool
	failures, total int
	// suspect says that its certificate was not verified yet, or is not good; it gets no connections.
	suspect bool
	// doubt is until when it gets connections by turn alone, because one was brief.
	doubt time.Time
	// left is when the endpoint left the set; zero while it is in it.
	left time.Time
	// checkAt is when it is to be tried next; checking says that it is being tried.
	checkAt  time.Time
	checking bool
}

// link is a client's connection, the one that goes with it, and when that began.
type link struct {
	client, server net.Conn
	began          time.Time
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// closeLinks ends the connections of an endpoint and returns how many there were.
func (r *remote) closeLinks() int {
	n := len(r.links)
	for l := range r.links {
		l.close()
	}
	clear(r.links)
	return n
}

// apply makes the table follow the set. An endpoint that left gets no new connections, and is tried at once; one that is back is
// as if it had never left.
func (p *Proxy) apply(set []Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := map[string]bool{}
	for _, e := range set {
		if p.loops(e) {
			p.log.Error("an endpoint is this gateway's own address; it is left out", zap.String("endpoint", e.Name()), zap.String("hint", "listen on another port"))
			continue
		}
		name := e.Name()
		in[name] = true
		r := p.remotes[name]
		if r == nil {
			r = &remote{links: map[*link]struct{}{}, checkAt: time.Now()}
			p.remotes[name], p.order = r, append(p.order, r)
		}
		if !slices.Equal(r.endpoint.Addrs, e.Addrs) { // also the first ones that are known
			r.suspect, r.checkAt = p.Roots != nil && e.Scheme == "https", time.Now()
		}
		r.endpoint, r.left = e, time.Time{}
	}
	for name, r := range p.remotes {
		if !in[name] && r.left.IsZero() {
			r.left, r.checkAt = time.Now(), time.Now()
			if n := len(r.links); n > 0 {
				p.log.Info("an endpoint has left; its connections are given time to end", zap.String("endpoint", name), zap.Int("connections", n), zap.Duration("drain", p.Drain))
			}
		}
	}
}

// loops reports whether an endpoint is the address that the gateway listens at, or one of the machine's own when it listens at all.
func (p *Proxy) loops(e Endpoint) bool {
	own, ok := p.listener.Addr().(*net.TCPAddr)
	if !ok || own.Port != int(e.Port) {
		return false
	}
	local := []net.IP{own.IP}
	if own.IP.IsUnspecified() {
		local = nil
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return false
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				local = append(local, n.IP)
			}
		}
	}
	for _, a := range e.Addrs {
		for _, l := range local {
			if l.Equal(a.AsSlice()) {
				return true
			}
		}
	}
	return false
}

// tend closes what has been drained, forgets endpoints that are gone, and tries those whose time has come.
func (p *Proxy) tend(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.order[:0]
	for _, r := range p.order {
		if !r.left.IsZero() {
			if len(r.links) > 0 && now.Sub(r.left) >= p.Drain {
				n := r.closeLinks()
				p.drained += n
				p.log.Info("the connections to an endpoint that left were closed", zap.String("endpoint", r.endpoint.Name()), zap.Int("connections", n))
			}
			if len(r.links)+r.dialing == 0 && !r.checking {
				delete(p.remotes, r.endpoint.Name())
				continue
			}
		}
		kept = append(kept, r)
		if !r.checking && !now.Before(r.checkAt) {
			r.checking = true
			p.wg.Go(func() { p.check(ctx, r) })
		}
	}
	clear(p.order[len(kept):])
	p.order = kept
}

// check connects to an endpoint, greets it if it speaks TLS, and hangs up. The connections to one that left and does not answer are
// ended: nobody is there to end them in order.
func (p *Proxy) check(ctx context.Context, r *remote) {
	p.mu.Lock()
	e := r.endpoint
	p.mu.Unlock()
	conn, err := e.Dial(ctx)
	if err == nil && e.Scheme == "https" {
		limited, cancel := context.WithTimeout(ctx, p.greetTimeout)
		err = greet(limited, conn, p.Roots, e.Host)
		cancel()
	}
	if conn != nil {
		_ = conn.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.checking = false
	if ctx.Err() != nil {
		return
	}
	var bad *tls.CertificateVerificationError
	r.suspect = errors.As(err, &bad) || r.suspect && (err != nil || !same(e, r.endpoint))
	p.judge(r, err)
	if err != nil && !r.left.IsZero() {
		p.drained += r.closeLinks()
	}
}

// judge notes how a dial that failed, or a check, ended. When that is news it says so, and makes the follower ask. The caller holds mu.
func (p *Proxy) judge(r *remote, err error) {
	switch name := zap.String("endpoint", r.endpoint.Name()); {
	case err != nil:
		r.failures++
		if !r.down && r.left.IsZero() {
			p.log.Warn("an endpoint does not take connections", name, zap.Error(err), zap.Duration("again in", p.RetryDelay))
			p.follow.Prompt()
		}
	case r.down:
		p.log.Info("an endpoint takes connections again", name)
	}
	r.down = err != nil
	if r.checkAt = time.Now().Add(p.checkEvery); r.down {
		r.checkAt = time.Now().Add(p.RetryDelay)
	}
}
