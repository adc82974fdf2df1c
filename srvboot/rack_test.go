package srvboot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// rack is a simulated rack: nodes with disks in memory, a network that can be cut, and members that behave like
// etcd's: they have the IDs of their start and apply entries once a majority of them runs.
type rack struct {
	t     *testing.T
	log   *zap.Logger
	mu    sync.Mutex
	nodes map[string]*simNode
	cut   map[[2]string]bool // from, to
	rtt   time.Duration
	// born counts, by genesis ID, the members started as new from it.
	born     map[string]map[string]int
	clusters map[string]*simCluster
	removals []Change
	frozen   map[string]bool // nodes whose member nobody hears
	// changeTakes is how long a change is under way before etcd takes it, changing how many are.
	changeTakes time.Duration
	changing    int
	refuse      bool                   // etcd refuses removals and additions
	hung        map[string]MemberState // what members said before they were stopped
	stale       bool                   // members report the list as it was up to a tenth of a second ago
	refused     []Change               // steps that etcd did not take
}

// simNode is one machine.
type simNode struct {
	r      *rack
	name   string
	home   Home
	homeMu sync.Mutex
	disk   *simDisk
	boot   *Boot
	cancel context.CancelFunc
	done   chan struct{}
	events []string // publish and spawn, in order
	failed []string
	run    *simMember
	life   uint64
	// cutStarts is how many first starts are cut off, after the database is made and before the log.
	cutStarts int
	told      bool // its member was told once that it is removed
}

func simNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	return names
}

func simInitial(names ...string) []GenesisMember {
	var out []GenesisMember
	for _, n := range names {
		out = append(out, GenesisMember{Name: n, PeerURL: "https://" + n + ".rack1.example.com:2380"})
	}
	return out
}

func simHome(name string, names []string) Home {
	return Home{Bundle: "bundle-1", Node: name, Initial: simInitial(names...), Ask: slices.Clone(names), ClientPort: 2379,
		BirthUntil: time.Now().Add(7 * 24 * time.Hour)}
}

func newRack(t *testing.T, n int) *rack {
	r := &rack{t: t, log: zap.NewNop(), nodes: map[string]*simNode{}, cut: map[[2]string]bool{}, rtt: time.Millisecond,
		born: map[string]map[string]int{}, clusters: map[string]*simCluster{}, frozen: map[string]bool{}, hung: map[string]MemberState{}}
	if testing.Verbose() {
		r.log = zaptest.NewLogger(t)
	}
	for _, name := range simNames(n) {
		r.add(name, simHome(name, simNames(n)))
	}
	return r
}

func (r *rack) add(name string, h Home) *simNode {
	n := &simNode{r: r, name: name, home: h, disk: &simDisk{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[name] = n
	return n
}

// start boots nodes; without names, all of them.
func (r *rack) start(names ...string) {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(r.nodes))
	}
	for _, name := range names {
		r.nodes[name].start()
	}
}

func (n *simNode) start() {
	n.life++
	n.disk.newLife(n.life)
	boot := NewBoot(BootOptions{
		Home:      n.getHome,
		Peers:     &simPeers{r: n.r, from: n.name},
		Storage:   n.disk,
		Launcher:  n,
		Preflight: func(context.Context) []string { n.r.mu.Lock(); defer n.r.mu.Unlock(); return n.failed },
		Publish: func(v roster.View) error {
			n.r.mu.Lock()
			defer n.r.mu.Unlock()
			n.events = append(n.events, fmt.Sprintf("publish %s of %d", v.Knowledge, len(v.Members)))
			return nil
		},
		Log: n.r.log.Named(n.name),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.r.mu.Lock()
	n.boot, n.cancel, n.done = boot, cancel, done
	n.r.mu.Unlock()
	go func() {
		defer close(done)
		if err := boot.Run(ctx); err != nil {
			n.r.t.Errorf("%s: %v", n.name, err)
		}
	}()
}

// stop ends nodes; without names, all that run.
func (r *rack) stop(names ...string) {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(r.nodes))
	}
	for _, name := range names {
		n := r.nodes[name]
		if n.cancel == nil {
			continue
		}
		n.cancel()
		<-n.done
		r.mu.Lock()
		n.boot, n.cancel = nil, nil
		r.mu.Unlock()
	}
}

