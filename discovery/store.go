package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
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
	lock   *fileutil.LockedFile
}

// inUse is for a directory whose store runs in another process.
type inUse struct{ dir string }

func (e *inUse) Error() string {
	return fmt.Sprintf("another discovery service has its store in %s", e.dir)
}

// Hint is what to do.
func (e *inUse) Hint() string {
	return "stop that one, or give this one a directory of its own: etcd-dns discovery serve --data DIR"
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
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "lock"), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, &inUse{dir}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store's directory: %w", err)
	}
	e, err := startStore(ctx, storeConfig(dir, log))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the store in %s: %w", dir, err), lock.Close())
	}
	return &Store{Client: v3client.New(e.Server), etcd: e, lock: lock}, nil
}

func storeConfig(dir string, log *zap.Logger) *embed.Config {
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
	return cfg
}

// startStore starts etcd. That waits for the lock of its files for as long as it takes, and cannot be told to end: when ctx
// ends first, what comes of it is closed.
func startStore(ctx context.Context, cfg *embed.Config) (*embed.Etcd, error) {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan result, 1)
	go func() { // ends with etcd's start
		e, err := embed.StartEtcd(cfg)
		started <- result{e, err}
	}()
	var e *embed.Etcd
	select {
	case r := <-started:
		if r.err != nil {
			return nil, r.err
		}
		e = r.etcd
	case <-ctx.Done():
		go func() {
			if r := <-started; r.err == nil {
				r.etcd.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
	var err error
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Close()
	return nil, err
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
		err = nil // it is how an in-process client ends
	}
	return errors.Join(err, s.lock.Close())
}
