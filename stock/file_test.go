package stock

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/discovery"
)

// unused is a port of loopback that nobody listens on.
func unused(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// store is one of discovery tokens, and its directory.
func store(t *testing.T) (*discovery.Store, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "stock") //nolint:usetesting // the store's sockets are in it (unix(7): 108 octets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := discovery.OpenStore(t.Context(), dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

// token is a discovery URL for a cluster of a size.
func token(t *testing.T, size int) string {
	t.Helper()
	store, _ := store(t)
	service := httptest.NewServer(discovery.NewHandler(discovery.NewRegistry(store.Client), discovery.Options{}))
	t.Cleanup(service.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, service.URL+"/tok/_config/size", strings.NewReader(fmt.Sprint("value=", size)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(err, resp)
	}
	_ = resp.Body.Close()
	return service.URL + "/tok"
}

// start runs etcd with the file that prepare says until it serves, and ends it.
func start(t *testing.T, file string) {
	t.Helper()
	s, ok, err := read([]string{"--config-file=" + file}, environment())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	args, err := prepare(t.Context(), s, t.Logf)
	if err != nil || len(args) != 1 {
		t.Fatalf("%q, %v", args, err)
	}
	cfg, err := embed.ConfigFromFile(strings.TrimPrefix(args[0], "--config-file="))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.UpdateDefaultClusterFromName(embed.NewConfig().InitialCluster); err != nil { // as in etcdmain/etcd.go
		t.Log(err)
	}
	if cfg.Dir == "" {
		cfg.Dir = cfg.Name + ".etcd"
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd does not serve")
	}
}

// etcd's sample file, whose keys are blank but for a few, starts a member and starts it again, as it is and filled in with a
// discovery URL.
func TestSampleFile(t *testing.T) {
	sample, err := os.ReadFile("testdata/etcd.conf.yml")
	if err != nil {
		t.Fatal(err)
	}
	url := token(t, 1)
	for name, fill := range map[string][]string{
		"as it is":       nil,
		"with discovery": {"discovery:\n", "discovery: " + url + "\n", "'proxy'", "'exit'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			text := strings.NewReplacer(append(fill, ":2380", fmt.Sprint(":", unused(t)), ":2379", fmt.Sprint(":", unused(t)), "'default'", "infra0", "debug", "panic")...).Replace(string(sample))
			if err := os.WriteFile("etcd.yml", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, "etcd.yml")
			start(t, "etcd.yml")
		})
	}
}

// With a file etcd looks at nothing else, and so do the checks; a discovery URL elsewhere must not get lost.
func TestFileAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		name, file string
		args, env  []string
		dir, want  string
	}{
		{name: "flags are not looked at", file: "name: F\n", args: []string{"--data-dir=zzz", "--name=zzz"}, dir: "F.etcd"},
		{name: "nor variables", file: "data-dir:\n", env: []string{"ETCD_NAME=zzz", "ETCD_DATA_DIR=zzz"}, dir: "default.etcd"},
		{name: "an empty name is one", file: "name: ''\n", dir: ".etcd"},
		{name: "discovery by variable", file: "name: F\ndiscovery:\n", env: []string{"ETCD_DISCOVERY=http://d/t"}, dir: "F.etcd", want: "ETCD_DISCOVERY is set beside etcd.yml, which names no members"},
		{name: "discovery by flag", file: "name: F\ninitial-cluster:\n", args: []string{"--discovery=http://d/t"}, dir: "F.etcd", want: "--discovery is set beside etcd.yml"},
		{name: "without checks", file: "name: F\n", args: []string{"--discovery=http://d/t", "--no-checks"}, dir: "F.etcd", want: "--discovery is set beside etcd.yml"},
		{name: "the file has members", file: "name: F\ninitial-cluster: F=http://localhost:2380\n", env: []string{"ETCD_DISCOVERY=http://d/t"}, dir: "F.etcd"},
		{name: "the member is there", file: "data-dir: " + initialized(t) + "\n", env: []string{"ETCD_DISCOVERY=http://d/t"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile("etcd.yml", []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			s, ok, err := read(append([]string{"--config-file=etcd.yml"}, c.args...), environment(c.env...))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if c.dir != "" && s.dir() != c.dir {
				t.Errorf("the data directory is %s, want %s", s.dir(), c.dir)
			}
			_, err = prepare(t.Context(), s, t.Logf)
			if (err != nil) != (c.want != "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A token of protocol 3 that stands in a file is looked at, too.
func TestProtocol3InAFile(t *testing.T) {
	_, dir := store(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("etcd.yml", []byte("name: P\ndiscovery-config:\n  token: none\n  client:\n    endpoints: ['unix://"+dir+"/client.sock']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checked(t, []string{"--config-file=etcd.yml"}, "the cluster doesn't have a size configuration value in /_etcd/registry/none/_config at unix://"+dir, "")
}

// A signal while a member waits for the others is a plain end: the service has done nothing wrong.
func TestEndWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var lines []string
	err := Main(ctx, []string{"--name=a", "--data-dir=" + t.TempDir(), "--discovery=" + token(t, 2)}, func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf(format, args...))
		cancel() // when it has registered
	})
	want := []string{"1 of 2 members have registered: a", "ended before etcd has started; a member that has registered keeps its place"}
	if diff := cmp.Diff(want, lines); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
