//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	dnsnode "github.com/etcd-dns/etcd-dns/node"
)

// healthyLimit is how long a rack may take to become healthy. It is generous: both cores may be busy.
const healthyLimit = 60 * time.Second

// productFlavor runs etcd-dns on the nodes.
type productFlavor struct{ bin string }

// prepare makes the configuration as an operator does: init once, then the Corefile and the bundle to every node. The
// root key stays in the operator's folder.
func (p *productFlavor) prepare(l *Lab) string {
	l.t.Helper()
	op := l.operator()
	l.initRack(op)
	for _, name := range l.names {
		l.Install(name, op)
	}
	if !l.Plain {
		l.Must(clientHost, p.bin, "cert", "client", "alice", "--bundle", filepath.Join(op, "cluster.bundle"), "--out", l.host(clientHost).dir)
	}
	first := l.node(l.names[0])
	return l.Must(clientHost, p.bin, "delegation", "--offline", "-o", "zone", "--corefile", filepath.Join(first.dir, "Corefile"), "--name", first.name)
}

func (p *productFlavor) argv(_ *Lab, n *node) (argv, env []string) {
	return append([]string{p.bin, "run"}, place(n)...), nil
}

// place are the flags that tell every command of the product which node it is about.
func place(n *node) []string {
	return []string{"--corefile", filepath.Join(n.dir, "Corefile"), "--name", n.name, "--data", n.data()}
}

// operator is the folder that init wrote to.
func (l *Lab) operator() string { return filepath.Join(l.dir, "operator") }

// bin is the product's binary.
func (l *Lab) bin() string { return l.flavor.(*productFlavor).bin }

// initRack runs init for this lab's rack into the folder out, and returns what it printed.
func (l *Lab) initRack(out string) Result {
	l.t.Helper()
	args := []string{"init", "--domain", l.Domain, "--out", out}
	for i, name := range l.names[:l.Nodes] {
		flag := name + "=" + strings.Join(l.Addrs(name), ",")
		if i >= l.Nodes-l.Foo {
			flag = "foo/" + flag
		}
		args = append(args, "--node", flag)
	}
	if l.SrvName != "" {
		args = append(args, "--srv-name", l.SrvName)
	}
	if l.Plain {
		args = append(args, "--plain")
	}
	r := l.Run(clientHost, l.bin(), append(args, l.Init...)...)
	if r.Code != 0 {
		l.t.Fatal(r)
	}
	return r
}

// Install copies the Corefile and the bundle of an operator's folder to a node, as configuration management would.
func (l *Lab) Install(name, operator string) {
	l.t.Helper()
	n := l.node(name)
	bundle, err := os.ReadFile(filepath.Join(operator, "cluster.bundle"))
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "cluster.bundle"), bundle, 0o600); err != nil {
		l.t.Fatal(err)
	}
	corefile, err := os.ReadFile(filepath.Join(operator, "Corefile"))
	if err != nil {
		l.t.Fatal(err)
	}
	text := string(corefile)
	if volatile(l.dir) {
		text = strings.Replace(text, "etcdsrv {", "etcdsrv {\n        ephemeral yes", 1)
	}
	if l.Edit != nil {
		text = l.Edit(name, text)
	}
	l.write(n.host, "Corefile", text)
}

// volatile says whether the folder lies where the product does not let a cluster be born unless told so.
func volatile(dir string) bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false
	}
	return slices.Contains([]int64{unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC}, int64(fs.Type))
}

// EditCorefile changes a node's Corefile. A running node sees it at its next reload.
func (l *Lab) EditCorefile(name string, edit func(string) string) {
	l.t.Helper()
	text := l.corefile(name)
	changed := edit(text)
	if changed == text {
		l.t.Fatalf("the edit of %s's Corefile changes nothing:\n%s", name, text)
	}
	l.write(l.host(name), "Corefile", changed)
}

func (l *Lab) corefile(name string) string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.host(name).dir, "Corefile"))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

// Tool runs a command of the product on a node, about that node.
func (l *Lab) Tool(name string, args ...string) Result {
	l.t.Helper()
	return l.Run(name, l.bin(), append(args, place(l.node(name))...)...)
}

// ask has a node say how it is, at its socket: to start the tool for each look would be most of what a waiting test does.
func (l *Lab) ask(name string) (dnsnode.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return dnsnode.Fetch(ctx, &dnsnode.Options{Data: l.node(name).data()})
}

// Status is what etcd-dns status -o json says on a node, or why it says nothing.
func (l *Lab) Status(name string) (status map[string]any, err error) {
	l.t.Helper()
	says, err := l.ask(name)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(says)
	if err != nil {
		return nil, err
	}
	return status, json.Unmarshal(text, &status)
}

// Healthy is an error that names the problems of a node, or why it does not say whether it has any.
func (l *Lab) Healthy(name string) error {
	l.t.Helper()
	says, err := l.ask(name)
	if err == nil && !says.OK {
		err = fmt.Errorf("the status of %s has the problems %q", name, says.Problems)
	}
	return err
}

// Gossips is an error while the gossip of a node does not have all others alive.
func (l *Lab) Gossips() error {
	l.t.Helper()
	for _, name := range l.names {
		says, err := l.ask(name)
		if err != nil {
			return err
		}
		for _, n := range says.Nodes {
			if n.Name != name && n.Gossip != "alive" {
				return fmt.Errorf("to the gossip of %s %s is %q", name, n.Name, n.Gossip)
			}
		}
	}
	return nil
}

