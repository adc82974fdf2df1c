package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestNodesMeet(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 5, 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			nodes := rack(t, n, nil)
			t.Logf("%d nodes met within %s", n, time.Since(began).Round(time.Millisecond))
			for _, node := range nodes {
				peers := node.Peers()
				if len(peers) != n-1 {
					t.Errorf("%s has %d peers, want the %d others", node.o.Name, len(peers), n-1)
				}
				for i, p := range peers {
					if i > 0 && peers[i-1].Name >= p.Name {
						t.Errorf("%s: %s is before %s", node.o.Name, peers[i-1].Name, p.Name)
					}
				}
			}
		})
	}
}

// What a node says reaches all others as it was said.
func TestSay(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 3, nil)
	said := largestRecord()
	said.Name, said.Boot, said.Addrs, said.leaving = "not", "mine", nil, false
	for i := range uint32(50) { // in quick succession; the last one counts
		said.Serial = i
		nodes[0].Say(said)
	}
	want := said
	want.Name, want.Boot, want.Addrs = nodes[0].o.Name, nodes[0].o.Boot, nodes[0].o.Addrs
	for _, n := range nodes[1:] {
		wait(t, "the record is there", func() bool {
			p, _ := n.peer(nodes[0].own)
			return reflect.DeepEqual(p.Record, want)
		})
		select {
		case <-n.Changed():
		default:
			t.Errorf("%s was not told that something changed", n.o.Name)
		}
	}
	// The list is the caller's.
	nodes[1].Peers()[0].Addrs[0] = netip.MustParseAddr("192.0.2.1")
	if p, _ := nodes[1].peer(nodes[0].own); !reflect.DeepEqual(p.Record, want) {
		t.Errorf("a caller's change reached the table: %+v", p.Record)
	}
}

// A record that is too long is logged once and never said; the one before it stays.
func TestSayTooMuch(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, nil)
	good, bad := Record{Serial: 7}, Record{Serial: 8}
	for i := range 40 {
		bad.PeerAddrs = append(bad.PeerAddrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)))
	}
	seen := func(serial uint32) func() bool {
		return func() bool {
			p, _ := nodes[1].peer(nodes[0].own)
			return p.Serial == serial
		}
	}
	nodes[0].Say(good)
	wait(t, "the good record is there", seen(7))
	for range 3 {
		nodes[0].Say(bad)
	}
	if n := nodes[0].logged(zap.ErrorLevel, "the longest parts are peer addresses (683)"); n != 1 {
		t.Errorf("%d lines about the long record, want 1: %v", n, nodes[0].logs.All())
	}
	holds(t, "the good record stays", 500*time.Millisecond, seen(7))
	good.Serial = 9
	nodes[0].Say(good)
	wait(t, "the next good record is there", seen(9))
}

// A node that is told of wrong addresses besides right ones finds the others, whichever are wrong.
func TestSeeds(t *testing.T) {
	t.Parallel()
	first := options("infra0")
	silent := options("silent").at() // nobody listens there
	own := options("infra1")
	seeds := []netip.AddrPort{
		silent, {}, netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("224.0.0.1:2388"), netip.MustParseAddrPort("0.0.0.0:2388"),
		netip.MustParseAddrPort("[fe80::1%lo]:2388"), netip.MustParseAddrPort("192.0.2.1:2388"), own.at(),
		netip.AddrPortFrom(netip.AddrFrom16(first.Addrs[0].As16()), port), // an IPv4 address that came as IPv6
	}
	own.Seeds = func(context.Context) []netip.AddrPort { return seeds }
	second := start(t, own) // before the other: it tries again
	wait(t, "the second node tried", func() bool { return second.logged(zap.WarnLevel, silent.String()) > 0 })
	meet(t, start(t, first), second)
	if n := second.logged(zap.WarnLevel, silent.String()); n != 1 {
		t.Errorf("%d lines about the silent address, want 1", n)
	}
}

