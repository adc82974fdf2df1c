package discovery

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
)

// shortDir makes a directory whose path leaves room for the sockets in it (unix(7): 108 octets).
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "discovery") //nolint:usetesting // t.TempDir's is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := OpenStore(ctx, dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// service is a discovery service on loopback.
type service struct {
	*httptest.Server
	registry *Registry
	handler  *Handler
}

// serve serves a store's tokens without rate limits.
func serve(t testing.TB, s *Store) *service {
	t.Helper()
	r := NewRegistry(s.Client)
	h := NewHandler(r, Options{Rates: Rates{Create: 1e6, Other: 1e6, Burst: 1}})
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(h)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	return &service{server, r, h}
}

func newService(t testing.TB) *service {
	s := openStore(t, shortDir(t))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return serve(t, s)
}

func mustToken(t testing.TB, s *service, size int) string {
	t.Helper()
	token := NewToken()
	if _, err := s.registry.Create(t.Context(), token, size); err != nil {
		t.Fatal(err)
	}
	return s.URL + "/" + token
}

// serveAt serves at an address that another service had.
func serveAt(t testing.TB, s *Store, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, nil, NewRegistry(s.Client), Options{}, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
