package rpcproxy

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcd-dns/etcd-dns/gateway"
)

// redial is how gRPC tries a member again that did not answer. Its own default goes up to two minutes.
var redial = grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}, MinConnectTimeout: 2 * time.Second}

// first waits for endpoints that the proxy can speak to, one of them with an address.
func (c *Config) first(ctx context.Context) ([]string, error) {
	for {
		set, changed := c.Follow.Set()
		urls := c.urls(set)
		if len(set) > 0 && len(urls) == 0 {
			return nil, &schemeError{set[0]}
		}
		if slices.ContainsFunc(set, gateway.Endpoint.Known) {
			return urls, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-changed:
		}
	}
}

// schemeError is a cluster with TLS and a proxy without a certificate for it.
type schemeError struct{ endpoint gateway.Endpoint }

func (e *schemeError) Error() string {
	return fmt.Sprintf("%s speaks TLS, and there is neither a CA nor a certificate for it", e.endpoint.URL())
}

func (e *schemeError) Hint() string {
	return "--cacert ca.crt --cert proxy.crt --key proxy.key, from: etcd-dns cert client proxy --proxy"
}

// urls are the endpoints that the proxy can speak to: with TLS if it has the configuration for it, as all share one.
func (c *Config) urls(set []gateway.Endpoint) (out []string) {
	for _, e := range set {
		if e.Scheme == "" && c.Client != nil { // as etcd's clients take HOST:PORT
			e.Scheme = "https"
		}
		if (e.Scheme == "https") == (c.Client != nil) {
			out = append(out, e.URL())
		}
	}
	return out
}

// dial makes the client for the members. Connections go to the addresses that the follower knows, so that they need no DNS.
func (c *Config) dial(log *zap.Logger, urls []string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, TLS: c.Client, Logger: log.Named("client"),
		MaxCallSendMsgSize: c.MaxSend, MaxCallRecvMsgSize: c.MaxReceive,
		DialKeepAliveTime: c.DialKeepAlive, DialKeepAliveTimeout: c.DialKeepAliveTimeout, PermitWithoutStream: true,
		DialOptions: []grpc.DialOption{
			grpc.WithUnaryInterceptor(grpcproxy.AuthUnaryClientInterceptor), grpc.WithStreamInterceptor(grpcproxy.AuthStreamClientInterceptor),
			grpc.WithContextDialer(c.connect), grpc.WithConnectParams(redial), grpc.WithIdleTimeout(0),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("client of the members: %w", err)
	}
	// etcd's resolver reads its endpoints without a lock when a connection leaves idleness (client/v3 internal/resolver Build). That
	// happens here, and never again, before follow changes them.
	client.ActiveConnection().Connect()
	return client, nil
}

// connect dials the endpoint that is called HOST:PORT.
func (c *Config) connect(ctx context.Context, name string) (net.Conn, error) {
	set, _ := c.Follow.Set()
	i := slices.IndexFunc(set, func(e gateway.Endpoint) bool { return e.Name() == name })
	if i < 0 {
		return nil, fmt.Errorf("%s has left the endpoints", name)
	}
	conn, err := set[i].Dial(ctx)
	if err != nil {
		c.Follow.Prompt()
	}
	return conn, err
}

// dialHTTP is connect for HTTP requests.
func (c *Config) dialHTTP(ctx context.Context, _, name string) (net.Conn, error) {
	return c.connect(ctx, name)
}

// follow tells the client of each change. Calls on connections to a member that left may end; new ones go to the others.
func (c *Config) follow(ctx context.Context, log *zap.Logger, client *clientv3.Client) error {
	for {
		set, changed := c.Follow.Set()
		if urls := c.urls(set); len(urls) > 0 {
			client.SetEndpoints(urls...)
		} else {
			log.Error("no endpoint is left that the proxy can speak to; it stays with the old ones", zap.Int("endpoints", len(set)),
				zap.String("hint", "restart the proxy with or without --cacert, as the cluster changed its scheme"))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
