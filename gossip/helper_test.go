package gossip

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// within bounds every wait of these tests. It only says how long a failure takes.
const within = 2 * time.Minute

// port is the same everywhere; each node has its own loopback address.
const port = 2388

var (
	keyA, keyB = []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 32))
	// block is where this process's addresses begin: 127.x.y.0, at random, as other runs of these tests may go on beside.
	block, lastAddr = rand.Uint32N(1<<16-2<<8) + 1<<8, atomic.Uint32{}
)

// TestMain makes the test binary its own node: with the argument "node" it is one, to be killed and stopped.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "node" {
		if err := childMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// These tests wait nearly all of the time.
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// ownAddr returns a loopback address that no other node of these tests has.
func ownAddr() netip.Addr {
	n := 127<<24 | block<<8 + lastAddr.Add(1)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// patient is the Timing of tests that are not about deaths: news travel as in a rack, but it takes ten seconds at least
// to be dead, as the machine may be busy with other tests.
func patient() Timing {
	t := Rack()
	t.Probe, t.ProbeTimeout, t.Suspicion = time.Second, 400*time.Millisecond, 9
	return t
}

// quick makes it the Timing of racks again.
func quick(o *Options) { o.Timing = Rack() }

// options are those of a node that begins with these seeds.
func options(name string, seeds ...netip.AddrPort) Options {
	return Options{
		Domain: "rack1.example.com.", Name: name, Boot: uuid.NewString(), Addrs: []netip.Addr{ownAddr()}, Port: port,
		Keys: [][]byte{keyA}, Seeds: func(context.Context) []netip.AddrPort { return seeds }, Timing: patient(),
	}
}

// with returns the options as edit leaves them.
func (o Options) with(edit func(*Options)) Options {
	edit(&o)
	return o
}

func (o Options) at() netip.AddrPort { return netip.AddrPortFrom(o.Addrs[0], o.Port) }

// runNode is a Gossip that runs.
type runNode struct {
	*Gossip
	t    testing.TB
	logs *observer.ObservedLogs
	stop context.CancelFunc
	done chan struct{} // closed when Run has returned
}

// start runs a node until the test ends.
func start(t testing.TB, o Options) *runNode {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	o.Log = zap.New(core)
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &runNode{Gossip: g, t: t, logs: logs, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		if err := g.Run(ctx); err != nil {
			t.Errorf("%s: %v", o.Name, err)
		}
	}()
	t.Cleanup(n.end)
	return n
}

// end stops the node in order. It may be called again.
func (n *runNode) end() {
	n.stop()
	<-n.done
}

// rack starts n nodes, each of which is told of the first only, and waits until all know all.
func rack(t testing.TB, n int, edit func(*Options)) []*runNode {
	t.Helper()
	var nodes []*runNode
	var seeds []netip.AddrPort
	for i := range n {
		o := options(fmt.Sprintf("infra%d", i), seeds...)
		if edit != nil {
			edit(&o)
		}
		nodes = append(nodes, start(t, o))
		if i == 0 {
			seeds = append(seeds, o.at())
		}
	}
	t.Cleanup(func() { // before start's, which would end one after the other
		for _, n := range nodes {
			n.stop()
		}
	})
	meet(t, nodes...)
	return nodes
}

// meet waits until each node lists each other as alive.
func meet(t testing.TB, nodes ...*runNode) {
	t.Helper()
	for _, n := range nodes {
		for _, o := range nodes {
			if n != o {
				n.wait(o.own, Alive)
			}
		}
	}
}

// wait waits until the node says that of a run, and returns what else it says.
func (n *runNode) wait(node string, status Status) Peer {
	n.t.Helper()
	var p Peer
	wait(n.t, fmt.Sprintf("%s: %s is %s; has %s", n.o.Name, node, status, n), func() bool {
		var ok bool
		p, ok = n.peer(node)
		return ok && p.Status == status
	})
	return p
}

func (n *runNode) peer(node string) (Peer, bool) {
	for _, p := range n.Peers() {
		if p.nodeName() == node {
			return p, true
		}
	}
	return Peer{}, false
}

// String lists the peers.
func (n *runNode) String() string {
	var out []string
	for _, p := range n.Peers() {
		out = append(out, fmt.Sprintf("%s %s %s", p.nodeName(), p.Addr, p.Status))
	}
	return "[" + strings.Join(out, "; ") + "]"
}

// logged returns how many lines with that text the node logged at level or above it.
func (n *runNode) logged(level zapcore.Level, text string) int {
	return n.logs.Filter(func(e observer.LoggedEntry) bool {
		return level.Enabled(e.Level) && strings.Contains(e.Message+fmt.Sprint(e.ContextMap()), text)
	}).Len()
}

// wait looks until cond holds.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(within)
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		if cond() {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// holds looks whether cond holds all the time.
func holds(t testing.TB, what string, during time.Duration, cond func() bool) {
	t.Helper()
	end := time.After(during)
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		if !cond() {
			t.Fatalf("no longer: %s", what)
		}
		select {
		case <-tick.C:
		case <-end:
			tick.Stop()
			return
		}
	}
}

// child is a node that is a process of its own.
type child struct {
	Options
	own string
	cmd *exec.Cmd
}

// spawn runs a node as a process until the test ends.
func spawn(t testing.TB, o Options, seeds ...netip.AddrPort) *child {
	t.Helper()
	spec, err := json.Marshal(childSpec{o.Domain, o.Name, o.Boot, o.Addrs, o.Keys, seeds, o.Timing})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Options: o, own: o.Name + "." + o.Boot, cmd: exec.Command(self, "node", string(spec))}
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe() // closes when this process ends, however
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.signal(t, syscall.SIGKILL)
		_ = c.cmd.Wait()
		_ = stdin.Close()
	})
	return c
}

func (c *child) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil && c.cmd.ProcessState == nil {
		t.Errorf("%s: %v", s, err)
	}
}

type childSpec struct {
	Domain, Name, Boot string
	Addrs              []netip.Addr
	Keys               [][]byte
	Seeds              []netip.AddrPort
	Timing             Timing
}

// childMain is the process that spawn starts. It leaves on SIGTERM, and when its standard input closes.
func childMain(spec string) error {
	var s childSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	g, err := New(Options{
		Domain: s.Domain, Name: s.Name, Boot: s.Boot, Addrs: s.Addrs, Port: port, Keys: s.Keys, Timing: s.Timing,
		Seeds: func(context.Context) []netip.AddrPort { return s.Seeds },
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return g.Run(ctx)
}
