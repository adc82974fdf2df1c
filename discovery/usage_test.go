package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Strangers cannot take more than there is room for, and a token with an end takes its members along.
func TestRoom(t *testing.T) {
	s := newService(t)
	ctx, u := t.Context(), s.registry.usage
	token := NewToken()
	if _, err := s.registry.Create(ctx, token, MaxSize); err != nil {
		t.Fatal(err)
	}
	if _, err := s.registry.Register(ctx, token, "1", "infra0=http://infra0:2380"); err != nil {
		t.Fatal(err)
	}
	counted, bytes := u.tokens, u.bytes
	if _, err := u.count(ctx); err != nil || u.tokens != counted || u.bytes != bytes || counted != 1 {
		t.Errorf("%v; %d tokens with %d octets, counted on the way: %d with %d", err, u.tokens, u.bytes, counted, bytes)
	}
	for what, set := range map[string]func(){
		"10000 tokens":           func() { u.tokens = MaxTokens },
		"take 16777216 octets":   func() { u.bytes = MaxBytes },
		"the store has 7 of 10":  func() { u.crowded = "the store has 7 of 10 octets" },
		"octets, expected 16777": func() { u.bytes = MaxBytes - 216 },
	} {
		u.tokens, u.bytes, u.crowded, u.counted = 1, 1, "", time.Now().Add(time.Hour) // so that it is not counted again
		set()
		big := "infra9=http://" + strings.Repeat("x", 300) + ":2380"
		_, made := s.registry.Create(ctx, NewToken(), 3)
		_, registered := s.registry.Register(ctx, token, fmt.Sprintf("%x", len(what)), big)
		for _, err := range []error{made, registered} {
			if err != nil && (!errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), what)) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if !errors.Is(made, ErrNoRoom) && !errors.Is(registered, ErrNoRoom) {
			t.Errorf("%s: both got in", what)
		}
	}
	lease, err := s.registry.etcd.Leases(ctx)
	if err != nil || len(lease.Leases) == 0 {
		t.Fatalf("%v, no lease", err)
	}
	_, id, err := s.registry.size(ctx, token)
	if err != nil || id == 0 {
		t.Fatal(err, id)
	}
	if ttl, err := s.registry.etcd.TimeToLive(ctx, id); err != nil || ttl.GrantedTTL != int64(Lifetime/time.Second) {
		t.Errorf("%v, a token lives for %d s, want a week", err, ttl.GrantedTTL)
	}
	if _, err := s.registry.etcd.Revoke(ctx, id); err != nil { // as at its end
		t.Fatal(err)
	}
	if left, err := s.registry.etcd.Get(ctx, prefix+token, clientv3.WithPrefix()); err != nil || left.Count != 0 {
		t.Errorf("%v, %d keys are left of a token", err, left.Count)
	}
}

// Several registries keep one account, but for what each may add between two looks.
func TestRoomOfSeveral(t *testing.T) {
	s := newService(t)
	ctx, etcd := t.Context(), s.registry.etcd
	a, b := NewRegistry(etcd), NewRegistry(etcd)
	for i, r := range []*Registry{a, b, a} { // the last one exists, and takes nothing
		if _, err := r.Create(ctx, fmt.Sprint("first", i%2), 3); err != nil && i < 2 {
			t.Fatal(err)
		}
	}
	if a.usage.tokens != 1 {
		t.Errorf("the account says %d tokens for one that was asked for twice", a.usage.tokens)
	}
	for from := 0; from < MaxTokens-50; from += 100 { // a third one's
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(sizeKey(fmt.Sprint("third", from+i)), "3"))
		}
		if _, err := etcd.Txn(ctx).Then(ops[:min(100, MaxTokens-50-from)]...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for n, r := range []*Registry{a, b} {
		wg.Go(func() {
			for i := range 2*MaxTokens/addedPart + 1 {
				if _, err := r.Create(ctx, fmt.Sprintf("t%d-%d", n, i), 3); err != nil {
					if !errors.Is(err, ErrNoRoom) {
						t.Error(err)
					}
					return
				}
			}
			t.Error("it made twice of what it may make between two looks")
		})
	}
	wg.Wait()
	if got, err := etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || got.Count > MaxTokens+2*MaxTokens/addedPart {
		t.Errorf("%v, there are %d tokens", err, got.Count)
	}
}

