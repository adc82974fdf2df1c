package gossip

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A node that comes back with another address at once is a new run, whatever the others think of the old one.
func TestRestartWithAnotherAddress(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, quick)
	old := spawn(t, options("infra9").with(quick), nodes[0].o.at())
	for _, n := range nodes {
		n.wait(old.own, Alive)
	}
	old.signal(t, syscall.SIGKILL)
	moved := start(t, options("infra9", nodes[1].o.at()).with(quick))
	meet(t, append(nodes, moved)...)
	for _, n := range nodes {
		n.wait(old.own, Dead)
		if p := n.wait(moved.own, Alive); p.Addr != moved.o.at() {
			t.Errorf("%s has %s for the new run, want %s", n.o.Name, p.Addr, moved.o.at())
		}
	}
}

// A restart at the same address and port, before the others missed the old run.
func TestRestartAtTheSameAddress(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, quick)
	o := options("infra9", nodes[0].o.at()).with(quick)
	old := spawn(t, o, nodes[0].o.at())
	for _, n := range nodes {
		n.wait(old.own, Alive)
	}
	old.signal(t, syscall.SIGKILL)
	_ = old.cmd.Wait()
	o.Boot = uuid.NewString()
	next := start(t, o)
	meet(t, append(nodes, next)...)
	for _, n := range nodes {
		n.wait(old.own, Dead)
		n.wait(next.own, Alive)
	}
}

// Two machines under one name are both there, and see each other.
func TestTwoRunsOfOneName(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, nil)
	twins := []*runNode{start(t, options("twin", nodes[0].o.at())), start(t, options("twin", nodes[1].o.at()))}
	meet(t, append(nodes, twins...)...)
	since := nodes[0].wait(twins[0].own, Alive).Since
	holds(t, "both twins are alive", time.Second, func() bool {
		a, _ := nodes[0].peer(twins[0].own)
		b, _ := nodes[0].peer(twins[1].own)
		return a.Status == Alive && b.Status == Alive && a.Since.Equal(since)
	})
}

// A node that ends in order is said to have left, at once; one that is killed is dead.
func TestLeaveAndCrash(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, quick)
	leaver, victim := spawn(t, options("leaver").with(quick), nodes[0].o.at()), spawn(t, options("victim").with(quick), nodes[0].o.at())
	for _, n := range nodes {
		n.wait(leaver.own, Alive)
		n.wait(victim.own, Alive)
	}
	leaver.signal(t, syscall.SIGTERM)
	victim.signal(t, syscall.SIGKILL)
	for _, n := range nodes {
		n.wait(leaver.own, Left)
		n.wait(victim.own, Dead)
		for _, c := range []struct {
			level zapcore.Level
			text  string
			boot  string
		}{{zap.InfoLevel, "a node is left", leaver.Boot}, {zap.WarnLevel, "a node is dead", victim.Boot}} {
			wait(t, "a line says: "+c.text, func() bool {
				return n.logs.Filter(func(e observer.LoggedEntry) bool {
					return e.Level == c.level && strings.Contains(e.Message, c.text) && e.ContextMap()["boot"] == c.boot
				}).Len() > 0
			})
		}
		t.Log(n.logs.FilterMessageSnippet("gossip: a node is").All())
	}
}

// A node that is stopped is missed, and there again when it goes on, also after the others forgot it.
func TestPause(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]time.Duration{"remembered": 30 * time.Second, "forgotten": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short := func(o *Options) {
				quick(o)
				o.Timing.Forget = forget
			}
			nodes := rack(t, 2, short)
			paused := spawn(t, options("infra9").with(short), nodes[0].o.at())
			for _, n := range nodes {
				n.wait(paused.own, Alive)
			}
			paused.signal(t, syscall.SIGSTOP)
			for _, n := range nodes {
				n.wait(paused.own, Dead)
			}
			paused.signal(t, syscall.SIGCONT)
			began := time.Now()
			for _, n := range nodes {
				n.wait(paused.own, Alive)
			}
			t.Logf("alive again after %s", time.Since(began).Round(time.Millisecond))
			for i, n := range nodes {
				n.wait(nodes[1-i].own, Alive)
			}
		})
	}
}

// A node dies just after another one is back that was cut off, and missed what the dead one said meanwhile. The third hears of the death from the
// one that was away, and believes it: without, it would have no second witness, which takes for ever with this Timing.
func TestDeathAfterACut(t *testing.T) {
	t.Parallel()
	var away, gone atomic.Bool
	nodes := rack(t, 3, func(o *Options) {
		quick(o)
		o.Timing.PushPull, o.Timing.Forget, o.Timing.SuspicionMax = time.Hour, time.Hour, 1000
		switch o.Name {
		case "infra0":
			o.cut = func(netip.Addr) bool { return away.Load() }
		case "infra1":
			o.cut = func(netip.Addr) bool { return gone.Load() }
		}
	})
	cutOff, dies, third := nodes[0], nodes[1], nodes[2]
	away.Store(true)
	dies.wait(cutOff.own, Dead)
	third.wait(cutOff.own, Dead)
	for serial := uint32(1); serial <= 3; serial++ {
		dies.Say(Record{Serial: serial})
		wait(t, "the third has heard it", func() bool { p, _ := third.peer(dies.own); return p.Serial == serial })
	}
	holds(t, "it is all the news", 3*time.Second, func() bool { p, _ := third.peer(dies.own); return p.Serial == 3 }) // until they are passed on no more
	away.Store(false)
	cutOff.Say(Record{Serial: 1})
	dies.wait(cutOff.own, Alive)
	third.wait(cutOff.own, Alive)
	wait(t, "the one that was away hears what it missed", func() bool { p, _ := cutOff.peer(dies.own); return p.Serial == 3 })
	gone.Store(true)
	third.wait(dies.own, Dead)
	cutOff.wait(dies.own, Dead)
}

// A node that is down fills no log.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, func(o *Options) {
		quick(o)
		o.Timing.Rejoin = 50 * time.Millisecond
	})
	victim := spawn(t, options("victim").with(quick), nodes[0].o.at())
	for _, n := range nodes {
		n.wait(victim.own, Alive)
	}
	victim.signal(t, syscall.SIGKILL)
	for _, n := range nodes {
		n.wait(victim.own, Dead)
	}
	tries := func() int {
		return nodes[0].logged(zap.DebugLevel, "failed to join "+victim.at().String())
	}
	before := tries()
	wait(t, "the dead node is tried again and again", func() bool { return tries() > before+20 })
	if n := nodes[0].logged(zap.InfoLevel, victim.Addrs[0].String()); n > 4 {
		t.Errorf("%d lines about the dead node: %v", n, nodes[0].logs.FilterLevelExact(zap.WarnLevel).All())
	}
}
