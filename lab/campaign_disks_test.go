//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Faults of what a node has on its disks: the disk itself, and its Corefile.

// strikeDisk loses a disk with its node, or what is below etcd/ alone, if that leaves a quorum of disks.
func (c *campaign) strikeDisk(below string) (string, heal) {
	n := c.one(func(s *state) bool { return !s.lost && !s.ordered })
	if n == "" || !c.sound(n, "") {
		return "", heal{}
	}
	h := heal{}
	if !c.states[n].down {
		h = c.kill(n)
	}
	c.empty(filepath.Join(c.node(n).data(), below))
	c.states[n].lost = true
	if below == "" {
		c.watch.forgets(n)
	} else {
		c.watch.changes(n)
	}
	return n, h
}

// empty removes what is in a directory, and leaves file systems mounted below it in their places.
func (c *campaign) empty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if err := os.RemoveAll(path); errors.Is(err, unix.EBUSY) {
			c.empty(path)
		} else if err != nil {
			c.t.Fatal(err)
		}
	}
}

// strikeMachine puts a blank machine in a node's place. A person says that it may take the place.
func (c *campaign) strikeMachine() (string, heal) {
	n, h := c.strikeDisk("")
	if n == "" {
		return "", heal{}
	}
	if err := c.host(n).etc("machine-id", fmt.Sprintf("%032x\n", c.random.Uint64())); err != nil {
		c.t.Fatal(err)
	}
	return n, heal{orders, func() {
		if h.do != nil {
			h.do()
		}
		c.order(n, "replace", n, "--wait", "0")
	}}
}

// strikeImage takes an image of a disk while its node is down for a moment, as after a power cut; what heals it puts the image back, which by then
// is some seconds old.
func (c *campaign) strikeImage() (string, heal) {
	n := c.one(func(s *state) bool { return !s.lost && !s.ordered && !s.full })
	if n == "" || !c.sound(n, "") {
		return "", heal{}
	}
	data, image := c.node(n).data(), filepath.Join(c.t.TempDir(), "image")
	if !c.states[n].down {
		c.kill(n)
	}
	c.Must(clientHost, "cp", "-a", data, image)
	c.states[n].lost = true
	c.again(n)
	return n, heal{things, func() {
		if !c.states[n].down {
			c.kill(n)
		}
		c.watch.rewinds(n)
		c.empty(data)
		c.Must(clientHost, "cp", "-a", image+"/.", data)
		c.again(n)
	}}
}

// strikeKey takes the next of the three steps to a new gossip key: every machine is given the next generation of the bundle.
func (c *campaign) strikeKey() (string, heal) {
	bundle := filepath.Join(c.operator(), "cluster.bundle")
	r := c.Run(clientHost, c.bin(), "ca", "rotate", "gossip", "--bundle", bundle)
	if r.Code != 0 {
		c.t.Fatal(r)
	}
	for _, n := range c.names {
		c.giveBundle(n, bundle)
		if c.node(n).up() {
			c.ready(n)
			c.Signal(n, syscall.SIGHUP)
		}
	}
	return strings.TrimSpace(r.Stderr), heal{}
}

// strikeReload changes a TTL in a node's Corefile, which nobody but its answers notices, and what heals it changes it back.
func (c *campaign) strikeReload() (string, heal) {
	n := c.one(func(s *state) bool { return !s.badFile })
	ttl := 10 + c.random.IntN(50)
	if n == "" {
		return "", heal{}
	}
	c.rewrite(n, "ttl", fmt.Sprintf("ttl %ds", ttl))
	return fmt.Sprintf("%s ttl %ds", n, ttl), heal{files, func() { c.rewrite(n, "ttl", "ttl 30s") }}
}

func (c *campaign) strikeBadCorefile() (string, heal) {
	n := c.one(func(s *state) bool { return !s.badFile && !s.lost })
	if n == "" {
		return "", heal{}
	}
	c.states[n].badFile = true
	c.rewrite(n, "ttl", "ttl never")
	return n, heal{files, func() {
		c.rewrite(n, "ttl", "ttl 30s")
		c.states[n].badFile = false
	}}
}

// rewrite puts a line in place of that which begins with a word, or at the beginning of etcdsrv, and reloads the node if it runs.
func (c *campaign) rewrite(n, word, line string) {
	var b strings.Builder
	for text := range strings.Lines(c.corefile(n)) {
		if fields := strings.Fields(text); len(fields) > 0 && fields[0] == word {
			continue
		}
		b.WriteString(text)
		if strings.Contains(text, "etcdsrv {") {
			b.WriteString("        " + line + "\n")
		}
	}
	c.write(c.host(n), "Corefile", b.String())
	if c.node(n).up() {
		c.ready(n)
		c.Signal(n, syscall.SIGHUP)
	}
}

// ready waits until a node's process takes signals: it answers itself, whatever is cut. Before that a signal ends it, as it
// would any program. A paused node was ready when it was paused, and stock etcd's supervisor always is.
func (c *campaign) ready(n string) {
	if c.states[n].paused || !c.product {
		return
	}
	c.Wait(n+" is ready for signals", healthyLimit, func() error {
		_, err := c.Query(n, c.Addr(n), c.Domain, dns.TypeNS)
		return err
	})
}