// StatusText is one field of a node's status as text; a path goes down with dots. It is empty while there is none.
func (l *Lab) StatusText(name, path string) string {
	l.t.Helper()
	s, err := l.Status(name)
	if err != nil {
		return ""
	}
	var v any = s
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// WaitHealthy waits until the nodes named, all if none is, say that all is well.
func (l *Lab) WaitHealthy(names ...string) {
	l.t.Helper()
	if len(names) == 0 {
		names = l.names
	}
	for _, name := range names {
		l.Wait(name+" is well", healthyLimit, func() error {
			if n := l.node(name); !n.up() {
				return fmt.Errorf("it has ended: %w", n.proc.err)
			}
			return l.Healthy(name)
		})
	}
}

// WaitStatus waits until a field of a node's status contains text.
func (l *Lab) WaitStatus(name, path, text string) {
	l.t.Helper()
	l.Wait(fmt.Sprintf("%s has %q in its status at %s", name, text, path), healthyLimit, func() error {
		if got := l.StatusText(name, path); !strings.Contains(got, text) {
			s, err := l.Status(name)
			return errors.Join(err, fmt.Errorf("it is %q in %v", got, s))
		}
		return nil
	})
}

// NoMember is an error if a member runs on a node or ever ran there.
func (l *Lab) NoMember(name string) error {
	if pid := l.MemberPID(name); pid != 0 {
		return fmt.Errorf("%s runs a member, process %d", name, pid)
	}
	if _, err := os.Stat(filepath.Join(l.node(name).data(), "etcd", "member")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s has etcd data", name)
	}
	return nil
}

// NoMembers is NoMember for the whole rack.
func (l *Lab) NoMembers() error {
	var all error
	for _, n := range l.names {
		all = errors.Join(all, l.NoMember(n))
	}
	return all
}

// Etcdctl runs Debian's etcdctl on the client host, which finds the cluster by SRV through the resolver.
func (l *Lab) Etcdctl(args ...string) Result {
	l.t.Helper()
	return l.Run(clientHost, "etcdctl", append(l.etcdctlFlags(), args...)...)
}

// etcdctlFlags are what a client has to know: the domain, the srv-name, and its certificate.
func (l *Lab) etcdctlFlags() []string {
	flags := []string{"--discovery-srv", l.Domain, "--command-timeout", "5s"}
	if l.SrvName != "" {
		flags = append(flags, "--discovery-srv-name", l.SrvName)
	}
	return append(flags, l.certFlags()...)
}

func (l *Lab) certFlags() []string {
	if l.Plain {
		return nil
	}
	dir := l.host(clientHost).dir
	return []string{"--cacert", filepath.Join(dir, "ca.crt"), "--cert", filepath.Join(dir, "alice.crt"), "--key", filepath.Join(dir, "alice.key")}
}

// At runs etcdctl on the client against one node alone.
func (l *Lab) At(name string, args ...string) Result {
	l.t.Helper()
	scheme := map[bool]string{false: "https", true: "http"}[l.Plain]
	flags := []string{"--endpoints", scheme + "://" + net.JoinHostPort(l.Addr(name), "2379"), "--command-timeout", "5s"}
	return l.Run(clientHost, "etcdctl", slices.Concat(flags, l.certFlags(), args)...)
}

// Put writes a key through SRV discovery and fails the test unless it is acknowledged within the time of a failover.
func (l *Lab) Put(key, value string) {
	l.t.Helper()
	l.Wait("put "+key, 30*time.Second, func() error { return l.Etcdctl("put", key, value).Err() })
}

// Get waits until a linearizable read through SRV discovery returns the value.
func (l *Lab) Get(key, want string) {
	l.t.Helper()
	l.Wait("get "+key, 30*time.Second, func() error { return isValue(l.Etcdctl("get", key, "--print-value-only"), want) })
}

// GetAt waits until a serializable read from one node's own data returns the value.
func (l *Lab) GetAt(name, key, want string) {
	l.t.Helper()
	l.Wait("get "+key+" at "+name, 30*time.Second, func() error {
		return isValue(l.At(name, "get", key, "--print-value-only", "--consistency=s"), want)
	})
}

func isValue(r Result, want string) error {
	if err := r.Err(); err != nil {
		return err
	}
	if got := strings.TrimSpace(r.Stdout); got != want {
		return fmt.Errorf("the value is %q, want %q", got, want)
	}
	return nil
}

// Genesis is the id of the genesis that a node was born by.
func (l *Lab) Genesis(name string) string {
	l.t.Helper()
	return l.StatusText(name, "genesis")
}

// OneCluster fails the test unless all nodes are members of one cluster, and returns its etcd ID.
func (l *Lab) OneCluster() string {
	l.t.Helper()
	ids := map[string]bool{}
	for _, n := range l.names {
		ids[l.StatusText(n, "genesis")+" "+l.StatusText(n, "cluster_id")] = true
	}
	if len(ids) != 1 {
		l.t.Fatalf("the nodes are in %d clusters: %v", len(ids), ids)
	}
	for id := range ids {
		return id
	}
	return ""
}
