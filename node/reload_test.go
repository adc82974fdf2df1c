package node

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestCheckReload(t *testing.T) {
	n := &Node{name: "infra0", log: zap.NewNop()}
	old := mustParse(t, goodCorefile)
	n.opts.Store(old)
	n.line, _ = old.node("infra0")
	for _, c := range []struct{ name, from, to, what, hint string }{
		{"nothing", "", "", "", ""},
		{"a new node", "node infra2", "node infra3 10.0.1.13\n node infra2", "", ""},
		{"a node less", "        node infra2 10.0.1.12\n", "", "", ""},
		{"ttl", "bundle cluster.bundle", "bundle cluster.bundle\nttl 60s", "", ""},
		{"the domain", "rack1.example.com", "rack2.example.com", "the domain was rack1.example.com.", "etcd-dns init"},
		{"own line", "node infra0", "node infra9", "the node line of infra0", "etcd-dns member remove infra0"},
		{"peer port", "bundle cluster.bundle", "peer_port 2480", "peer_port was 2380 and is now 2480", "one by one"},
		{"scheme", "bundle cluster.bundle", "tls off", "tls was false and is now true", "snapshot"},
		{"data", "/var/lib/etcd-dns", "/var/lib/other", "data was /var/lib/etcd-dns", "move the directory"},
		{"cluster", "node infra0 10.0.1.10", "cluster foo {\n node infra0 10.0.1.10\n}", "the cluster of infra0", "another node line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := goodCorefile
			if c.from != "" {
				text = strings.Replace(goodCorefile, c.from, c.to, 1)
			}
			err := n.checkReload(mustParse(t, text))
			if c.what == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var e *ConfigError
			if !errors.As(err, &e) || !strings.Contains(e.What, c.what) || !strings.Contains(e.Fix, c.hint) {
				t.Errorf("got %v, want %q with hint %q", err, c.what, c.hint)
			}
		})
	}
}

func TestLineEditsRemoveNothing(t *testing.T) {
	n := &Node{name: "infra0", log: zap.NewNop()}
	got := n.lineEdits(mustParse(t, goodCorefile), mustParse(t, strings.Replace(goodCorefile, "        node infra2 10.0.1.12\n", "", 1)))
	if len(got) != 1 || !strings.Contains(got[0], "etcd-dns member remove infra2") {
		t.Errorf("got %q, want one warning that names the command for infra2", got)
	}
}