// Members that protocol 3 left behind go at the second look; those of a token that lives, and of one without an end, stay.
func TestOrphans(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	for _, key := range []string{memberKey("gone", "1"), sizeKey("own"), memberKey("own", "1")} {
		if _, err := s.registry.etcd.Put(ctx, key, "3"); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int64{3, 2, 2} {
		if err := s.registry.usage.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if all, err := s.registry.etcd.Get(ctx, prefix, clientv3.WithPrefix()); err != nil || all.Count != want {
			t.Errorf("%v, %d keys, want %d", err, all.Count, want)
		}
	}
}

// Over HTTP an address that asks too often gets 429, but what clients of etcd 2 ask for an error that they ask again after.
func TestTooMany(t *testing.T) {
	s := newService(t)
	s.handler.visitors = newVisitors(Rates{Create: 1e-6, Other: 1e-6, Burst: 1}) // one of each
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/new", 200, s.URL},
		{"GET", "/new", 429, "too many requests from this address"},
		{"PUT", "/tok/_config/size", 503, `{"errorCode":300,"message":"Raft Internal Error","cause":"too many requests from this address","index":0}`},
		{"GET", "/tok", 404, ""},
		{"GET", "/tok", 503, `{"errorCode":300,`},
		{"GET", "/v2/keys/discovery/tok/_config/size", 503, `{"errorCode":300,`},
		{"PUT", "/tok/1?prevExist=false", 503, `{"errorCode":300,`},
		{"GET", "/health", 429, "too many"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.HasPrefix(string(text), c.body) {
			t.Errorf("%s %s: %v, %s %s, want %d %s", c.method, c.path, err, resp.Status, text, c.status, c.body)
		}
		if after := resp.Header.Get("Retry-After"); (after == "1") != (c.status == 429 || c.status == 503) {
			t.Errorf("%s %s: %s, Retry-After %q", c.method, c.path, resp.Status, after)
		}
	}
}

// A store that is half full takes no tokens, whatever fills it.
func TestHalfFullStore(t *testing.T) {
	cfg := storeConfig(shortDir(t), zap.NewNop())
	cfg.QuotaBackendBytes = 16 << 20
	e, err := startStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	client := v3client.New(e.Server)
	defer func() { _ = client.Close() }()
	for i := range 9 {
		if _, err := client.Put(t.Context(), fmt.Sprint("other", i), strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // until etcd has written it
		status, err := client.Status(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if status.DbSize > cfg.QuotaBackendBytes/quotaPart {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	h := NewHandler(NewRegistry(client), Options{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/new", nil))
	if w.Code != http.StatusInsufficientStorage || !strings.Contains(w.Body.String(), "of 16777216 octets in use, expected half at most") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestVisitors(t *testing.T) {
	v := newVisitors(Rates{Create: 1, Other: 10, Burst: 2})
	now := time.Now()
	count := func(method, path, from string, after time.Duration) (n int) {
		for range 100 {
			r := httptest.NewRequest(method, path, nil)
			r.RemoteAddr = from
			if v.admit(r, now.Add(after)) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		method, path, from string
		after              time.Duration
		want               int
	}{
		{"GET", "/new", "192.0.2.1:1", 0, 2},
		{"PUT", "/tok/_config/size", "192.0.2.1:2", 0, 0},
		{"GET", "/tok", "192.0.2.1:3", 0, 20},
		{"GET", "/tok", "[::ffff:192.0.2.1]:3", 0, 0},
		{"GET", "/tok", "192.0.2.2:3", 0, 20},
		{"GET", "/tok", "192.0.2.1:3", time.Second, 10},
		{"GET", "/new", "192.0.2.1:1", time.Second, 1},
		{"GET", "/tok", "[2001:db8::1]:1", 0, 20},
		{"GET", "/tok", "[2001:db8::2:1]:1", 0, 0},
		{"GET", "/tok", "[2001:db8:0:1::1]:1", 0, 20},
	} {
		if got := count(c.method, c.path, c.from, c.after); got != c.want {
			t.Errorf("%s %s from %s after %v: %d admitted, want %d", c.method, c.path, c.from, c.after, got, c.want)
		}
	}
	for i := range 3 * generation {
		v.mu.Lock()
		v.limiterLocked(visit{from: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
		v.mu.Unlock()
	}
	if n := len(v.now) + len(v.past); n > 2*generation {
		t.Errorf("%d addresses are known, want %d at most", n, 2*generation)
	}
}
