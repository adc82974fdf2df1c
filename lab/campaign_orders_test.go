//go:build linux

package lab

import (
	"fmt"
	"strings"
	"syscall"
)

// What people do to the membership, in the campaign.

// order gives a command about the membership until it is taken, on any node but the one it is about.
func (c *campaign) order(subject string, args ...string) {
	c.Wait(fmt.Sprintf("member %v is taken", args), healLimit, func() (err error) {
		for _, n := range c.nodes {
			if n != subject && c.node(n).up() {
				if err = c.Tool(n, append([]string{"member"}, args...)...).Err(); err == nil {
					return nil
				}
			}
		}
		return err
	})
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
	c.states[n] = &state{changed: true}
	c.watch.excuse(n)
	c.watch.forgets(n)
	c.Start(n)
	return n, heal{}
}

// strikeRemove takes a member out by command, and lets it in again when all else is healed.
func (c *campaign) strikeRemove() (string, heal) {
	n := c.one(running)
	if n == "" || len(c.nodes) < 3 {
		return "", heal{}
	}
	c.states[n].changed = true
	c.watch.changes(n)
	c.order(n, "remove", n)
	return n, heal{orders, func() { c.order(n, "add", n, "--wait", "0") }}
}