// While all are there, nobody joins anybody.
func TestNoNeedlessJoins(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 3, func(o *Options) { o.Timing.Rejoin = 10 * time.Millisecond })
	joins := func() (n int) {
		for _, node := range nodes {
			n += node.logged(zap.DebugLevel, "Initiating push/pull sync with:  ") // no name: not the periodic ones
		}
		return n
	}
	before := joins()
	if before == 0 {
		t.Fatal("the joins that brought the nodes together are not counted")
	}
	holds(t, "no further joins", 500*time.Millisecond, func() bool { return joins() <= before })
}

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

// Another key and another domain keep nodes apart, although they know of each other.
func TestStrangers(t *testing.T) {
	t.Parallel()
	first := start(t, options("infra0"))
	key, domain, sub := options("infra1", first.o.at()), options("infra2", first.o.at()), options("infra3", first.o.at())
	key.Keys = [][]byte{keyB}
	domain.Domain = "rack2.example.com"
	sub.Domain = "a.rack1.example.com"
	for _, o := range []Options{key, domain, sub} {
		stranger := start(t, o)
		wait(t, o.Name+" says that it cannot join", func() bool {
			return stranger.logged(zap.WarnLevel, "cannot be reached") > 0
		})
	}
	for _, text := range []string{"no installed keys could decrypt", "unacceptable label"} {
		wait(t, "the first node logs: "+text, func() bool { return first.logged(zap.WarnLevel, text) > 0 })
	}
	friend := start(t, options("infra4", first.o.at()))
	meet(t, first, friend)
	if peers := first.Peers(); len(peers) != 1 {
		t.Errorf("the first node has %s, want infra4 alone", first)
	}
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

// Two halves of a rack that were apart for so long that each forgot the other come together again by themselves.
func TestPartition(t *testing.T) {
	t.Parallel()
	var cut, silent atomic.Bool // silent: nobody is told of any seed
	var first sync.Map          // whether an address is that of the first half
	nodes := rack(t, 3, func(o *Options) {
		quick(o)
		o.Timing.Forget, o.Timing.Rejoin, o.Timing.SuspicionMax = time.Millisecond, time.Second, 1
		half := o.Name == "infra0"
		first.Store(o.Addrs[0], half)
		seeds := o.Seeds
		o.Seeds = func(ctx context.Context) []netip.AddrPort {
			if silent.Load() {
				return nil
			}
			return seeds(ctx)
		}
		o.cut = func(a netip.Addr) bool {
			other, known := first.Load(a)
			return cut.Load() && known && other.(bool) != half
		}
	})
	halves := [2][]*runNode{nodes[:1], nodes[1:]}
	silent.Store(true)
	cut.Store(true)
	for _, a := range halves[0] {
		for _, b := range halves[1] {
			a.wait(b.own, Dead)
			b.wait(a.own, Dead)
		}
	}
	holds(t, "the halves stay apart", time.Second, func() bool {
		for _, p := range halves[0][0].Peers() {
			if p.Status == Alive {
				return false
			}
		}
		return true
	})
	meet(t, halves[1]...)
	cut.Store(false)
	meet(t, nodes...)
}

// After a restart, at another address, a node finds the others without being told of any.
func TestRememberedNodes(t *testing.T) {
	t.Parallel()
	first := start(t, options("infra0"))
	o := options("infra1", first.o.at())
	o.File = filepath.Join(t.TempDir(), "gossip.json")
	before := start(t, o)
	meet(t, first, before)
	before.end()
	next := options("infra1")
	next.File = o.File
	meet(t, first, start(t, next))
}

// The key is rotated under nodes that talk: none is missed for a moment, and in the end only the new key opens the door.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 3, nil)
	since := map[string]time.Time{}
	for _, n := range nodes {
		for _, p := range n.Peers() {
			since[n.own+p.nodeName()] = p.Since
		}
	}
	serial := uint32(0)
	talk := func() { // all say something, and all hear it
		serial++
		for _, n := range nodes {
			n.Say(Record{Serial: serial})
		}
		for _, n := range nodes {
			wait(t, fmt.Sprintf("%s hears %d", n.o.Name, serial), func() bool {
				for _, p := range n.Peers() {
					if p.Serial != serial {
						return false
					}
				}
				return true
			})
		}
	}
	for _, keys := range [][][]byte{{keyA, keyB}, {keyB, keyA}, {keyB}} {
		for _, n := range nodes {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			talk()
		}
	}
	for _, n := range nodes {
		for _, p := range n.Peers() {
			if !p.Since.Equal(since[n.own+p.nodeName()]) || p.Status != Alive {
				t.Errorf("%s missed %s in between", n.o.Name, p.Name)
			}
		}
	}
	late, right := options("old", nodes[0].o.at()), options("new", nodes[0].o.at())
	right.Keys = [][]byte{keyB}
	old := start(t, late)
	meet(t, append(nodes, start(t, right))...)
	wait(t, "the old key fails", func() bool { return old.logged(zap.WarnLevel, "cannot be reached") > 0 })
	if peers := old.Peers(); len(peers) != 0 {
		t.Errorf("with the old key: %s, want nobody", old)
	}
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

// A node with both families tells those that have only the other one than memberlist knows of.
func TestFamilies(t *testing.T) {
	t.Parallel()
	if conn, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6: %v", err)
	} else if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	both := options("both")
	both.Addrs = append(both.Addrs, netip.IPv6Loopback())
	both.Port = uint16(10000 + 2*rand.IntN(10000)) // ::1 is everybody's
	four := options("four", both.at())
	six := options("six", netip.AddrPortFrom(netip.IPv6Loopback(), both.Port))
	six.Addrs, six.Port = []netip.Addr{netip.IPv6Loopback()}, both.Port+1
	nodes := []*runNode{start(t, both), start(t, four), start(t, six)}
	meet(t, nodes...)
	nodes[2].Say(Record{Serial: 5})
	for _, n := range nodes[:2] {
		wait(t, "the record from the other family is there", func() bool {
			p, _ := n.peer(nodes[2].own)
			return p.Serial == 5
		})
	}
	nodes[2].end()
	nodes[0].wait(nodes[2].own, Left)
	wait(t, "the node of the other family is gone", func() bool { // whether it left can get lost on the way
		p, _ := nodes[1].peer(nodes[2].own)
		return p.Status != Alive
	})
}

