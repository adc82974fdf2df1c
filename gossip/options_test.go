package gossip

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestOptionsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		edit func(*Options)
		want string
	}{
		{func(o *Options) { o.Domain = "." }, `domain ""`},
		{func(o *Options) { o.Domain = strings.Repeat("a", 256) }, "want 1 to 255 octets"},
		{func(o *Options) { o.Name = "Infra.0" }, `name "Infra.0"`},
		{func(o *Options) { o.Boot = "1" }, `boot "1"`},
		{func(o *Options) { o.Addrs = nil }, "no address"},
		{func(o *Options) { o.Addrs = addrs("224.0.0.1") }, "address 224.0.0.1"},
		{func(o *Options) { o.Addrs = addrs("::") }, "address ::"},
		{func(o *Options) { o.Port = 0 }, "port 0"},
		{func(o *Options) { o.Timing.Rejoin = 0 }, "below 1 ms"},
		{func(o *Options) { o.Timing.ProbeTimeout = o.Timing.Probe / 2 }, "below half of the probe interval"},
		{func(o *Options) { o.Timing.Suspicion = 0 }, "multipliers"},
		{func(o *Options) { o.Keys = nil }, "no key"},
		{func(o *Options) { o.Keys = [][]byte{keyA, keyB[:31]} }, "key 2 has 31 octets"},
	} {
		o := options("infra0")
		c.edit(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "gossip: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

// However the keys change, the ring holds what it was told, in that order, and readers see whole rings.
func TestSetKeys(t *testing.T) {
	keys := map[byte][]byte{}
	for _, k := range []byte("abcde") {
		keys[k] = bytes.Repeat([]byte{k}, 32)
	}
	g, err := New(Options{Domain: "d", Name: "n", Boot: bootA, Addrs: addrs("127.0.0.1"), Port: 1, Keys: [][]byte{keys['a']}})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				for _, k := range g.keyring.GetKeys() {
					if len(k) != 32 || bytes.Count(k, k[:1]) != 32 {
						t.Errorf("a torn key: %q", k)
					}
				}
			}
		}
	})
	for _, want := range []string{"ab", "ba", "b", "bc", "cbd", "ad", "d", "abcde", "edcba", "c", "cc"} {
		var ring [][]byte
		for _, k := range []byte(want) {
			ring = append(ring, keys[k])
		}
		if err := g.SetKeys(ring); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		got := ""
		for _, k := range g.keyring.GetKeys() {
			got += string(k[:1])
		}
		if want == "cc" {
			want = "c"
		}
		if got != want {
			t.Errorf("the ring is %s, want %s", got, want)
		}
	}
	close(stop)
	readers.Wait()
	before := slices.Clone(g.keyring.GetKeys())
	for _, wrong := range [][][]byte{nil, {keys['a'], {1}}} {
		if err := g.SetKeys(wrong); err == nil || !slices.EqualFunc(before, g.keyring.GetKeys(), bytes.Equal) {
			t.Errorf("%x: got %v, want an error and no change", wrong, err)
		}
	}
}

// A node whose addresses are taken, or not there yet, takes part as soon as one is, and listens on the others later.
func TestListenTries(t *testing.T) {
	t.Parallel()
	first := start(t, options("infra0"))
	o := options("infra1", first.o.at())
	o.Addrs = append(o.Addrs, ownAddr())
	o.Timing.Rejoin = 200 * time.Millisecond
	var taken []net.PacketConn
	for _, a := range o.Addrs {
		conn, err := net.ListenPacket("udp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn)
	}
	n := start(t, o)
	wait(t, "a line says that it cannot listen", func() bool {
		return n.logged(zap.ErrorLevel, fmt.Sprintf("listen udp %s", netip.AddrPortFrom(o.Addrs[0], port))) == 1
	})
	if err := taken[1].Close(); err != nil {
		t.Fatal(err)
	}
	meet(t, first, n)
	if p, _ := first.peer(n.own); p.Addr.Addr() != o.Addrs[1] {
		t.Errorf("the others have %s, want the address that was free", p.Addr)
	}
	if err := taken[0].Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, "it listens on the other address too", func() bool {
		conn, err := net.Dial("tcp", netip.AddrPortFrom(o.Addrs[0], port).String())
		return err == nil && conn.Close() == nil
	})
}

func TestTimings(t *testing.T) {
	last := Timing{}
	for _, timing := range []Timing{Rack(), Metro(), WAN()} {
		if err := timing.check(); err != nil {
			t.Error(err)
		}
		if timing.Probe <= last.Probe || timing.ProbeTimeout <= last.ProbeTimeout || timing.Gossip <= last.Gossip || timing.Stream <= last.Stream {
			t.Errorf("%+v is not slower than %+v", timing, last)
		}
		last = timing
	}
}
