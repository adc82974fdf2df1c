package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

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