// Everything that Run started has ended when it returns, also what waits for a node or a stranger that does not answer.
func TestRunEnds(t *testing.T) {
	o := options("infra0")
	o.Timing.Probe, o.Timing.Stream = time.Second, time.Minute
	n := start(t, o)
	paused := spawn(t, options("paused"), n.o.at())
	n.wait(paused.own, Alive)
	paused.signal(t, syscall.SIGSTOP)
	stranger, err := net.Dial("tcp", n.o.at().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	wait(t, "a probe waits for the stopped node", func() bool { return n.logged(zap.DebugLevel, "Failed UDP ping: "+paused.own) > 0 })
	wait(t, "a stream waits for the stranger", func() bool {
		return n.logged(zap.DebugLevel, "Stream connection from="+stranger.LocalAddr().String()) > 0
	})
	n.end()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, s := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(s, "hashicorp/memberlist") || strings.Contains(s, "gossip.(*") {
			t.Errorf("still there:\n%s", s)
		}
	}
	if err := n.Run(context.Background()); err == nil {
		t.Error("Run was called twice and did not say so")
	}
}

// Run ends also while it cannot listen.
func TestRunEndsEarly(t *testing.T) {
	g, err := New(options("late"))
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Run(ended); err != nil {
		t.Error(err)
	}
	o := options("late")
	o.Addrs = addrs("192.0.2.1")
	n := start(t, o)
	wait(t, "a line says that it cannot listen", func() bool { return n.logged(zap.ErrorLevel, "192.0.2.1") > 0 })
	n.end()
}
