package rpcproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// newServer puts etcd's proxies for each service together, as etcdmain/grpc_proxy.go does (newGRPCProxyServer). The metrics are
// those of the server and the follower.
func (c *Config) newServer(ctx context.Context, log *zap.Logger, client *clientv3.Client) (*grpc.Server, prometheus.Gatherer, error) {
	if err := c.wrap(ctx, log, client); err != nil || ctx.Err() != nil {
		return nil, nil, err
	}
	kv, _ := grpcproxy.NewKvProxy(client)
	watch, _ := grpcproxy.NewWatchProxy(client.Ctx(), log, client)
	if c.ResolverPrefix != "" {
		grpcproxy.Register(log, client, c.ResolverPrefix, c.AdvertiseURL, c.ResolverTTL)
	}
	cluster, _ := grpcproxy.NewClusterProxy(log, client, c.AdvertiseURL, c.ResolverPrefix)
	lease, _ := grpcproxy.NewLeaseProxy(client.Ctx(), client)

	metrics := grpcprometheus.NewServerMetrics()
	reg := prometheus.NewRegistry()
	if err := errors.Join(reg.Register(metrics), reg.Register(c.Follow)); err != nil {
		return nil, nil, fmt.Errorf("register the metrics: %w", err)
	}
	s := grpc.NewServer(
		grpc.ChainStreamInterceptor(metrics.StreamServerInterceptor()), grpc.ChainUnaryInterceptor(metrics.UnaryServerInterceptor()),
		grpc.MaxConcurrentStreams(c.MaxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.KeepAliveMin}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.KeepAlive, Timeout: c.KeepAliveTimeout}))
	pb.RegisterKVServer(s, kv)
	pb.RegisterWatchServer(s, watch)
	pb.RegisterClusterServer(s, cluster)
	pb.RegisterLeaseServer(s, lease)
	pb.RegisterMaintenanceServer(s, grpcproxy.NewMaintenanceProxy(client))
	pb.RegisterAuthServer(s, grpcproxy.NewAuthProxy(client))
	v3electionpb.RegisterElectionServer(s, grpcproxy.NewElectionProxy(client))
	v3lockpb.RegisterLockServer(s, grpcproxy.NewLockProxy(client))
	return s, reg, nil
}

// wrap lays ordering, namespace and leasing around the client, in etcd's order. Ordering wants one linearizable read first, for
// which it waits.
func (c *Config) wrap(ctx context.Context, log *zap.Logger, client *clientv3.Client) error {
	if c.Ordering {
		client.KV = ordering.NewKV(client.KV, ordering.NewOrderViolationSwitchEndpointClosure(client))
		for {
			_, err := client.KV.Get(ctx, "_", clientv3.WithKeysOnly())
			if err == nil || ctx.Err() != nil {
				break
			}
			log.Warn("waiting for a linearizable read", zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	if c.Namespace != "" {
		client.KV = namespace.NewKV(client.KV, c.Namespace)
		client.Watcher = namespace.NewWatcher(client.Watcher, c.Namespace)
		client.Lease = namespace.NewLease(client.Lease, c.Namespace)
	}
	if c.LeasingPrefix != "" {
		kv, _, err := leasing.NewKV(client, c.LeasingPrefix)
		if err != nil {
			return fmt.Errorf("leasing: %w", err)
		}
		client.KV = kv
	}
	return nil
}

// web answers /metrics (a member's), /health (the cluster's), /proxy/metrics and /proxy/health.
func (c *Config) web(log *zap.Logger, client, self *clientv3.Client, own prometheus.Gatherer) *http.Server {
	members := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: c.Client.Clone(), DialContext: c.dialHTTP}}
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		now := http.NewServeMux() // etcd's handler keeps the endpoints that it is made with
		grpcproxy.HandleMetrics(now, members, client.Endpoints())
		now.ServeHTTP(w, r)
	})
	grpcproxy.HandleHealth(log, mux, client)
	grpcproxy.HandleProxyHealth(log, mux, self)
	// Whatever else in the process has a metric of the same name, the rest is told.
	mux.Handle("/proxy/metrics", promhttp.HandlerFor(prometheus.Gatherers{own, prometheus.DefaultGatherer}, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return &http.Server{Handler: mux, ReadHeaderTimeout: prefaceTimeout, IdleTimeout: time.Minute, ErrorLog: stdlog.New(io.Discard, "", 0)}
}
