package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

func TestCheckReload(t *testing.T) {
	n := &Node{name: "infra0", log: zap.NewNop()}
	old := mustParse(t, goodCorefile)
	n.opts.Store(old)
	n.line, _ = old.node("infra0")
	n.roster.Store(&roster.Roster{Clusters: []roster.Cluster{{Knowledge: roster.Born, Members: []roster.Member{
		{Node: "infra0", PeerHost: "infra0", PeerPort: 2380}, {Node: "infra1", PeerHost: "infra1-peer", PeerPort: 2380}}}}})
	for _, c := range []struct{ name, from, to, what, hint string }{
		{"nothing", "", "", "", ""},
		{"a new node", "node infra2", "node infra3 10.0.1.13\n node infra2", "", ""},
		{"a node less", "        node infra2 10.0.1.12\n", "", "", ""},
		{"ttl", "bundle cluster.bundle", "bundle cluster.bundle\nttl 60s", "", ""},
		{"the domain", "rack1.example.com", "rack2.example.com", "the domain was rack1.example.com.", "etcd-dns init"},
		{"own line", "node infra0", "node infra9", "the node line of infra0", "etcd-dns member remove infra0"},
		{"a member's peer URL", "peer 10.9.0.11", "", "the member of infra1 is at infra1-peer:2380", "member remove infra1"},
		{"a member's peer addresses", "peer 10.9.0.11", "peer 10.9.0.12", "", ""},
		{"the own peer host", "node infra0 10.0.1.10", "node infra0 10.0.1.10 peer 10.9.0.10", "the member of infra0 is at infra0:2380", "leave it there"},
		{"a peer URL without a member", "node infra2 10.0.1.12", "node infra2 10.0.1.12 peer 10.9.1.12", "", ""},
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

// A Corefile that moves a member is as wrong at a start as in a reload, if there is a better one.
func TestReadLastGood(t *testing.T) {
	moved := strings.Replace(goodCorefile, "node infra2 10.0.1.12", "node infra2 10.0.1.12 peer 10.9.0.12", 1)
	for _, c := range []struct{ name, roster, last, now, want, wrong string }{
		{"nothing is remembered", "", goodCorefile, moved, moved, ""},
		{"the member is elsewhere", "infra2", goodCorefile, moved, goodCorefile, "the member of infra2 is at infra2:2380"},
		{"it is there", "infra2-peer", goodCorefile, moved, moved, ""},
		{"it would leave", "infra2-peer", moved, goodCorefile, moved, "the member of infra2 is at infra2-peer:2380"},
		{"the last good one moves it, too", "infra2", moved, moved, moved, ""},
		{"there is no last good one", "infra2", "", moved, moved, ""},
		{"nonsense", "infra2", goodCorefile, "nonsense {", goodCorefile, "nonsense"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"Corefile": c.now, lastGood: c.last} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.last == "" {
				os.Remove(filepath.Join(dir, lastGood))
			}
			if c.roster != "" {
				p := &publisher{file: filepath.Join(dir, rosterFile), node: &Node{places: newPlaces("infra0")}}
				if err := p.save(roster.Roster{Clusters: []roster.Cluster{{Knowledge: roster.Born,
					Members: []roster.Member{{Node: "infra2", PeerHost: c.roster, PeerPort: 2380}}}}}); err != nil {
					t.Fatal(err)
				}
			}
			o, wrong, err := ReadLastGood(filepath.Join(dir, "Corefile"), dir)
			if err != nil {
				t.Fatal(err)
			}
			want := mustParse(t, c.want)
			if got, _ := o.node("infra2"); !slices.Equal(got.Peers, want.Nodes[2].Peers) {
				t.Errorf("infra2 has the peer addresses %v, want %v", got.Peers, want.Nodes[2].Peers)
			}
			if (wrong != nil) != (c.wrong != "") || wrong != nil && !strings.Contains(wrong.Error(), c.wrong) {
				t.Errorf("wrong is %v, want %q", wrong, c.wrong)
			}
		})
	}
}
