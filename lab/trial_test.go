//go:build linux

package lab

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// A trial is one thing that happens to a rack under the eyes of the campaign: clients write and read, every node is asked for its
// records 100 times a second, and when all is well again the campaign's judges look for lost writes, a second cluster and wrong
// or missing answers. Trials follow each other in one rack, so each ends with the members that it began with.

// onTrial boots a rack for trials.
func onTrial(t *testing.T, o Options) *campaign {
	t.Helper()
	c := forTrials(t, o)
	c.boot(t)
	return c
}

// forTrials builds a rack for trials, which is not booted yet.
func forTrials(t *testing.T, o Options) *campaign {
	t.Helper()
	edit := o.Edit
	o.Edit = func(node, text string) string {
		if edit != nil {
			text = edit(node, text)
		}
		return exempt(text)
	}
	c := &campaign{Lab: New(t, o), product: true, random: rand.New(rand.NewPCG(0, 0)), states: map[string]*state{}, acknowledged: map[string]string{}}
	c.nodes = c.Names()[:c.Lab.Nodes]
	return c
}

// trial has something happen, waits until all is well, and judges. It reports whether the next one may follow.
func (c *campaign) trial(name string, run func(t *testing.T, c *campaign)) bool {
	whole := c.t.(*testing.T)
	return whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		for _, n := range c.nodes {
			c.states[n] = &state{}
		}
		c.watch = c.newWatch()
		c.begin(name)
		defer c.end() // also after a failure
		run(t, c)
		if err := c.settle(); err != nil {
			t.Fatal(err)
		}
		c.end()
		c.watch.Stop()
		if err := c.judge(); err != nil {
			t.Error(err)
		}
		t.Logf("%d writes acknowledged, %d answers, server records at most %.1f s behind", c.Acked, c.DNS, c.SRVLag)
	})
}

// trials runs them until one fails.
func (c *campaign) trials(all []trial) {
	for _, tt := range all {
		if !c.trial(tt.name, tt.run) {
			return
		}
	}
}

type trial struct {
	name string
	run  func(t *testing.T, c *campaign)
}

// down is kill -9 of nodes; up starts those that are down, all if none is named.
func (c *campaign) down(names ...string) { c.kill(names...) }

func (c *campaign) up(names ...string) {
	if len(names) == 0 {
		names = c.nodes
	}
	for _, n := range names {
		c.again(n)
	}
}

// blank loses the whole disk of a node that is down.
func (c *campaign) blank(name string) {
	c.watch.forgets(name)
	c.Wipe(name)
}

// impostor is a machine that runs under the name of a node of another machine.
type impostor struct {
	*node
	name string
}

// impersonate starts a machine under a node's name, with an address of its own in place of the node's and whatever is on its disk.
func (l *Lab) impersonate(machine, name string) *impostor {
	l.t.Helper()
	l.EditCorefile(machine, func(s string) string {
		return strings.Replace(s, "node "+name+" "+l.Addr(name), "node "+name+" "+l.Addr(machine), 1)
	})
	return l.startAs(machine, name)
}

// startAs starts a machine under a node's name, with whatever is on its disk.
func (l *Lab) startAs(machine, name string) *impostor {
	l.t.Helper()
	n := l.node(machine)
	i := &impostor{node: n, name: name}
	p, err := spawn(n.host, "log", append([]string{l.bin(), "run"}, i.place()...))
	if err != nil {
		l.t.Fatal(err)
	}
	n.proc = p
	return i
}

func (i *impostor) place() []string {
	return []string{"--corefile", filepath.Join(i.dir, "Corefile"), "--name", i.name, "--data", i.data()}
}

// says is what status tells on the impostor.
func (l *Lab) says(i *impostor) Result {
	l.t.Helper()
	return l.Run(i.host.name, l.bin(), append([]string{"status"}, i.place()...)...)
}
