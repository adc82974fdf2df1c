package stock

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// environment is an environment of these variables, NAME=VALUE.
func environment(vars ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range vars {
			if n, value, _ := strings.Cut(v, "="); n == name {
				return value, true
			}
		}
		return "", false
	}
}

func TestRead(t *testing.T) {
	v3 := filepath.Join(t.TempDir(), "v3.yml")
	if err := os.WriteFile(v3, []byte("discovery-token: x\ndiscovery-config:\n  token: tok\n  client:\n    endpoints: [http://a:1, http://b:1]\n    secure:\n      cacert: ca.crt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "etcd.yml")
	if err := os.WriteFile(file, []byte("name: infra7\ndiscovery: http://d/t\npeer-transport-security:\n  cert-file: p.crt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		args, env  []string
		etcdSaysIt bool
		want       map[string]string
		passed     []string
	}{
		{name: "defaults", want: map[string]string{"name": "default", "discovery": "", "initial-advertise-peer-urls": "http://localhost:2380", "proxy": "off"}},
		{name: "any spelling", args: []string{"-name", "a", "--discovery=http://d/t", "-client-cert-auth"},
			want: map[string]string{"name": "a", "discovery": "http://d/t", "client-cert-auth": "true"}, passed: []string{"--client-cert-auth=true", "--name=a"}},
		{name: "variables", env: []string{"ETCD_NAME=b", "ETCD_DISCOVERY=http://d/t", "ETCD_DISCOVERY_PROXY=p:1"}, want: map[string]string{"name": "b", "discovery": "http://d/t", "discovery-proxy": "p:1"}},
		{name: "flags that etcd ignores take no value", args: []string{"--force", "--name=a", "-v", "--discovery=http://d/t"},
			want: map[string]string{"name": "a", "discovery": "http://d/t"}, passed: []string{"--name=a"}},
		{name: "flags win", args: []string{"--name=a"}, env: []string{"ETCD_NAME=b"}, want: map[string]string{"name": "a"}, passed: []string{"--name=a"}},
		{name: "a file instead of both", args: []string{"--name=a", "--config-file=" + file}, env: []string{"ETCD_DISCOVERY=http://e/t"},
			want: map[string]string{"name": "infra7", "discovery": "http://d/t", "peer-cert-file": "p.crt"}, passed: []string{"--config-file=" + file, "--name=a"}},
		{name: "protocol 3 in a file", args: []string{"--config-file=" + v3}, passed: []string{"--config-file=" + v3},
			want: map[string]string{"discovery-token": "tok", "discovery-endpoints": "http://a:1,http://b:1", "discovery-cacert": "ca.crt", "discovery-insecure-transport": "true"}},
		{name: "the file of a variable", env: []string{"ETCD_CONFIG_FILE=" + file}, want: map[string]string{"name": "infra7"}},
		{name: "no checks", args: []string{"--no-checks", "--proxy=off", "--discovery-fallback=exit"}},
		{name: "help", args: []string{"--help"}, etcdSaysIt: true},
		{name: "version", args: []string{"--version"}, etcdSaysIt: true},
		{name: "no flag", args: []string{"--nosuch"}, etcdSaysIt: true},
		{name: "a word", args: []string{"start"}, etcdSaysIt: true},
		{name: "a bad variable", env: []string{"ETCD_HEARTBEAT_INTERVAL=x"}, etcdSaysIt: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ok, err := read(c.args, environment(c.env...))
			if err != nil || ok == c.etcdSaysIt {
				t.Fatalf("%v, %v", ok, err)
			}
			if !ok {
				return
			}
			for name, want := range c.want {
				if got := s.get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if diff := cmp.Diff(c.passed, s.args); diff != "" {
				t.Errorf("etcd gets (-want +got):\n%s", diff)
			}
		})
	}
	if _, _, err := read([]string{"--config-file=" + file + ".none"}, environment()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want the file missing", err)
	}
}

// peer answers /members as a member of a cluster does.
func peer(t *testing.T, id string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/members" {
			w.Header().Set("X-Etcd-Cluster-ID", id)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func clusterOf(t *testing.T, token, cluster string) *membership.RaftCluster {
	t.Helper()
	m, err := types.NewURLsMap(cluster)
	if err != nil {
		t.Fatal(err)
	}
	c, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterID(t *testing.T, token, cluster string) string {
	t.Helper()
	return clusterOf(t, token, cluster).ID().String()
}

func memberID(t *testing.T, token, cluster, name string) uint64 {
	t.Helper()
	return uint64(clusterOf(t, token, cluster).MemberByName(name).ID)
}

// initialized is a data directory in which etcd has started.
func initialized(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "member", "wal", "0.wal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What ends a start, with both values that differ, and what is only said.
func TestChecks(t *testing.T) {
	stranger := peer(t, "c6ab534d07e8fcc4")
	const own = "infra0=http://10.0.1.10:2380"
	full := func(more ...string) string { return strings.Join(append([]string{own}, more...), ",") }
	initialized := initialized(t)
	base := []string{"--name=infra0", "--initial-advertise-peer-urls=http://10.0.1.10:2380", "--listen-client-urls=http://10.0.1.10:2379", "--advertise-client-urls=http://10.0.1.10:2379"}
	ally := "infra1=" + peer(t, "")
	with := func(args ...string) []string { return append(slices.Clone(base), args...) }
	for _, c := range []struct {
		name string
		args []string
		want string // of the error, and its hint
		said string
	}{
		{"fine", with("--initial-cluster=" + full(ally)), "", ""},
		{"not listed", with("--name=infra9", "--initial-cluster="+own), `infra9 not listed in the initial cluster config: --name is "infra9" and --initial-cluster has infra0 | add infra9=http://10.0.1.10:2380`, ""},
		{"different URLs", with("--initial-cluster=infra0=http://10.0.1.99:2380"),
			"infra0 has different advertised URLs in the cluster and advertised peer URLs list: --initial-cluster says http://10.0.1.99:2380, --initial-advertise-peer-urls says http://10.0.1.10:2380 |", ""},
		{"one address spelled twice", with("--initial-advertise-peer-urls=http://[::1]:2380,http://[FD00::1]:2380", "--initial-cluster=infra0=http://[0:0:0:0:0:0:0:1]:2380,infra0=http://[fd00::1]:2380"), "", "warning: "},
		{"another IPv6 address", with("--initial-advertise-peer-urls=http://[fd00::1]:2380", "--initial-cluster=infra0=http://[fd00::2]:2380"), "infra0 has different advertised URLs", ""},
		{"localhost is no address to etcd", with("--initial-advertise-peer-urls=http://localhost:2380", "--initial-cluster=infra0=http://127.0.0.1:2380"), "infra0 has different advertised URLs", ""},
		{"one URL more", with("--initial-cluster=" + own + ",infra0=http://infra0.invalid:2380"), "infra0 has different advertised URLs", "warning: --initial-cluster has infra0 at"},
		{"names are etcd's to resolve", with("--initial-cluster=infra0=http://infra0.example.com:2380"), "", ""},
		{"conflicting cluster ID", with("--initial-cluster=" + full("infra1="+stranger)),
			"conflicting cluster ID to the target cluster (c6ab534d07e8fcc4 != " + clusterID(t, "etcd-cluster", full("infra1="+stranger)) + "): " + stranger + " says the first", ""},
		{"a stranger of three", with("--initial-cluster=" + full(ally, "infra2="+stranger)), "", "warning: " + stranger + " is of another cluster (c6ab534d07e8fcc4) than this member"},
		{"two strangers of three", with("--initial-cluster=" + full("infra1="+stranger, "infra2="+peer(t, "7"))), "conflicting cluster ID to the target cluster (", ""},
		{"joining", with("--initial-cluster-state=existing", "--initial-cluster="+full("infra1="+stranger)), "", ""},
		{"a restart", with("--data-dir="+initialized, "--initial-cluster="+full("infra1="+stranger)), "", ""},
		{"a name to listen on", with("--listen-peer-urls=http://nosuch.invalid:2380"), "--listen-peer-urls http://nosuch.invalid:2380: expected an IP address to listen on, but nosuch.invalid is a name |", ""},
		{"localhost resolved", with("--listen-client-urls=http://localhost:2379", "--listen-peer-urls=unix://x:1"), "", ""},
		{"no cluster", with("--initial-cluster=infra0"), `--initial-cluster "infra0": `, ""},
		{"client URL at localhost", with("--advertise-client-urls=http://localhost:2379"), "", "warning: --advertise-client-urls is http://localhost:2379"},
		{"client URL at no address", with("--advertise-client-urls=http://0.0.0.0:2379"), "", "warning: --advertise-client-urls is http://0.0.0.0:2379"},
		{"one name twice", with("--initial-cluster=" + full("infra1=http://10.0.1.11:2380", "infra1=http://10.0.1.12:2380")), "",
			"warning: --initial-cluster has infra1 at 10.0.1.11 and 10.0.1.12"},
		{"a proxy", with("--proxy=on"), "--proxy on: the proxy of etcd's API 2 is gone, with that API (etcd 3.6) | run etcd-dns etcd grpc-proxy start", ""},
		{"a fallback", with("--discovery=http://d/t", "--discovery-fallback=proxy"), "--discovery-fallback proxy: ", ""},
		{"two ways", with("--discovery=http://d/t", "--discovery-srv=example.com"), "--discovery and --discovery-srv are both given", ""},
		{"discovery of a cluster that runs", with("--discovery=http://d/t", "--initial-cluster-state=existing"), "discovery URL should not be set when joining existing initial cluster |", ""},
		{"an initialized member", with("--discovery=http://d/t", "--data-dir="+initialized), "",
			"discovery token ignored since a cluster has already been initialized. Valid log found at " + initialized},
		{"nobody at the endpoints of protocol 3", with("--discovery-token=t", "--discovery-endpoints=127.0.0.1:1"), "", "warning: --discovery-endpoints 127.0.0.1:1: "},
		{"a file of protocol 3", with("--discovery-token=t", "--discovery-endpoints=127.0.0.1:1", "--discovery-insecure-transport=false", "--discovery-cacert=/nowhere"), "", "warning: --discovery-endpoints 127.0.0.1:1: "},
		{"no token of protocol 3", with("--discovery-endpoints=127.0.0.1:1"), "", ""},
		{"unchecked", with("--no-checks", "--name=infra9", "--initial-cluster="+own), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			checked(t, c.args, c.want, c.said)
		})
	}
}

// A peer of the same cluster outweighs a stranger: this member is not the one that is wrong.
func TestClusterIDWithAnAlly(t *testing.T) {
	var id string
	ally := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Etcd-Cluster-ID", id) }))
	defer ally.Close()
	cluster := "infra0=http://10.0.1.10:2380,infra1=" + ally.URL + ",infra2=" + peer(t, "c6ab534d07e8fcc4")
	id = clusterID(t, "etcd-cluster", cluster)
	s, _, err := read([]string{"--name=infra0", "--initial-advertise-peer-urls=http://10.0.1.10:2380", "--initial-cluster=" + cluster}, environment())
	if err != nil {
		t.Fatal(err)
	}
	if err := check(context.Background(), s, t.Logf); err != nil {
		t.Errorf("%v", err)
	}
}

// etcd ends on a flag whose variable is set, too, and must not do so after it has taken a token's place.
func TestShadowed(t *testing.T) {
	s, _, err := read([]string{"--name=a", "--discovery=http://127.0.0.1:1/t"}, environment("ETCD_NAME=b", "ETCD_DISCOVERY=http://d/t", "ETCD_DATA_DIR="+t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := prepare(ctx, s, t.Logf); err == nil || err.Error() != "ETCD_NAME is set beside its flag, on which etcd ends" {
		t.Errorf("%v", err)
	}
}

// What is found takes the place of what stands there, also in a copy of the configuration file.
func TestWith(t *testing.T) {
	for _, name := range []string{"ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_TOKEN", "ETCD_INITIAL_CLUSTER_STATE"} {
		t.Setenv(name, "")
	}
	s, _, err := read([]string{"--name=a", "--initial-cluster-token=x", "--discovery=http://d/t"}, environment())
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.with("a=http://a:1")
	want := []string{"--name=a", "--initial-cluster=a=http://a:1", "--initial-cluster-token=http://d/t", "--initial-cluster-state=new"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if left := slices.DeleteFunc(os.Environ(), func(v string) bool { return !strings.HasPrefix(v, "ETCD_INITIAL_CLUSTER") }); len(left) > 0 {
		t.Errorf("%q stand beside their flags, on which etcd ends", left)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "etcd.yml")
	if err := os.WriteFile(file, []byte("name: a\ndata-dir: "+dir+"/data\ndiscovery: http://d/t\nclient-transport-security:\n  auto-tls: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, _, err = read([]string{"--config-file", file}, environment()); err != nil {
		t.Fatal(err)
	}
	if got, err = s.with("a=http://a:1"); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	values, err := readYAML(strings.TrimPrefix(got[0], "--config-file="))
	wantFile := map[string]any{"name": "a", "data-dir": dir + "/data", "initial-cluster": "a=http://a:1", "initial-cluster-token": "http://d/t",
		"initial-cluster-state": "new", "client-transport-security": map[string]any{"auto-tls": true}}
	if diff := cmp.Diff(wantFile, values); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
