package discovery

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// What a member of protocol 3 runs into is known before it starts.
func TestRemote(t *testing.T) {
	dir := shortDir(t)
	s := openStore(t, dir)
	defer func() { _ = s.Close() }()
	at := &Remote{Endpoints: []string{"unix://" + filepath.Join(dir, "client.sock")}, InsecureTransport: true}
	peers := func(name string) types.URLs { return types.MustNewURLs([]string{"http://" + name + ":2380"}) }
	put := func(key, value string) {
		t.Helper()
		if _, err := s.Client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	register := func(token, name string) {
		put(memberKey(token, membership.NewMember(name, peers(name), token, nil).ID.String()), name+"=http://"+name+":2380")
	}
	put(sizeKey("tok"), "2")
	put(sizeKey("bad"), "two")
	register("tok", "infra0")
	look := func(token, name string, want error, text string) {
		t.Helper()
		err := at.Look(t.Context(), token, name, peers(name))
		if !errors.Is(err, want) || (err == nil) != (want == nil) || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%s, %s: %v, want %v with %q", token, name, err, want, text)
		}
	}
	look("none", "infra0", ErrNoSize, "the cluster doesn't have a size configuration value in /_etcd/registry/none/_config")
	look("bad", "infra0", ErrNoSize, `/_etcd/registry/bad/_config/size is "two"`)
	look("tok", "infra1", nil, "")
	register("tok", "infra1")
	look("tok", "infra1", nil, "") // it starts again
	look("tok", "infra2", ErrFull, "tok is for 2 members, and these have registered: infra0, infra1")
	register("tok", "infra2") // too late
	look("tok", "infra2", ErrFull, "infra0, infra1")

	nobody := &Remote{Endpoints: []string{"127.0.0.1:1"}, InsecureTransport: true}
	if err := nobody.Look(t.Context(), "tok", "infra0", peers("infra0")); err == nil || errors.Is(err, ErrNoSize) || errors.Is(err, ErrFull) {
		t.Errorf("%v, and nobody is there", err)
	}
	files := &Remote{Endpoints: []string{"127.0.0.1:1"}, CA: "/nowhere"}
	if err := files.Look(t.Context(), "tok", "infra0", peers("infra0")); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("%v, want the file missing", err)
	}
}
