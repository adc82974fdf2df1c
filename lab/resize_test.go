//go:build linux

package lab

import (
	"errors"
	"slices"
	"testing"
)

// A cluster of one grows to three and to five, and shrinks to three and to one, the leader among those that go, while clients write. At each
// size every node's records are the members, nothing that was acknowledged is gone, and it is the cluster that it was.
func TestResizeUnderLoad(t *testing.T) {
	t.Parallel()
	c := onTrial(t, Options{Nodes: 1, Later: 4})
	c.trial("OneThreeFiveThreeOne", func(t *testing.T, c *campaign) {
		written := 0
		for _, size := range []int{3, 5, 3, 1} {
			for len(c.nodes) < size {
				c.strikeJoin()
				c.voters(c.nodes...)
			}
			var gone []string
			for len(c.nodes) > size {
				gone = append(gone, c.dismiss(len(gone) == 0))
			}
			acked := c.record.acknowledged("u/")
			err := c.held(c.nodes, acked)
			if id, e := c.cluster(c.nodes); e != nil || id != c.id {
				err = errors.Join(err, e, errorf("the cluster was %x and is %x", c.id, id))
			}
			for _, n := range gone {
				c.WaitStatus(n, "phase", "removed")
			}
			c.everywhere(c.nodes...)
			if err != nil || len(acked) <= written {
				t.Fatalf("%d members, %d keys acknowledged, %d before: %v", size, len(acked), written, err)
			}
			t.Logf("%d members: %d keys so far", size, len(acked))
			written = len(acked)
		}
	})
}

// dismiss removes one member, the leader or another one, waits until the others vote without it, and returns its node.
func (c *campaign) dismiss(leader bool) string {
	name := ""
	c.Wait("there is a leader", healthyLimit, func() error {
		name = c.StatusText(c.nodes[0], "leader")
		if !slices.Contains(c.nodes, name) {
			return errorf("it is %q", name)
		}
		return nil
	})
	if !leader {
		name = c.nodes[(slices.Index(c.nodes, name)+1)%len(c.nodes)]
	}
	c.order(name, "remove", name)
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(n string) bool { return n == name })
	c.voters(c.nodes...)
	return name
}

// everywhere waits until every node of the rack, one that was removed as well, answers with these members.
func (c *campaign) everywhere(members ...string) {
	c.t.Helper()
	want := c.targets("server", members...)
	for _, n := range c.names {
		if !c.node(n).up() {
			continue // it has not joined yet
		}
		c.Wait(n+" answers the members", healthyLimit, func() error {
			if got := c.Ask(clientHost, c.Addr(n), c.watch.server.Name, c.watch.server.Type); got != want {
				return errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
}
