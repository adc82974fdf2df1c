package discovery

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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
	if err := u.count(ctx); err != nil || u.tokens != counted || u.bytes != bytes || counted != 1 {
		t.Errorf("%v; %d tokens with %d octets, counted on the way: %d with %d", err, u.tokens, u.bytes, counted, bytes)
	}
	for what, set := range map[string]func(){
		"10000 tokens":           func() { u.tokens = MaxTokens },
		"take 16777216 octets":   func() { u.bytes = MaxBytes },
		"the store has 7 of 10":  func() { u.crowded = "the store has 7 of 10 octets" },
		"octets, expected 16777": func() { u.bytes = MaxBytes - 216 },
	} {
		u.tokens, u.bytes, u.crowded = 1, 1, ""
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
		if err := s.registry.usage.count(ctx); err != nil {
			t.Fatal(err)
		}
		if all, err := s.registry.etcd.Get(ctx, prefix, clientv3.WithPrefix()); err != nil || all.Count != want {
			t.Errorf("%v, %d keys, want %d", err, all.Count, want)
		}
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
