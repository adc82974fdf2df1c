package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// An hour is sixty empty answers, after each of which a member asks again.
const anHour = 60

// emptied is a service whose polls are short, which tells of each that ended without a member before its client knows.
type emptied struct {
	*service
	url    string // of a token for three
	token  string
	ended  chan struct{} // a poll has, and its answer waits for goOn
	goOn   chan struct{}
	change int
}

func newEmptied(t *testing.T) *emptied {
	t.Helper()
	e := &emptied{service: newService(t), ended: make(chan struct{}), goOn: make(chan struct{})}
	e.handler.poll = 2 * time.Millisecond
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		e.handler.ServeHTTP(rec, r)
		if waits(r) && rec.Body.Len() == 0 {
			select {
			case e.ended <- struct{}{}:
			case <-r.Context().Done(): // of a client that has left, at the end
				return
			}
			<-e.goOn
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	t.Cleanup(front.Close)
	made := mustToken(t, e.service, 3)
	e.token = strings.TrimPrefix(made, e.URL+"/")
	e.url = front.URL + "/" + e.token
	return e
}

// hour lets sixty polls end. Meanwhile other tokens come and the store's history goes, which is what happens in an hour.
func (e *emptied) hour(t *testing.T) {
	t.Helper()
	for i := range anHour {
		<-e.ended
		other, err := e.registry.Create(t.Context(), fmt.Sprintf("other%d-%d", e.change, i), 3)
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if _, err := e.registry.etcd.Compact(t.Context(), other.Created, clientv3.WithCompactPhysical()); err != nil {
				t.Fatal(err)
			}
		}
		e.goOn <- struct{}{}
	}
	e.change++
}

// gap registers members after a poll has ended empty, and before its client can have asked again.
func (e *emptied) gap(t *testing.T, members ...string) {
	t.Helper()
	<-e.ended
	for _, m := range members {
		id, _, _ := strings.Cut(m, "=")
		if _, err := e.registry.Register(t.Context(), e.token, strings.TrimPrefix(id, "infra"), m); err != nil {
			t.Fatal(err)
		}
	}
	e.goOn <- struct{}{}
}

// next is what the client hears next. On a machine without time a poll may end before the store was even asked.
func (e *emptied) next(heard <-chan string) string {
	for {
		select {
		case got := <-heard:
			return got
		case <-e.ended:
			e.goOn <- struct{}{}
		}
	}
}

// A client of etcd 2 to 3.6 waits for an hour before each of the others, who register while it is between two polls. It asks
// for the same index again after an empty answer (client/v2/keys.go, httpWatcher.Next), and counts every event as a
// new member.
func TestOldClientWaitsForAnHour(t *testing.T) {
	e := newEmptied(t)
	first, err := e.registry.Register(t.Context(), e.token, "0", "infra0=http://infra0:2380")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() { // ends with the test
		index := first.Created + 1
		for t.Context().Err() == nil {
			body, modified := poll(t.Context(), e.url, index)
			if body == "" {
				continue
			}
			index = modified + 1
			select {
			case heard <- body:
			case <-t.Context().Done():
			}
		}
	}()
	e.hour(t)
	e.gap(t, "infra1=http://infra1:2380")
	if got := e.next(heard); !strings.Contains(got, "infra1=") {
		t.Errorf("after an hour it hears %s", got)
	}
	e.hour(t)
	e.gap(t, "infra2=http://infra2:2380")
	if got := e.next(heard); !strings.Contains(got, "infra2=") {
		t.Errorf("after two hours it hears %s", got)
	}
	// Nothing is told twice.
	<-e.ended
	select {
	case got := <-heard:
		t.Errorf("it hears %s once more", got)
	default:
	}
	e.goOn <- struct{}{}
}

// Our own client waits for an hour, and both others register between two polls.
func TestJoinWaitsForAnHour(t *testing.T) {
	e := newEmptied(t)
	type result struct {
		cluster string
		err     error
	}
	joined := make(chan result)
	go func() {
		cluster, err := joiner(e.url, "infra0").Join(t.Context())
		joined <- result{cluster, err}
	}()
	e.hour(t)
	e.gap(t, "infra1=http://infra1:2380", "infra2=http://infra2:2380")
	if r := <-joined; r.err != nil || r.cluster != "infra0=http://infra0.example.com:2380,infra1=http://infra1:2380,infra2=http://infra2:2380" {
		t.Errorf("%v, %q", r.err, r.cluster)
	}
}

