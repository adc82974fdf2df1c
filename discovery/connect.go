package discovery

import (
	"crypto/tls"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Connect returns a client of the etcd cluster that keeps a service's tokens; it is the caller's to close. Nobody need be
// there yet: a request that finds nobody fails, and the next one tries again.
func Connect(endpoints []string, config *tls.Config) (*clientv3.Client, error) {
	soon := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: config, Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second, DialOptions: []grpc.DialOption{
			grpc.WithNoProxy(), // a proxy of the environment must not stand between a service and its store
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: time.Second}),
		}})
	if err != nil {
		return nil, fmt.Errorf("connect to the store of tokens at %v: %w", endpoints, err)
	}
	return client, nil
}
