//go:build linux

package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A fault happens to a rack and is healed later. What it does is decided by the random numbers and by the faults before it
// alone, so that a seed always gives the same sequence.
type fault struct {
	name   string
	weight int
	// stock says that stock etcd can have it too: it needs nothing of the product's.
	stock bool
	// first says that it is only for the beginning of a round, when all is well: an order about the membership.
	first bool
	// strike does it, unless it cannot be now: then what is empty. The heal may be nil.
	strike func(c *campaign) (what string, h heal)
}

// heal undoes a fault. Heals of a lower stage come first: files before what reads them, machines and wires before orders to
// the cluster.
type heal struct {
	stage int
	do    func()
}

const (
	files = iota
	things
	orders
)

// faults are all of them, with how often each is drawn among them.
var faults = []fault{
	{name: "kill member", weight: 6, stock: true, strike: (*campaign).strikeMember},
	{name: "kill node", weight: 6, stock: true, strike: (*campaign).strikeNode},
	{name: "kill all", weight: 2, stock: true, strike: (*campaign).strikeAll},
	{name: "stop node", weight: 3, stock: false, strike: (*campaign).strikeStop},
	{name: "wipe etcd", weight: 1, stock: true, strike: func(c *campaign) (string, heal) { return c.strikeDisk("etcd") }},
	{name: "wipe disk", weight: 2, stock: true, strike: func(c *campaign) (string, heal) { return c.strikeDisk("") }},
	{name: "new machine", weight: 1, strike: (*campaign).strikeMachine},
	{name: "pause member", weight: 5, stock: true, strike: (*campaign).strikePauseMember},
	{name: "pause node", weight: 4, strike: (*campaign).strikePauseNode},
	{name: "cut link", weight: 5, stock: true, strike: (*campaign).strikeLink},
	{name: "cut one way", weight: 5, stock: true, strike: (*campaign).strikeOneWay},
	{name: "cut node", weight: 4, stock: true, strike: (*campaign).strikeCable},
	{name: "block DNS", weight: 4, strike: (*campaign).strikeDNS},
	{name: "step clock", weight: 5, strike: (*campaign).strikeClock},
	{name: "fill disk", weight: 3, strike: (*campaign).strikeFull},
	{name: "reload", weight: 3, strike: (*campaign).strikeReload},
	{name: "bad Corefile", weight: 3, strike: (*campaign).strikeBadCorefile},
	{name: "join", weight: 3, first: true, strike: (*campaign).strikeJoin},
	{name: "remove member", weight: 2, first: true, strike: (*campaign).strikeRemove},
}

// draw picks a fault for a moment of a round.
func (c *campaign) draw(first bool) fault {
	var can []fault
	total := 0
	for _, f := range faults {
		if (first || !f.first) && (c.product || f.stock) {
			can = append(can, f)
			total += f.weight
		}
	}
	n := c.random.IntN(total)
	for _, f := range can {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// one picks a node, or returns the empty string if none is as asked for.
func (c *campaign) one(ok func(s *state) bool) string {
	var can []string
	for _, n := range c.nodes {
		if ok(c.states[n]) {
			can = append(can, n)
		}
	}
	if len(can) == 0 {
		return ""
	}
	return can[c.random.IntN(len(can))]
}

// state is what a campaign did to a node and has not healed yet.
type state struct {
	down, paused, memberPaused, cut, silenced, clock, full, badFile bool
	// lost is a disk that this round took, changed a membership that this round changes.
	lost, changed bool
}

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
		*c.states[n] = state{down: true, cut: c.states[n].cut, silenced: c.states[n].silenced, clock: c.states[n].clock,
			full: c.states[n].full, badFile: c.states[n].badFile, lost: c.states[n].lost, changed: c.states[n].changed}
	}
	order := slices.Clone(names)
	c.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return heal{things, func() {
		for _, n := range order {
			if c.states[n].down {
				c.Start(n)
				c.states[n].down = false
			}
		}
	}}
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

// strikeDisk loses a disk with its node, or what is below etcd/ alone, if that leaves a majority of the voters their disks.
func (c *campaign) strikeDisk(below string) (string, heal) {
	lost, changed := 0, false
	for _, n := range c.nodes {
		if c.states[n].lost {
			lost++
		}
		changed = changed || c.states[n].changed
	}
	n := c.one(func(s *state) bool { return !s.lost })
	if changed || lost+1 > (len(c.nodes)-1)/2 {
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

// strikeReload changes a TTL in a node's Corefile, which nobody but its answers notices.
func (c *campaign) strikeReload() (string, heal) {
	n := c.one(func(s *state) bool { return !s.badFile })
	ttl := 10 + c.random.IntN(50)
	if n == "" {
		return "", heal{}
	}
	c.rewrite(n, "ttl", fmt.Sprintf("ttl %ds", ttl))
	return fmt.Sprintf("%s ttl %ds", n, ttl), heal{}
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
// would any program. A paused node was ready when it was paused.
func (c *campaign) ready(n string) {
	if c.states[n].paused {
		return
	}
	c.Wait(n+" is ready for signals", healthyLimit, func() error {
		_, err := c.Query(n, c.Addr(n), c.Domain, dns.TypeNS)
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

// pick is a random element.
func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }
