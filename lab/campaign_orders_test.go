//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// What people do to the membership, in the campaign: at any moment, also while links are cut and nodes are down.

// word is what a command about the membership says of itself.
type word string

const (
	taken word = "taken"
	// refused is a promise: the order does not take place, unless it is given again.
	refused word = "refused"
	// unknown says that it may have taken place, or may still.
	unknown word = "unknown"
)

// wordOf reads a command's answer as its reader does. Whoever is not told no does not know.
func wordOf(r Result) word {
	switch {
	case r.Code == 0:
		return taken
	case r.Code != 1:
		return unknown // it was killed, or died
	}
	for _, says := range []string{"whether it took place", "timed out", "deadline exceeded", "when that can be done"} {
		if strings.Contains(r.Stderr, says) {
			return unknown
		}
	}
	return refused
}

// command gives an order at one node, and has the watcher know what may follow from it.
func (c *campaign) command(at string, args ...string) Result {
	op, subject := args[0], args[1]
	known := c.watch.moves[subject]
	switch op {
	case "remove":
		c.watch.leaves(subject)
	case "add":
		c.watch.admits(subject)
	}
	r := c.Tool(at, append([]string{"member"}, args...)...)
	if op == "remove" && !known && wordOf(r) == refused {
		c.watch.stays(subject)
	}
	return r
}

// order gives a command about the membership until it is taken, on any node but the one it is about.
func (c *campaign) order(subject string, args ...string) {
	c.Wait(fmt.Sprintf("member %v is taken", args), healLimit, func() (err error) {
		for _, n := range c.nodes {
			if n != subject && c.node(n).up() {
				if err = c.command(n, args...).Err(); err == nil {
					return nil
				}
			}
		}
		return err
	})
}

// tell gives a command once, at a living node, as things are; what says where, and what came of it. It is empty if no other node lives.
func (c *campaign) tell(subject string, args ...string) (what string, o word) {
	at := ""
	for _, i := range c.random.Perm(len(c.nodes)) {
		if n := c.nodes[i]; n != subject && running(c.states[n]) && c.node(n).up() {
			at = n
			break
		}
	}
	if at == "" {
		return "", refused
	}
	r := c.command(at, args...)
	o = wordOf(r)
	c.Orders[string(o)]++
	what = fmt.Sprintf("%s at %s: %s", subject, at, o)
	if o != taken {
		what += ": " + strings.Join(strings.Fields(r.Stderr), " ")
	}
	return what, o
}

// sound says whether the disks that are whole are a quorum of all that may be members, with one more lost or removed. What an order came
// to does not matter, so that a seed always draws the same; a node that comes or comes back has no disk that counts.
func (c *campaign) sound(lost, removed string) bool {
	whole, members := 0, 0
	for _, n := range c.nodes {
		s := *c.states[n]
		s.lost, s.ordered = s.lost || n == lost, s.ordered || n == removed
		if !s.ordered || s.added {
			members++
		}
		if !s.ordered && !s.joined && !s.lost {
			whole++
		}
	}
	return members > 1 && whole > members/2
}

// strikeJoin gives one more node its line everywhere and starts it. It stays.
func (c *campaign) strikeJoin() (string, heal) {
	if len(c.nodes) == len(c.names) {
		return "", heal{}
	}
	n := c.names[len(c.nodes)]
	line := fmt.Sprintf("node %s %s", n, c.Addr(n))
	for _, at := range c.names {
		c.EditCorefile(at, func(text string) string {
			return strings.Replace(text, "node infra0 ", line+"\n        node infra0 ", 1)
		})
		if c.node(at).up() {
			c.ready(at)
			c.Signal(at, syscall.SIGHUP)
		}
	}
	c.nodes = append(c.nodes, n)
	c.states[n] = &state{joined: true}
	c.watch.excuse(n)
	c.watch.forgets(n)
	c.watch.starts(n)
	c.Start(n)
	return n, heal{}
}

// strikeRemove orders a removal, which may be refused while other things are broken. When all else is healed the person gives the order
// again, or lets it be if it was refused; a member that is out, or may be, is let in again.
func (c *campaign) strikeRemove() (string, heal) {
	n := c.one(func(s *state) bool { return !s.ordered })
	again := c.random.IntN(2) == 0
	if n == "" || !c.sound("", n) {
		return "", heal{}
	}
	what, o := c.tell(n, "remove", n)
	if what == "" {
		return "", heal{}
	}
	c.states[n].ordered, c.states[n].out = true, o != refused
	return what, heal{orders, func() {
		if again {
			c.states[n].out = true
			c.order(n, "remove", n)
		}
		if c.states[n].out {
			c.order(n, "add", n, "--wait", "0")
		}
	}}
}

// strikeAdd lets one in again that was ordered out in this round.
func (c *campaign) strikeAdd() (string, heal) {
	n := c.one(func(s *state) bool { return s.ordered && !s.added })
	if n == "" {
		return "", heal{}
	}
	what, _ := c.tell(n, "add", n, "--wait", "0")
	c.states[n].added = what != ""
	return what, heal{}
}

// strikeReplace lets a node in at once that lost its disk in this round.
func (c *campaign) strikeReplace() (string, heal) {
	n := c.one(func(s *state) bool { return s.lost })
	if n == "" {
		return "", heal{}
	}
	what, _ := c.tell(n, "replace", n, "--wait", "0")
	return what, heal{}
}

// judgeMembers is an error if a member was replaced that nobody had to: one whose disk was not lost, and whose removal nobody ordered,
// or only in vain, keeps its member ID.
func (c *campaign) judgeMembers(before map[string]uint64) error {
	after, err := c.members(c.nodes)
	if err != nil {
		return err
	}
	var kept []string
	for _, n := range c.nodes {
		if s := c.states[n]; !s.lost && !s.out && !s.joined {
			kept = append(kept, n)
		}
	}
	return sameMembers(kept, before, after)
}

// sameMembers is an error unless nodes have the member IDs that they had.
func sameMembers(kept []string, before, after map[string]uint64) error {
	i := slices.IndexFunc(kept, func(n string) bool { return before[n] == 0 || before[n] != after[n] })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("%w: that of %s was %x and is %x; of %v", errReplaced, kept[i], before[kept[i]], after[kept[i]], kept)
}
