package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Store is an etcd of one member in this process, for a discovery service of its own. Nobody reaches it but through
// Client: its ports are sockets in its directory.
type Store struct {
	// Client is the store's; it ends with the store.
	Client *clientv3.Client
	etcd   *embed.Etcd
}

// OpenStore starts a store in a directory, which it makes, and waits until it serves or ctx ends.
func OpenStore(ctx context.Context, dir string, log *zap.Logger) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "discovery", filepath.Join(dir, "etcd")
	cfg.ListenPeerUrls, cfg.ListenClientUrls = socket(dir, "peer.sock"), socket(dir, "client.sock")
	// Nobody is to come by these; a member needs some, the same at each start.
	nowhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = nowhere, nowhere
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// What is deleted or expires is gone for good after an hour.
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "1h"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start the store in %s: %w", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return &Store{Client: v3client.New(e.Server), etcd: e}, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Close()
	return nil, fmt.Errorf("start the store in %s: %w", dir, err)
}

func socket(dir, name string) []url.URL {
	return []url.URL{{Scheme: "unix", Path: filepath.Join(dir, name)}}
}

// Failed is told when the store fails by itself.
func (s *Store) Failed() <-chan error { return s.etcd.Err() }

// Close ends the client and then the store.
func (s *Store) Close() error {
	err := s.Client.Close()
	s.etcd.Close()
	if errors.Is(err, context.Canceled) {
		return nil // it is how an in-process client ends
	}
	return err
}
