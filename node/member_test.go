package node

import (
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/certs"
)

// Nodes may be silent at a birth only when the bundle names the nodes of the Corefile, all of them and no others: an edit of the
// Corefile must not make another set of which a part would do.
func TestHomeOfASize(t *testing.T) {
	for _, c := range []struct {
		name   string
		bundle []string
		size   string
		// size, answers and initial are those of the home.
		members, answers, initial int
	}{
		{"no size", []string{"infra0", "infra1", "infra2", "infra3"}, "", 0, 4, 4},
		{"no size, a later line", []string{"infra0", "infra1", "infra2"}, "", 0, 3, 3},
		{"3 of 4", []string{"infra0", "infra1", "infra2", "infra3"}, "size 3 of 4", 3, 3, 4},
		{"4 of 4", []string{"infra0", "infra1", "infra2", "infra3"}, "size 4 of 4", 4, 4, 4},
		{"3 of 4, a later line", []string{"infra0", "infra1", "infra2"}, "size 3 of 4", 3, 4, 4},
		{"3 of 4, a line is gone", []string{"infra0", "infra1", "infra2", "infra3", "infra4"}, "size 3 of 4", 3, 4, 4},
		{"3 of 4, a line is another", []string{"infra0", "infra1", "infra2", "infra4"}, "size 3 of 4", 3, 4, 4},
		{"3 of 4, a cluster that the bundle does not know", nil, "size 3 of 4", 3, 4, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			names := map[string][]string{"": c.bundle}
			if c.bundle == nil {
				names = map[string][]string{"other": {"infra9"}}
			}
			b, _, err := certs.NewBundle(certs.InitOptions{Domain: "rack1.example.com", Names: names, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			n := &Node{bundle: b}
			n.opts.Store(mustParse(t, strings.Replace(goodCorefile, "node infra2 10.0.1.12", "node infra2 10.0.1.12\nnode infra3 10.0.1.13\n"+c.size, 1)))
			h := n.homeOf("", "infra0")
			if h.Size != c.members || h.Answers != c.answers || len(h.Initial) != c.initial {
				t.Errorf("size %d, %d answers of %d; want %d, %d of %d", h.Size, h.Answers, len(h.Initial), c.members, c.answers, c.initial)
			}
			for _, name := range c.bundle {
				if !strings.Contains(strings.Join(h.Ask, " "), name) {
					t.Errorf("birth does not wait for %s but for %v", name, h.Ask)
				}
			}
		})
	}
}
