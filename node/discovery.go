package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/discovery"
)

// tokenService runs the discovery service of the Corefile that serves now, in the etcd of the rack's own cluster. Every node
// may run it: they share the tokens.
type tokenService struct {
	node    *Node
	log     *zap.Logger
	prompts prompt
	// trouble is why it does not serve; nil when it does, or is not asked for.
	trouble atomic.Pointer[string]
}

// tokenRetry is between two tries to serve, and between two looks at who the members are.
const tokenRetry = time.Second

// tokenConns are few enough for a process that has DNS to answer, some 50 KiB each with TLS.
const tokenConns = 1000

func newTokenService(n *Node) *tokenService {
	return &tokenService{node: n, log: n.log.Named("discovery"), prompts: newPrompt()}
}

// run serves until ctx ends, anew when the block has changed.
func (s *tokenService) run(ctx context.Context) error {
	select {
	case <-s.node.certs.Ready():
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		s.serveUntilChanged(ctx, s.node.options().Discovery)
	}
	return nil
}

// serveUntilChanged serves as one block says, and returns when everything has ended after ctx, or after another block.
func (s *tokenService) serveUntilChanged(ctx context.Context, o *DiscoveryOptions) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if o != nil {
			s.persist(ctx, o)
		}
	}()
	defer func() { stop(); <-done; s.trouble.Store(nil) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.prompts:
			if !o.same(s.node.options().Discovery) {
				return
			}
		}
	}
}

func (o *DiscoveryOptions) same(p *DiscoveryOptions) bool {
	if o == nil || p == nil {
		return o == p
	}
	return o.URL == p.URL && o.Plain == p.Plain && slices.Equal(o.Listen, p.Listen)
}

// persist serves, again after a failure: a port may be taken for a while.
func (s *tokenService) persist(ctx context.Context, o *DiscoveryOptions) {
	tick := time.NewTicker(tokenRetry)
	defer tick.Stop()
	for {
		err := s.serve(ctx, o)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			text := err.Error()
			if before := s.trouble.Swap(&text); before == nil || *before != text {
				s.log.Error("the discovery service does not serve", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serve opens the listeners and serves until ctx ends or one of them fails. Before a member list is known there is nothing
// to serve from.
func (s *tokenService) serve(ctx context.Context, o *DiscoveryOptions) error {
	endpoints, config := s.store()
	if len(endpoints) == 0 {
		return nil
	}
	listeners, err := s.listen(o)
	if err != nil || len(listeners) == 0 {
		return err
	}
	client, err := discovery.Connect(endpoints, config)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer client.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		s.follow(ctx, endpoints, client.SetEndpoints)
	}()
	defer func() { stop(); <-followed }()
	var serverTLS *tls.Config
	if !o.Plain {
		serverTLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.node.serverCertificate}
	}
	s.trouble.Store(nil)
	s.log.Info("the discovery service serves", zap.String("url", o.URL))
	return discovery.Serve(ctx, serverTLS, discovery.NewRegistry(client), discovery.Options{URL: o.URL, Conns: tokenConns, Log: s.log}, listeners...)
}

// follow gives the client the members as they change.
func (s *tokenService) follow(ctx context.Context, endpoints []string, set func(...string)) {
	tick := time.NewTicker(tokenRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, _ := s.store(); len(now) > 0 && !slices.Equal(now, endpoints) {
			endpoints = now
			set(now...)
		}
	}
}

// store returns the client URLs of the members that keep the tokens and serve clients, by address: no DNS stands between a
// node and its cluster.
func (s *tokenService) store() (endpoints []string, config *tls.Config) {
	c := s.node.options().tokenCluster()
	r := s.node.roster.Load()
	known, _ := r.Cluster(c.Name)
	for _, m := range known.Members {
		if n, ok := r.Node(m.Node); ok && m.Serving && len(n.Addrs) > 0 {
			endpoints = append(endpoints, c.scheme()+"://"+net.JoinHostPort(n.Addrs[0].String(), strconv.Itoa(int(c.ClientPort))))
		}
	}
	if !c.Plain {
		config = s.node.certs.ClientTLS()
	}
	return endpoints, config
}

// listen opens what of the block is this node's.
func (s *tokenService) listen(o *DiscoveryOptions) (out []net.Listener, err error) {
	local, err := localAddrs()
	if err != nil {
		return nil, err
	}
	for _, at := range o.Listen {
		addrs := []netip.Addr{at.Addr()}
		if at.Addr().IsUnspecified() && !s.node.moves() {
			addrs = s.node.addrs() // a node that moves listens on all, and so needs no new listener
		}
		for _, a := range addrs {
			if !a.IsUnspecified() && !isLocal(a, local) {
				continue
			}
			l, err := net.Listen("tcp", netip.AddrPortFrom(a, at.Port()).String())
			if err != nil {
				closeAll(out)
				return nil, err
			}
			out = append(out, l)
		}
	}
	return out, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}
