package follow

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

// serve runs an etcd member of a cluster of its own until the test ends or stop is called.
func serve(t *testing.T, at string, edit func(*embed.Config)) (stop func()) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.Name, c.LogLevel, c.LogOutputs = t.TempDir(), "old0", "panic", []string{os.DevNull}
	scheme := "http"
	c.UnsafeNoFsync = true
	if edit != nil {
		edit(c)
	}
	if c.ClientAutoTLS || !c.ClientTLSInfo.Empty() {
		scheme = "https"
	}
	client, peer := mustURL(t, scheme+"://"+at), mustURL(t, "http://"+freeAddr(t))
	if was := embed.NewConfig().ListenPeerUrls; c.ListenPeerUrls[0] != was[0] { // edit chose
		peer = c.ListenPeerUrls[0]
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.Name + "=" + peer.String()
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	var once atomic.Bool
	stop = func() {
		if once.CompareAndSwap(false, true) {
			e.Close()
		}
	}
	t.Cleanup(stop)
	<-e.Server.ReadyNotify()
	return stop
}

func mustURL(t *testing.T, s string) url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

// freeAddr is a loopback address with a port that nobody has now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// begin runs a follower until the test ends or stop is called.
func begin(t *testing.T, o Options) (f *Follower, stop func()) {
	t.Helper()
	o.Cluster, o.Every, o.Timeout, o.Log = "old", 50*time.Millisecond, 2*time.Second, zap.NewNop()
	if o.Changed == nil {
		o.Changed = func() {}
	}
	f = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return f, stop
}

// wait polls until cond returns an empty string.
func wait(t *testing.T, what string, cond func() string) {
	t.Helper()
	why := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if why = cond(); why == "" {
			return
		}
	}
	t.Fatalf("%s: %s", what, why)
}

func has(f *Follower, members int, serving string) func() string {
	return func() string {
		l, ok := f.List()
		var names []string
		for _, m := range l.Members {
			if m.Serving {
				names = append(names, m.Name)
			}
		}
		if !ok || len(l.Members) != members || strings.Join(names, " ") != serving {
			return fmt.Sprintf("%+v, %+v", l, f.Status())
		}
		return ""
	}
}

func faulty(f *Follower, text string) func() string {
	return func() string {
		if s := f.Status(); text == "" && s.Fault != "" || !strings.Contains(s.Fault, text) {
			return fmt.Sprintf("the fault is %q, want %q", s.Fault, text)
		}
		return ""
	}
}

func TestFollowAnEtcd(t *testing.T) {
	at := freeAddr(t)
	stop := serve(t, at, nil)
	file := filepath.Join(t.TempDir(), "followed-old.json")
	var changes atomic.Int32
	f, end := begin(t, Options{Endpoints: []string{"http://" + freeAddr(t), "http://" + at}, File: file, Changed: func() { changes.Add(1) }})
	wait(t, "the one member", has(f, 1, "old0"))
	wait(t, "no fault", faulty(f, ""))
	if changes.Load() == 0 {
		t.Error("nobody was told")
	}
	first, _ := f.List()
	if s := f.Status().Members[first.Members[0].ID]; !s.Leader || !strings.HasPrefix(s.Version, "3.") || s.Error != "" {
		t.Errorf("its sight is %+v", s)
	}

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	added, err := client.MemberAddAsLearner(t.Context(), []string{"http://192.0.2.7:2380"})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the member that was added", has(f, 2, "old0"))
	grown, _ := f.List()
	if grown.Index <= first.Index || grown.ClusterID != first.ClusterID {
		t.Errorf("%+v, after %+v", grown, first)
	}
	if _, err := client.MemberRemove(t.Context(), added.Member.ID); err != nil {
		t.Fatal(err)
	}
	wait(t, "the member is gone", has(f, 1, "old0"))

	// What a node with an older view tells is not taken.
	f.Learn(grown)
	wait(t, "the list stays", has(f, 1, "old0"))
	stop()
	wait(t, "it does not serve, and stays a member", has(f, 1, ""))
	wait(t, "the fault", faulty(f, at))
	end()

	g := New(Options{File: file, Log: zap.NewNop(), Changed: func() {}})
	last, _ := f.List()
	if l, ok := g.List(); !ok || !l.Same(last) || l.Index != last.Index {
		t.Errorf("the file gives %+v (%v), want %+v", l, ok, last)
	}
}

