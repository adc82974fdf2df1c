// Package rpcproxy runs etcd's gRPC proxy in front of a cluster whose SRV records it follows.
package rpcproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/soheilhy/cmux"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/etcd-dns/etcd-dns/gateway"
)

const (
	// prefaceTimeout is how long a client may take to begin to speak; until then it is not known whether it speaks gRPC.
	prefaceTimeout = 10 * time.Second
	// stopTimeout is how long calls may take to end when the proxy stops. Watches do not end by themselves.
	stopTimeout = 2 * time.Second
	// selfBuffer is the size of the pipe by which the proxy checks itself.
	selfBuffer = 64 << 10
)

// Config says what the proxy does. Names in brackets are the flags of `etcd grpc-proxy start`.
type Config struct {
	// Follow knows the endpoints; somebody else runs it.
	Follow *gateway.Follower
	// Listen is where clients connect to. The proxy closes it.
	Listen net.Listener
	// Server is the certificate for clients, and the CA of theirs [cert-file, key-file, trusted-ca-file, client-crl-file]; nil
	// listens without TLS.
	Server *transport.TLSInfo
	// Client is what the proxy shows to members, and the CA of theirs [cert, key, cacert]; nil speaks to them without TLS.
	Client *tls.Config
	// Metrics, if set, is one more listener for /metrics, /health, /proxy/metrics and /proxy/health [metrics-addr]; without TLS.
	Metrics net.Listener

	// AdvertiseURL is what the proxy calls itself in member lists [advertise-client-url].
	AdvertiseURL string
	// ResolverPrefix and ResolverTTL, in seconds, register the proxy with others [resolver-prefix, resolver-ttl].
	ResolverPrefix string
	ResolverTTL    int
	// Namespace is put before every key [namespace]; LeasingPrefix is where leasing keeps its keys [experimental-leasing-prefix];
	// Ordering never lets a client read backwards [experimental-serializable-ordering].
	Namespace, LeasingPrefix string
	Ordering                 bool
	// MaxSend and MaxReceive bound messages to and from members, in octets [max-send-bytes, max-recv-bytes].
	MaxSend, MaxReceive int
	// MaxStreams bounds the calls of one connection of a client [max-concurrent-streams].
	MaxStreams uint32
	// DialKeepAlive and DialKeepAliveTimeout find members that fell silent [dial-keepalive-time, dial-keepalive-timeout]. etcd ends
	// connections that are probed more often than every 5 s.
	DialKeepAlive, DialKeepAliveTimeout time.Duration
	// KeepAliveMin, KeepAlive and KeepAliveTimeout are for clients [grpc-keepalive-min-time, -interval, -timeout].
	KeepAliveMin, KeepAlive, KeepAliveTimeout time.Duration
	// Ready, if set, is called once, when there are endpoints and clients are served.
	Ready func()
}

// Run serves clients until ctx ends, after the follower has endpoints. An error is a listener's, or one of the configuration.
func Run(ctx context.Context, log *zap.Logger, c Config) error {
	defer c.close()
	set, err := c.first(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	client, err := c.dial(log, set)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // ends what grpcproxy started
	server, metrics, err := c.newServer(ctx, log, client)
	if err != nil || ctx.Err() != nil {
		return err
	}
	self, inside, err := selfClient(log)
	if err != nil {
		return err
	}
	defer func() { _ = self.Close() }()
	l := c.Listen
	if c.Server != nil {
		if l, err = transport.NewTLSListener(l, c.Server); err != nil {
			return fmt.Errorf("listen with TLS: %w", err)
		}
	}
	m := cmux.New(l)
	m.SetReadTimeout(prefaceTimeout)
	calls, rest := m.Match(cmux.HTTP2()), m.Match(cmux.Any())
	web := c.web(log, client, self, metrics)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.follow(ctx, log, client) })
	g.Go(func() error { return unlessEnded(ctx, "serve gRPC", server.Serve(calls)) })
	g.Go(func() error { return unlessEnded(ctx, "serve gRPC to itself", server.Serve(inside)) })
	g.Go(func() error { return unlessEnded(ctx, "serve HTTP", web.Serve(rest)) })
	if c.Metrics != nil {
		g.Go(func() error { return unlessEnded(ctx, "serve metrics", web.Serve(c.Metrics)) })
	}
	g.Go(func() error { return unlessEnded(ctx, "accept", m.Serve()) })
	g.Go(func() error { stop(ctx, server, web, m, l); return nil })
	if c.Ready != nil {
		c.Ready()
	}
	return g.Wait()
}

// close closes the listeners; those that are closed do not mind.
func (c *Config) close() {
	_ = c.Listen.Close()
	if c.Metrics != nil {
		_ = c.Metrics.Close()
	}
}

// stop ends the servers when ctx does: no new connections, a while for calls to end, then the rest.
func stop(ctx context.Context, server *grpc.Server, web *http.Server, m cmux.CMux, l net.Listener) {
	<-ctx.Done()
	hard := time.AfterFunc(stopTimeout, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
	m.Close()
	_ = l.Close()
	_ = web.Close()
}

// unlessEnded is why a server ended, nil if it was told to.
func unlessEnded(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil || err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil //nolint:nilerr // it was told to end
	}
	return fmt.Errorf("%s: %w", what, err)
}

// selfClient makes a client of the proxy within the process, and the listener for it. etcd's own dials the advertised URL, which
// needs a certificate that is good for both sides.
func selfClient(log *zap.Logger) (*clientv3.Client, net.Listener, error) {
	l := bufconn.Listen(selfBuffer)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://proxy"}, Logger: log.Named("self"),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })}})
	if err != nil {
		return nil, nil, fmt.Errorf("connect to itself: %w", err)
	}
	return client, l, nil
}