func (n *simNode) getHome() Home {
	n.homeMu.Lock()
	defer n.homeMu.Unlock()
	return n.home
}

func (n *simNode) edit(f func(*Home)) {
	n.homeMu.Lock()
	defer n.homeMu.Unlock()
	h := n.home
	h.Ask, h.Initial = slices.Clone(h.Ask), slices.Clone(h.Initial)
	f(&h)
	n.home = h
}

func (n *simNode) report() Report {
	n.r.mu.Lock()
	boot := n.boot
	n.r.mu.Unlock()
	if boot == nil {
		return Report{}
	}
	return boot.Report()
}

// simPeers is the network as one node sees it.
type simPeers struct {
	r    *rack
	from string
}

var errCut = errors.New("connect: no route to host")

// reach waits for the way there, and returns the node that answers.
func (p *simPeers) reach(ctx context.Context, to string) (*Boot, error) {
	select {
	case <-time.After(p.r.rtt / 2):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	n := p.r.nodes[to]
	if n == nil || n.boot == nil || p.r.cut[[2]string{p.from, to}] {
		return nil, errCut
	}
	return n.boot, nil
}

// news is what a node's questions say of its list; an onlooker has none.
func (r *rack) news(node string) News {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[node]; n != nil && n.boot != nil {
		return n.boot.News()
	}
	return News{}
}

func (p *simPeers) back() { time.Sleep(p.r.rtt / 2) }

func (p *simPeers) State(ctx context.Context, node string) (State, error) {
	b, err := p.reach(ctx, node)
	if err != nil {
		return State{}, err
	}
	defer p.back()
	return b.HandleState(p.from, p.r.news(p.from)), nil
}

func (p *simPeers) Prepare(ctx context.Context, node string, req Prepare) (Reply, error) {
	b, err := p.reach(ctx, node)
	if err != nil {
		return Reply{}, err
	}
	defer p.back()
	return b.HandlePrepare(ctx, p.from, req)
}

func (p *simPeers) Accept(ctx context.Context, node string, req Accept) (Reply, error) {
	b, err := p.reach(ctx, node)
	if err != nil {
		return Reply{}, err
	}
	defer p.back()
	return b.HandleAccept(ctx, p.from, req)
}

// within runs until cond holds, and fails after the deadline of simulated time.
func (r *rack) within(d time.Duration, what string, cond func() bool) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for time.Since(begin) < d {
		if cond() {
			return time.Since(begin)
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatalf("after %s: not %s\n%s", d, what, r.dump())
	return 0
}

// never runs for a time and fails if cond holds at any moment.
func (r *rack) never(d time.Duration, what string, cond func() bool) {
	r.t.Helper()
	every := 5 * time.Millisecond
	if raceDetector {
		every *= 10
	}
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(every) {
		if cond() {
			r.t.Fatalf("%s\n%s", what, r.dump())
		}
	}
}

func (r *rack) dump() string {
	out := ""
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		rep := r.nodes[name].report()
		out += fmt.Sprintf("%s: phase %s, row %d %s: %s (hint %s; for %v) view %s deaths %v\n", name, rep.State.Phase,
			rep.Plan.Row, rep.Plan.Action, rep.Plan.Reason, rep.Plan.Hint, rep.Plan.For, rep.View.Knowledge, rep.Deaths)
	}
	return out
}

// running reports whether these nodes' members serve, in one genesis.
func (r *rack) running(names ...string) func() bool {
	return func() bool {
		ids := map[string]bool{}
		for _, name := range names {
			rep := r.nodes[name].report()
			if rep.Member == nil || !rep.Member.Serving || rep.State.Phase != Running || rep.State.Accepted == nil {
				return false
			}
			ids[rep.State.Accepted.Genesis.ID] = true
		}
		return len(ids) == 1
	}
}

// oneBirth fails when more than one genesis ID was ever started as new.
func (r *rack) oneBirth() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.born) > 1 {
		r.t.Errorf("more than one genesis was born: %v", r.born)
	}
}

// inRack runs f in simulated time and stops the rack after it.
func inRack(t *testing.T, n int, f func(r *rack)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t, n)
		defer r.stop()
		defer r.oneBirth()
		f(r)
	})
}
