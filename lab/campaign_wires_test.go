//go:build linux

package lab

import (
	"fmt"
	"time"
)

// Faults of what a node stands on: wires, clocks and room on the disk.

// two picks two nodes.
func (c *campaign) two() (a, b string) {
	p := c.random.Perm(len(c.nodes))
	return c.nodes[p[0]], c.nodes[p[1]]
}

func (c *campaign) strikeLink() (string, heal) {
	a, b := c.two()
	c.Cut(a, b)
	return a + " " + b, heal{things, func() { c.Heal(a, b) }}
}

func (c *campaign) strikeOneWay() (string, heal) {
	a, b := c.two()
	c.CutFrom(a, b)
	return a + " to " + b, heal{things, func() { c.Heal(a, b) }}
}

func (c *campaign) strikeCable() (string, heal) {
	n := c.one(func(s *state) bool { return !s.cut })
	if n == "" {
		return "", heal{}
	}
	c.states[n].cut = true
	c.watch.excuse(n)
	c.CutNode(n)
	return n, heal{things, func() {
		c.HealNode(n)
		c.states[n].cut = false
	}}
}

// strikeAddress gives a node another address, which nobody else is told.
func (c *campaign) strikeAddress() (string, heal) {
	if len(c.roaming) == 0 {
		return "", heal{}
	}
	n := pick(c.random, c.roaming)
	c.moves++
	to := fmt.Sprintf("10.0.2.%d", c.moves)
	c.watch.excuse(n)
	c.move(n, to)
	return n + " " + to, heal{}
}

func (c *campaign) strikeDNS() (string, heal) {
	n := c.one(func(s *state) bool { return !s.silenced })
	if n == "" {
		return "", heal{}
	}
	c.states[n].silenced = true
	c.watch.excuse(n)
	c.BlockDNS(n)
	return n, heal{things, func() {
		c.UnblockDNS(n)
		c.states[n].silenced = false
	}}
}

func (c *campaign) strikeClock() (string, heal) {
	n := c.one(func(s *state) bool { return !s.clock })
	if n == "" {
		return "", heal{}
	}
	steps := []time.Duration{-2 * time.Second, 2 * time.Second, -time.Minute, time.Minute, -time.Hour, time.Hour, 24 * time.Hour, never(), 10 * 365 * 24 * time.Hour}
	names := []string{"-2s", "2s", "-1m", "1m", "-1h", "1h", "24h", "to 1970", "10 years"}
	i := c.random.IntN(len(steps))
	c.states[n].clock = true
	c.SetClock(n, steps[i])
	return n + " " + names[i], heal{things, func() {
		c.SetClock(n, 0)
		c.states[n].clock = false
	}}
}

func (c *campaign) strikeFull() (string, heal) {
	n := c.one(func(s *state) bool { return !s.full && !s.lost })
	if n == "" || c.full[n] == nil {
		return "", heal{}
	}
	c.states[n].full = true
	c.full[n](true)
	return n, heal{files, func() {
		c.full[n](false)
		c.states[n].full = false
	}}
}
