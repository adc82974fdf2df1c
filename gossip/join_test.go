package gossip

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
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
	for i, half := range halves { // while the tries wait for nothing, memberlist drops the dead
		for _, n := range half {
			for _, o := range halves[1-i] {
				tries := func() int { return n.logged(zap.DebugLevel, "failed to join "+o.o.at().String()) }
				before := tries()
				wait(t, n.o.Name+" tries to reach "+o.o.Name, func() bool { return tries() > before })
			}
		}
	}
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

// Who is looked for where, by what is known of each name.
func TestWhoIsMissing(t *testing.T) {
	at := func(a string) netip.AddrPort { return netip.MustParseAddrPort(a + ":2388") }
	ta := newTable("own."+bootA, time.Minute)
	since := time.Now()
	for i, p := range []Peer{
		aliveAt("a", "10.0.1.1:2388", "10.0.1.1", "fd00::1"),
		{Record: Record{Name: "b"}, Addr: at("10.0.1.2"), Status: Dead},
		{Record: Record{Name: "b", Addrs: addrs("10.0.1.3", "fd00::3")}, Addr: at("10.0.1.3"), Status: Left}, // its last run
		{Record: Record{Name: "c"}, Addr: at("10.0.1.4"), Status: Dead},
		aliveAt("c", "10.0.1.5:2388"), // came back elsewhere
		{Record: Record{Name: "own"}, Addr: at("10.0.1.9"), Status: Dead},
	} {
		p.Since = since.Add(time.Duration(i) * time.Second)
		ta.runs[fmt.Sprint(i)] = &p
	}
	j := &joiner{o: Options{Addrs: addrs("10.0.1.9", "fd00::9"), Port: 2388}, peers: ta, remembered: []sighting{
		{Name: "a", Addrs: []netip.AddrPort{at("10.0.1.100")}}, {Name: "d", Addrs: []netip.AddrPort{at("10.0.1.6"), at("10.0.1.1")}},
	}}
	known, gone := j.look()
	if want := map[netip.AddrPort]bool{at("10.0.1.1"): true, at("[fd00::1]"): true, at("10.0.1.5"): true, at("10.0.1.9"): true, at("[fd00::9]"): true}; !maps.Equal(known, want) {
		t.Errorf("known are %v, want %v", known, want)
	}
	got := absent(known, gone)
	slices.SortFunc(got, netip.AddrPort.Compare)
	if want := []netip.AddrPort{at("10.0.1.3"), at("10.0.1.6"), at("[fd00::3]")}; !slices.Equal(got, want) {
		t.Errorf("missing are %v, want %v", got, want)
	}
}
