package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

func joiner(url, name string) *Joiner {
	u := types.MustNewURLs([]string{"http://" + name + ".example.com:2380"})
	return &Joiner{URL: url, Name: name, Peers: u}
}

// join runs members at once, and returns what each got.
func join(t *testing.T, joiners ...*Joiner) (clusters []string, errs []error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	clusters, errs = make([]string, len(joiners)), make([]error, len(joiners))
	var wg sync.WaitGroup
	for i, j := range joiners {
		wg.Go(func() { clusters[i], errs[i] = j.Join(ctx) })
	}
	wg.Wait()
	return clusters, errs
}

func TestJoin(t *testing.T) {
	s := newService(t)
	url := mustToken(t, s, 3)
	clusters, errs := join(t, joiner(url, "infra0"), joiner(url, "infra1"), joiner(url, "infra2"))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, c := range clusters {
		if c != clusters[0] || strings.Count(c, "=") != 3 {
			t.Errorf("got %q and %q", c, clusters[0])
		}
	}
	t.Run("one more", func(t *testing.T) {
		if _, errs := join(t, joiner(url, "infra3")); !errors.Is(errs[0], ErrFull) || !strings.Contains(errs[0].Error(), "infra0") {
			t.Errorf("%v, want it full and to say of whom", errs[0])
		}
	})
	t.Run("a member that starts again", func(t *testing.T) {
		if again, errs := join(t, joiner(url, "infra1")); errs[0] != nil || again[0] != clusters[0] {
			t.Errorf("%v, %q, want %q", errs[0], again[0], clusters[0])
		}
	})
}

func TestJoinRefuses(t *testing.T) {
	s := newService(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/page") {
			_, _ = fmt.Fprint(w, "<html>")
			return
		}
		http.NotFound(w, r)
	}))
	defer other.Close()
	full := mustToken(t, s, 1)
	if _, errs := join(t, joiner(full, "infra0")); errs[0] != nil {
		t.Fatal(errs[0])
	}
	for _, c := range []struct {
		name    string
		joiners []*Joiner
		want    error
		text    string
	}{
		{"no size", []*Joiner{joiner(s.URL+"/"+NewToken(), "infra0")}, ErrNoSize, "/_config"},
		{"a full token", []*Joiner{joiner(full, "infra1")}, ErrFull, "infra0"},
		{"one name twice", []*Joiner{joiner(mustToken(t, s, 1), "")}, nil, "expected NAME=URL"},
		{"a page", []*Joiner{joiner(other.URL+"/page/x", "infra0")}, ErrNotAService, "<html>"},
		{"no page", []*Joiner{joiner(other.URL+"/none/x", "infra0")}, ErrNotAService, "404"},
		{"no token", []*Joiner{joiner(s.URL, "infra0")}, nil, "a path that ends in a token"},
		{"no URL", []*Joiner{joiner("token", "infra0")}, nil, "expected http or https"},
		{"a bad proxy", []*Joiner{{URL: full, Proxy: "http://"}}, nil, "discovery proxy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := join(t, c.joiners...)
			if errs[0] == nil || c.want != nil && !errors.Is(errs[0], c.want) || !strings.Contains(errs[0].Error(), c.text) {
				t.Errorf("%v, want %v with %q", errs[0], c.want, c.text)
			}
		})
	}
	t.Run("two of one name", func(t *testing.T) {
		url := mustToken(t, s, 2)
		a, b := joiner(url, "infra0"), joiner(url, "infra0")
		b.Peers = types.MustNewURLs([]string{"http://10.0.1.11:2380"})
		_, errs := join(t, a, b)
		for _, err := range errs {
			if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), "10.0.1.11") {
				t.Errorf("%v, want both named", err)
			}
		}
	})
	t.Run("two of one address", func(t *testing.T) {
		url := mustToken(t, s, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := joiner(url, "infra0")
		registered := make(chan struct{})
		first.Progress = func(m []string, _ int, _ error) {
			if len(m) == 1 {
				close(registered)
			}
		}
		go func() { _, _ = first.Join(ctx) }()
		<-registered
		second := joiner(url, "infra1")
		second.Peers = first.Peers
		if _, errs := join(t, second); !errors.Is(errs[0], ErrDuplicate) {
			t.Errorf("%v, want a duplicate", errs[0])
		}
	})
}

// A service that fails, restarts, and answers again costs time only.
func TestJoinThroughRestart(t *testing.T) {
	dir := shortDir(t)
	store := openStore(t, dir)
	s := serve(t, store)
	url := mustToken(t, s, 3)
	members := []*Joiner{joiner(url, "infra0"), joiner(url, "infra1")}
	var mu sync.Mutex
	seen := map[string]bool{}
	both := make(chan struct{})
	troubled := make(chan struct{}, 100)
	for _, m := range members {
		m.Progress = func(_ []string, _ int, err error) {
			if err != nil {
				troubled <- struct{}{}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[m.Name] = true; len(seen) == 2 {
				select {
				case <-both:
				default:
					close(both)
				}
			}
		}
	}
	type result struct {
		clusters []string
		errs     []error
	}
	results := make(chan result)
	go func() {
		c, errs := join(t, members...)
		results <- result{c, errs}
	}()
	<-both
	at := s.Listener.Addr().String()
	s.CloseClientConnections()
	s.Close()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	<-troubled
	again := openStore(t, dir)
	defer func() { _ = again.Close() }()
	serveAt(t, again, at)
	last, errs := join(t, joiner(url, "infra2"))
	r := <-results
	if err := errors.Join(append(errs, r.errs...)...); err != nil {
		t.Fatal(err)
	}
	if last[0] != r.clusters[0] || last[0] != r.clusters[1] || !strings.HasPrefix(last[0], "infra") || strings.Count(last[0], "=") != 3 {
		t.Errorf("%q, %q", last, r.clusters)
	}
}
