//go:build linux

package lab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// stockFlavor runs stock etcd on the nodes, as its clustering guide says: every node with the same command line for ever, by
// --discovery-srv and SRV records that a person wrote into the parent zone. A supervisor starts it again when it ends.
type stockFlavor struct{ bin string }

// newStock builds a rack of stock etcd, whose nodes are stopped.
func newStock(t testing.TB) *Lab {
	t.Helper()
	need(t)
	bin, err := stockEtcd()
	if err != nil {
		t.Fatal(err)
	}
	return build(t, Options{Plain: true}, stockFlavor{bin})
}

// stockEtcd builds the etcd of the version that the product embeds, from the same modules.
var stockEtcd = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(processDir(), "stock-etcd")
	return bin, goBuild(bin, "go.etcd.io/etcd/server/v3")
})

func (stockFlavor) prepare(l *Lab) string {
	var zone strings.Builder
	for _, n := range l.names {
		fmt.Fprintf(&zone, "%s.%s. A %s\n", n, l.Domain, l.Addr(n))
		fmt.Fprintf(&zone, "_etcd-server._tcp.%s. SRV 0 0 2380 %s.%s.\n", l.Domain, n, l.Domain)
		fmt.Fprintf(&zone, "_etcd-client._tcp.%s. SRV 0 0 2379 %s.%s.\n", l.Domain, n, l.Domain)
	}
	return zone.String()
}

// supervise is the unit file of an operator: Restart=always, RestartSec=200ms.
const supervise = `while :; do "$@"; sleep 0.2; done`

func (s stockFlavor) argv(l *Lab, n *node) (argv, env []string) {
	return slices.Concat([]string{"sh", "-c", supervise, "supervisor", s.bin}, s.flags(l, n, "new")), nil
}

// flags are etcd's own.
func (stockFlavor) flags(l *Lab, n *node, state string) []string {
	host := n.name + "." + l.Domain
	return []string{
		"--name", n.name, "--data-dir", filepath.Join(n.data(), "etcd"), "--discovery-srv", l.Domain,
		"--initial-advertise-peer-urls", "http://" + host + ":2380", "--advertise-client-urls", "http://" + host + ":2379",
		"--listen-peer-urls", "http://" + l.Addr(n.name) + ":2380", "--listen-client-urls", "http://" + l.Addr(n.name) + ":2379",
		"--initial-cluster-token", "rack1", "--initial-cluster-state", state,
		"--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap", "--log-level", "warn",
	}
}
