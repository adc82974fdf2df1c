//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// etcd36 builds etcd 3.6 from its modules, in a module of its own, since its API and ours are two versions of the same
// packages. Its versions and their sums stand in testdata. The first build on a machine costs about a minute of two cores;
// afterwards Go's cache has it.
var etcd36 = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(processDir(), "etcd36")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("testdata", "etcd36", name+".txt"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	// Go keeps what the build of a module needs only if a package of it says so.
	if err := os.WriteFile(filepath.Join(dir, "etcd36.go"), []byte("package etcd36\n\nimport _ \"go.etcd.io/etcd/server/v3/etcdmain\"\n"), 0o644); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "etcd")
	cmd := exec.Command("go", "build", "-mod=readonly", "-o", bin, "go.etcd.io/etcd/server/v3")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd 3.6: %w\n%s", err, out)
	}
	return bin, nil
})

// TestInterop: members of other versions of etcd find each other, and ours, at our discovery service. Ours alone are in
// TestGuideDiscovery, by the flag and by the variable.
func TestInterop(t *testing.T) {
	const debian = "/usr/bin/etcd"
	// row has a program for each member: Debian's, 3.6, or ours.
	row := func(name string, programs [3]string, after func(*guide)) guideRow {
		r := guideRow{name: name, commands: publicMembers, programs: map[string]string{}, after: after}
		r.before = func(g *guide) {
			makeToken(g)
			for i, p := range programs {
				switch host := g.Names()[i]; p {
				case "debian":
					r.programs[host] = debian
				case "3.6":
					r.programs[host] = needProduct(g.t, etcd36)
				}
			}
		}
		return r
	}
	// versions shows that each row runs what it means to.
	versions := func(want ...string) func(*guide) {
		return func(g *guide) {
			g.t.Helper()
			for i, name := range g.Names()[:3] {
				if got := g.Must(clientHost, "curl", "-s", g.url(name)+"/version"); !strings.Contains(got, `"etcdserver":"`+want[i]) {
					g.t.Errorf("%s is %s, want %s", name, got, want[i])
				}
			}
		}
	}
	// What etcd 3.7 does by itself: a cluster of one, and each of the others would be one, too.
	control := guideRow{name: "Control3.7", env: []string{"ETCD_DISCOVERY=" + guideToken}, programs: map[string]string{}, says: []string{"unrecognized environment variable"},
		commands: []string{`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379`}}
	control.before = func(g *guide) {
		makeToken(g)
		control.programs["infra0"] = needProduct(g.t, stockEtcd)
	}
	guideRows(t, "", (*guide).services,
		control,
		row("Debian3.4", [3]string{"debian", "debian", "debian"}, versions("3.4.", "3.4.", "3.4.")),
		row("3.6", [3]string{"3.6", "3.6", "3.6"}, versions("3.6.", "3.6.", "3.6.")),
		row("3.6AndOurs", [3]string{"3.6", "ours", "3.6"}, versions("3.6.", "3.7.", "3.6.")),
		row("OursAnd3.6", [3]string{"ours", "3.6", "ours"}, versions("3.7.", "3.6.", "3.7.")),
	)
}

// TestDiscoveryProtocol3: members of etcd 3.7 and 3.6 find each other at a rack of ours, by the keys of protocol 3, which need
// no service: a client with a certificate makes the token, and members with one register.
func TestDiscoveryProtocol3(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	old := needProduct(t, etcd36)
	l.StartAll()
	l.WaitHealthy()
	l.Put("/_etcd/registry/guide/_config/size", "3")
	programs := map[string][]string{"new0": {l.bin(), "etcd"}, "new1": {l.bin(), "etcd"}, "new2": {old}}
	flags := func(name, token string) []string {
		at, keys := "http://"+l.Addr(name), l.host(clientHost).dir
		return []string{"--name", name, "--data-dir", filepath.Join(l.host(name).dir, "etcd"),
			"--initial-advertise-peer-urls", at + ":2380", "--listen-peer-urls", at + ":2380", "--advertise-client-urls", at + ":2379", "--listen-client-urls", at + ":2379",
			"--discovery-token", token, "--discovery-endpoints", "https://infra0.rack1.example.com:2379,https://infra1.rack1.example.com:2379",
			"--discovery-insecure-transport=false", "--discovery-cacert", filepath.Join(keys, "ca.crt"),
			"--discovery-cert", filepath.Join(keys, "alice.crt"), "--discovery-key", filepath.Join(keys, "alice.key")}
	}
	var names []string
	for i, name := range []string{"new0", "new1", "new2"} {
		h := l.addHost(name, netip.AddrFrom4([4]byte{10, 0, 3, byte(20 + i)}))
		names = append(names, name)
		p, err := spawn(h, "log", slices.Concat(programs[name], flags(name, "guide")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if text, _ := os.ReadFile(filepath.Join(h.dir, "log")); t.Failed() {
				t.Logf("%s (running: %v) said:\n%s", name, p.running(), tail(string(text), 20))
			}
		})
	}
	l.Wait("one cluster of three", healthyLimit, func() error {
		r := l.Run(clientHost, "etcdctl", "--endpoints", "http://10.0.3.20:2379", "member", "list")
		for _, name := range names {
			if !strings.Contains(r.Stdout, "started, "+name) {
				return errorf("%v", r)
			}
		}
		return nil
	})
	for i, name := range names {
		at := "http://" + l.Addr(name) + ":2379"
		if err := l.Run(clientHost, "etcdctl", "--endpoints", at, "put", name, fmt.Sprint(i)).Err(); err != nil {
			t.Error(err)
		}
	}
	// The registry is among the rack's own keys.
	r := l.Etcdctl("get", "--prefix", "/_etcd/registry/guide/members/", "--print-value-only")
	for _, name := range names {
		if want := name + "=http://" + l.Addr(name) + ":2380"; !strings.Contains(r.Stdout, want) {
			t.Errorf("%q is not registered: %v", want, r)
		}
	}
	// What etcd calls a used token in any case, is told apart.
	l.addHost("new3", netip.AddrFrom4([4]byte{10, 0, 3, 23}))
	for token, want := range map[string]string{"guide": "guide is for 3 members, and these have registered: new",
		"none": "the cluster doesn't have a size configuration value in /_etcd/registry/none/_config"} {
		if r := l.Run("new3", l.bin(), append([]string{"etcd"}, flags("new3", token)...)...); r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%v, want status 1, and %q", r, want)
		}
	}
}
