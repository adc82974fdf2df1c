package discovery

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// oldClient is a member of etcd 2 to 3.6: it makes all the calls of theirs (server/etcdserver/api/v2discovery/discovery.go), among them
// one that ours does not need, which waits for the member's own registration.
type oldClient struct{ *Joiner }

func (c *oldClient) Join(ctx context.Context) (string, error) {
	if err := c.open(); err != nil {
		return "", err
	}
	size, err := c.size(ctx)
	if err != nil {
		return "", err
	}
	if _, _, err := c.members(ctx); err != nil {
		return "", err
	}
	if err := c.register(ctx); err != nil {
		return "", err
	}
	one := func(key string, from int64) (*answer, error) {
		query := url.Values{"recursive": {strconv.FormatBool(key == "")}, "wait": {"true"}, "waitIndex": {strconv.FormatInt(from, 10)}}
		a, _, err := c.get(ctx, key, query, waitWithin)
		return a, err
	}
	a, err := one(c.id(), 1)
	if err != nil {
		return "", err
	}
	if a == nil || a.Node == nil || a.Node.Value == nil || *a.Node.Value != c.registration() {
		return "", fmt.Errorf("its own registration is %v", a)
	}
	members, index, err := c.members(ctx)
	if err != nil {
		return "", err
	}
	for next := index + 1; len(members) < size; { // every event is a new member
		a, err := one("", next)
		if err != nil {
			return "", err
		}
		if a != nil {
			members, next = append(members, a.Node), a.Node.ModifiedIndex+1
		}
	}
	return clusterOf(members[:size])
}

// A thousand clusters boot at once, each behind an address of its own and at the rates of everybody. Each gets its three members,
// all three the same ones in the same order, whichever client they are.
func TestManyTokens(t *testing.T) {
	const tokens = 1000
	store := openStore(t, shortDir(t))
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	serveAt(t, store, at)
	r := NewRegistry(store.Client)
	var making sync.WaitGroup
	urls, failed := make([]string, tokens), make(chan error, 4*tokens)
	for i := range tokens {
		making.Go(func() {
			token := NewToken()
			urls[i] = "http://" + at + "/" + token
			if _, err := r.Create(t.Context(), token, 3); err != nil {
				failed <- err
			}
		})
	}
	making.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var joining sync.WaitGroup
	got := make([][3]string, tokens)
	for i := range tokens {
		from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}
		for m := range 3 {
			j := joiner(urls[i], fmt.Sprintf("infra%d", m))
			j.client = &http.Client{Transport: &http.Transport{DialContext: from.DialContext, MaxIdleConnsPerHost: 1}}
			member := j.Join
			if m == i%3 {
				member = (&oldClient{j}).Join
			}
			joining.Go(func() {
				defer j.client.CloseIdleConnections()
				var err error
				if got[i][m], err = member(ctx); err != nil {
					failed <- err
				}
			})
		}
	}
	joining.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	for i, g := range got {
		if g[0] != g[1] || g[0] != g[2] || strings.Count(g[0], "=") != 3 {
			t.Fatalf("token %d: %q", i, g)
		}
	}
}
