package stock

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// fakePeer answers /members with a cluster's ID and, if members is set, that list.
type fakePeer struct {
	*httptest.Server
	cluster atomic.Value
	members atomic.Value
	asked   atomic.Int64
}

func newFakePeer(t *testing.T, cluster string) *fakePeer {
	t.Helper()
	p := new(fakePeer)
	p.cluster.Store(cluster)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		w.Header().Set("X-Etcd-Cluster-ID", p.cluster.Load().(string))
		if m := p.members.Load(); m != nil {
			_ = json.NewEncoder(w).Encode(m) // the asker is gone
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// member is how etcd writes one.
type member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// A start ends when a majority of the member's cluster is in another one, and on nothing less.
func TestWatch(t *testing.T) {
	const own, other = "1", "2"
	for _, c := range []struct {
		name   string
		peers  []string // their cluster IDs; empty for one that does not run
		learns bool     // the first peer is a learner
		fresh  bool
		want   string // of the problem, and its hint
	}{
		{"a stranger of two", []string{other, own}, false, true, ""},
		{"a stranger, and one that does not run", []string{other, ""}, false, true, ""},
		{"two strangers", []string{other, other}, false, true, "conflicting cluster ID to the target cluster (2 != 1): |remove infra0.etcd, which this start has made; then etcdctl member add infra0 --peer-urls="},
		{"two strangers after a restart", []string{other, other}, false, false, "conflicting cluster ID|infra0.etcd holds a member of the second cluster"},
		{"a stranger of one", []string{other}, false, true, "conflicting cluster ID to the target cluster (2 != 1): |remove"},
		{"learners do not count", []string{other, other}, true, true, "conflicting cluster ID|remove"},
		{"nobody runs", []string{"", ""}, false, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			self := newFakePeer(t, own)
			list := []member{{ID: 1, PeerURLs: []string{self.URL}}}
			for i, id := range c.peers {
				p := newFakePeer(t, id)
				if id == "" {
					p.Close()
				}
				list = append(list, member{ID: uint64(i + 2), PeerURLs: []string{p.URL}, IsLearner: c.learns && i == 0})
			}
			self.members.Store(list)
			s, _, err := read([]string{"--name=infra0", "--initial-advertise-peer-urls=" + self.URL}, environment())
			if err != nil {
				t.Fatal(err)
			}
			// What is not believed within ten looks, is not at all: then there is a leader.
			w := &watch{s: s, fresh: c.fresh, every: time.Millisecond, led: func() bool { return self.asked.Load() > 20 }}
			got := ""
			if err := w.run(t.Context()); err != nil {
				p := err.(*Problem) //nolint:errorlint // it is what run promises
				got = p.What + "|" + p.Fix
			}
			what, fix, _ := strings.Cut(c.want, "|")
			gotWhat, gotFix, _ := strings.Cut(got, "|")
			if (got == "") != (c.want == "") || !strings.HasPrefix(gotWhat, what) || !strings.HasPrefix(gotFix, fix) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A leader ends the watch, also after strangers were seen; and so does the end of its context, while the member does not answer.
func TestWatchEnds(t *testing.T) {
	stranger := newFakePeer(t, "2")
	self := newFakePeer(t, "1")
	self.members.Store([]member{{ID: 1, PeerURLs: []string{self.URL}}, {ID: 2, PeerURLs: []string{stranger.URL}}})
	s, _, err := read([]string{"--name=infra0", "--initial-advertise-peer-urls=" + self.URL}, environment())
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{s: s, every: time.Millisecond, led: func() bool { return stranger.asked.Load() >= looks-1 }}
	if err := w.run(t.Context()); err != nil {
		t.Errorf("%v, and there is a leader", err)
	}
	self.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.led = func() bool { return false }
	if err := w.run(ctx); err != nil {
		t.Errorf("%v, and the member has not said anything", err)
	}
}

// A member that has served and comes with a blank disk is refused while a peer is there to tell.
func TestBlankMember(t *testing.T) {
	p := newFakePeer(t, "")
	cluster := "infra0=http://127.0.0.1:1,infra1=" + p.URL
	p.cluster.Store(clusterID(t, "etcd-cluster", cluster))
	args := []string{"--name=infra0", "--initial-advertise-peer-urls=http://127.0.0.1:1", "--initial-cluster=" + cluster, "--data-dir=" + t.TempDir()}
	id := memberID(t, "etcd-cluster", cluster, "infra0")
	p.members.Store([]member{{ID: id, PeerURLs: []string{"http://127.0.0.1:1"}}})
	checked(t, args, "", "")
	p.members.Store([]member{{ID: id, PeerURLs: []string{"http://127.0.0.1:1"}, ClientURLs: []string{"http://127.0.0.1:2"}}})
	checked(t, args, "member ", "")
}

// What differs is said, not only that something does.
func TestDiffer(t *testing.T) {
	list := []membership.Member{{RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://b:1"}}}, {RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://a:1"}}}}
	for _, c := range []struct {
		own     []string
		members []membership.Member
		want    string
	}{
		{[]string{"http://a:1", "http://b:1"}, list, "the URLs are the same, so that the token is another one, or the cluster was changed since its birth"},
		{[]string{"http://c:1", "http://a:1"}, list, "that cluster has http://a:1, http://b:1, and it has http://a:1, http://c:1"},
		{[]string{"http://a:1"}, nil, "it has http://a:1"},
	} {
		if got := differ(c.own, c.members); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