// A token's life is the one limit: a member that waits for longer is told so.
func TestJoinOutlivesItsToken(t *testing.T) {
	s := newService(t)
	url := mustToken(t, s, 3)
	waiting := make(chan struct{})
	j := joiner(url, "infra0")
	j.Progress = func([]string, int, error) { close(waiting) }
	joined := make(chan error)
	go func() {
		_, err := j.Join(t.Context())
		joined <- err
	}()
	<-waiting
	_, lease, err := s.registry.size(t.Context(), strings.TrimPrefix(url, s.URL+"/"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.registry.etcd.Revoke(t.Context(), lease); err != nil { // as at its end
		t.Fatal(err)
	}
	if err := <-joined; !errors.Is(err, ErrNoSize) || !strings.Contains(err.Error(), "it has expired") {
		t.Errorf("%v, want it to say that the token is gone", err)
	}
}

// quiet is a service with one member of two, which holds polls in some way until an hour has passed.
type quiet struct {
	start time.Time
	hold  func(r *http.Request) (*http.Response, error)
	mu    sync.Mutex
	own   string // what the member registered; guarded by mu
	polls int    // guarded by mu
}

func (q *quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	say := func(body string) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-Etcd-Index": {"7"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	late := time.Since(q.start) >= time.Hour
	switch {
	case strings.HasSuffix(r.URL.Path, "/_config/size"):
		return say(`{"action":"get","node":{"key":"/tok/_config/size","value":"2"}}`)
	case r.Method == http.MethodPut:
		q.own = strings.TrimPrefix(r.URL.Path, "/tok/")
		return say(`{"action":"create","node":{"key":"` + r.URL.Path + `","value":"infra0=http://infra0.example.com:2380","createdIndex":5}}`)
	case waits(r) && !late:
		q.polls++
		return q.hold(r)
	}
	list := ""
	if q.own != "" {
		list = `{"key":"/tok/` + q.own + `","value":"infra0=http://infra0.example.com:2380","createdIndex":5}`
	}
	if late {
		list += `,{"key":"/tok/2","value":"infra1=http://infra1:2380","createdIndex":6}`
	}
	return say(`{"action":"get","node":{"key":"/tok","dir":true,"nodes":[` + list + `]}}`)
}

// Whatever a service does with a poll for an hour, our client goes on, and does not ask in a hurry.
func TestJoinAnHourOfPolls(t *testing.T) {
	for _, c := range []struct {
		name string
		hold func(r *http.Request) (*http.Response, error)
		// most is how many polls an hour may take.
		most int
	}{
		{"empty answers after a minute", func(r *http.Request) (*http.Response, error) {
			<-time.After(time.Minute)
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}, 60},
		{"none at all", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 12},
		{"connections that end", func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 240},
		{"a proxy's 504", func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusGatewayTimeout, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil)), Request: r}, nil
		}, 240},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &quiet{start: time.Now(), hold: c.hold}
				j := joiner("http://discovery.example.com/tok", "infra0")
				j.client = &http.Client{Transport: q}
				cluster, err := j.Join(t.Context())
				if err != nil || cluster != "infra0=http://infra0.example.com:2380,infra1=http://infra1:2380" {
					t.Errorf("%v, %q", err, cluster)
				}
				if took := time.Since(q.start); took < time.Hour || took > time.Hour+6*time.Minute {
					t.Errorf("it took %v", took)
				}
				if q.polls > c.most || q.polls < 10 {
					t.Errorf("it asked %d times in an hour, want %d at most", q.polls, c.most)
				}
			})
		})
	}
}

// poll asks once, and returns the answer and the index of the node in it.
func poll(ctx context.Context, at string, index int64) (body string, modified int64) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?recursive=true&wait=true&waitIndex=%d", at, index), nil)
	if err != nil {
		return err.Error(), 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || len(text) == 0 {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(text), `"modifiedIndex":`)
	number, _, _ := strings.Cut(rest, ",")
	modified, _ = strconv.ParseInt(number, 10, 64)
	return string(text), modified
}