// Another etcd at the same address is not taken for the one that was known, until a person says so.
func TestStranger(t *testing.T) {
	at := freeAddr(t)
	stop := serve(t, at, nil)
	file := filepath.Join(t.TempDir(), "list")
	o := Options{Endpoints: []string{"http://" + at}, File: file}
	f, end := begin(t, o)
	wait(t, "the first cluster", has(f, 1, "old0"))
	old, _ := f.List()
	stop()
	serve(t, at, func(c *embed.Config) { c.Name, c.InitialClusterToken = "new0", "another" })
	wait(t, "a stranger", faulty(f, "expected "+old.ClusterID))
	if now, _ := f.List(); !now.Same(old) {
		t.Errorf("the list went from %+v to %+v", old, now)
	}
	end()
	text := f.Status().Fault
	_, o.ID, _ = strings.Cut(text, "`id ")
	o.ID, _, _ = strings.Cut(o.ID, "`")
	g, _ := begin(t, o)
	wait(t, "the one that is meant: "+text, has(g, 1, "new0"))
	if l, _ := g.List(); l.ClusterID != o.ID || l.ClusterID == old.ClusterID {
		t.Errorf("the cluster is %s", l.ClusterID)
	}
}

// The certificates are read anew when their files change.
func TestFollowTLS(t *testing.T) {
	at := freeAddr(t)
	var dir string
	serve(t, at, func(c *embed.Config) { c.ClientAutoTLS, c.SelfSignedCertValidity, dir = true, 1, c.Dir })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	f, _ := begin(t, Options{Endpoints: []string{"https://" + at}, CA: ca, File: filepath.Join(t.TempDir(), "list")})
	wait(t, "no CA", faulty(f, "ca.pem"))
	if err := os.WriteFile(ca, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "a wrong CA", faulty(f, "holds no certificate"))
	text, err := os.ReadFile(filepath.Join(dir, "fixtures", "client", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "the list", has(f, 1, "old0"))
}

func TestTake(t *testing.T) {
	const a, b = "00000000000000aa", "00000000000000bb"
	list := func(id string, index uint64, members ...string) roster.Followed {
		l := list(index, members...)
		l.ClusterID = id
		return l
	}
	for _, c := range []struct {
		name          string
		id            string
		known, learnt roster.Followed
		takes         bool
	}{
		{"the first", "", roster.Followed{}, list(a, 5, "x"), true},
		{"a newer one", "", list(a, 5, "x"), list(a, 6, "x", "y"), true},
		{"an older one", "", list(a, 5, "x"), list(a, 4, "x", "y"), false},
		{"one of the same date that differs", "", list(a, 5, "x"), list(a, 5, "x", "y"), false},
		{"one of another cluster", "", list(a, 5, "x"), list(b, 99, "y"), false},
		{"one without members", "", list(a, 5, "x"), list(a, 99), false},
		{"the meant cluster's, after another's", b, list(a, 99, "x"), list(b, 1, "y"), true},
		{"not the meant cluster's", b, roster.Followed{}, list(a, 1, "x"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := New(Options{ID: c.id, File: filepath.Join(t.TempDir(), "list"), Log: zap.NewNop(), Changed: func() {}})
			f.list = c.known
			f.Learn(c.learnt)
			got, _ := f.List()
			if want := map[bool]roster.Followed{true: c.learnt, false: c.known}[c.takes]; !got.Same(want) || got.Index != want.Index {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// A node without a way to the cluster believes the others on who serves; one that has a way does not.
func TestLearnWhoServes(t *testing.T) {
	f := New(Options{File: filepath.Join(t.TempDir(), "list"), Log: zap.NewNop(), Changed: func() {}})
	l := list(1, "x", "y")
	l.Contact, l.Members[0].Serving = true, true
	f.Learn(l)
	wait(t, "x serves, as another node says", has(f, 2, "x"))
	f.list.Contact = true
	l.Members = list(1, "x", "y").Members
	l.Members[1].Serving = true
	f.Learn(l)
	wait(t, "this node's own word stays", has(f, 2, "x"))
}

func TestDamagedFile(t *testing.T) {
	for _, text := range []string{"{", `{"format":2,"list":{"cluster_id":"a","members":[{"id":"1"}]}}`, `{"format":1,"list":{"cluster_id":"a"}}`} {
		file := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, ok := New(Options{File: file, Log: zap.NewNop(), Changed: func() {}}).List(); ok {
			t.Errorf("%s gives %+v", text, l)
		}
	}
}
