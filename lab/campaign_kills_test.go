//go:build linux

package lab

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Faults of processes: killed, stopped, paused.

func running(s *state) bool { return !s.down && !s.paused }

func (c *campaign) strikeMember() (string, heal) {
	n := c.one(func(s *state) bool { return running(s) })
	if n == "" {
		return "", heal{}
	}
	// It may just be starting again after another fault.
	if pid := c.MemberPID(n); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return n, heal{}
}

func (c *campaign) strikeNode() (string, heal) {
	n := c.one(func(s *state) bool { return !s.down })
	if n == "" {
		return "", heal{}
	}
	return n, c.kill(n)
}

func (c *campaign) strikeAll() (string, heal) {
	var names []string
	for _, n := range c.nodes {
		if !c.states[n].down {
			names = append(names, n)
		}
	}
	return fmt.Sprint(names), c.kill(names...)
}

// kill is kill -9 of nodes; the heal starts them in random order.
func (c *campaign) kill(names ...string) heal {
	for _, n := range names {
		c.watch.excuse(n)
	}
	c.Kill(names...)
	for _, n := range names {
		s := c.states[n]
		s.down, s.paused, s.memberPaused = true, false, false
	}
	order := slices.Clone(names)
	c.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return heal{things, func() {
		for _, n := range order {
			c.again(n)
		}
	}}
}

// again starts a node that is down.
func (c *campaign) again(n string) {
	if c.states[n].down {
		c.watch.starts(n)
		c.Start(n)
		c.states[n].down = false
	}
}

func (c *campaign) strikeStop() (string, heal) {
	n := c.one(func(s *state) bool { return running(s) && !s.memberPaused })
	if n == "" {
		return "", heal{}
	}
	c.ready(n)
	c.watch.excuse(n)
	c.Stop(n)
	h := c.kill(n) // what it left; nothing
	return n, h
}

func (c *campaign) strikePauseMember() (string, heal) {
	n := c.one(func(s *state) bool { return running(s) && !s.memberPaused })
	if n == "" {
		return "", heal{}
	}
	pid := c.MemberPID(n)
	if pid == 0 {
		return n + ", which has none at the moment", heal{}
	}
	c.states[n].memberPaused = true
	_ = unix.Kill(pid, unix.SIGSTOP)
	return n, heal{things, func() { c.resume(n) }}
}

func (c *campaign) strikePauseNode() (string, heal) {
	n := c.one(running)
	if n == "" {
		return "", heal{}
	}
	c.ready(n)
	c.states[n].paused = true
	c.watch.excuse(n)
	for _, pid := range c.pids(n) {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	return n, heal{things, func() { c.resume(n) }}
}

// resume lets all of a node's processes run again, unless other faults killed them.
func (c *campaign) resume(n string) {
	c.states[n].paused, c.states[n].memberPaused = false, false
	for _, pid := range c.pids(n) {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}
