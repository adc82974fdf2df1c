package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

const (
	// dnssecSync is how often the other nodes are asked for their state. It bounds how long two nodes sign differently.
	dnssecSync = time.Second
	// dnssecLook is how often the name servers and the parent are asked. Waits are counted in hours.
	dnssecLook = time.Minute
	// dnssecSoon is how often they are asked while some name server does not serve what this node does.
	dnssecSoon = 5 * time.Second
)

// dnssec owns the rack's signing state on this node: it merges what other nodes have, takes the steps that are due,
// keeps the result on disk, and makes the signer that the publisher uses.
type dnssec struct {
	domain, node, bundle string
	created              time.Time // the bundle's
	file                 string
	ring                 *sign.Ring
	log                  *zap.Logger
	now                  func() time.Time
	synced               func() bool
	// others lists the other nodes; ask reaches one of them, once ready is closed.
	others func() []string
	ask    func(ctx context.Context, node string) (dnssecAnswer, error)
	ready  <-chan struct{}
	// look asks every name server and the parent.
	look func(ctx context.Context) sign.View
	// changed is called after the signer changed, with mu held; it must not block.
	changed func()

	// prompts have it look at once, syncs ask the other nodes at once.
	prompts, syncs prompt
	// watch is owned by watchRun.
	watch sign.Watch
	// current is what the publisher signs with; nil while the zone is not signed.
	current atomic.Pointer[sign.Signer]

	mu sync.Mutex // guards the rest
	// state is on disk, unless saving failed.
	state sign.State
	// known says that a blank state is not for want of a disk: there was a file, or some node told.
	known bool
	facts sign.Facts
	why   string
	// looked is when the last look began; prompted that the next one is not to wait.
	looked   time.Time
	prompted bool
	// saved says that state is on disk.
	saved bool
	// heard holds the other nodes' last answers; faults why something is not taken over or kept, by its source.
	heard  map[string]heard
	faults map[string]string
}

// heard is when a node answered, and how far its clock was ahead.
type heard struct {
	at    time.Time
	ahead time.Duration
	blank bool
}

// dnssecAnswer is what a node says of its state at GET /v1/dnssec.
type dnssecAnswer struct {
	Format int        `json:"format"`
	Bundle string     `json:"bundle"`
	Node   string     `json:"node"`
	Now    time.Time  `json:"now"`
	State  sign.State `json:"state"`
}

// blankDNSSEC is the state of a node that knows nothing.
func blankDNSSEC() sign.State { return sign.State{Format: sign.Format, Mode: sign.Off} }

// signer returns what the zone is signed with now; nil when it is not signed.
func (d *dnssec) signer() sign.Signer {
	if s := d.current.Load(); s != nil {
		return *s
	}
	return nil
}

// answer is what another node is told.
func (d *dnssec) answer() dnssecAnswer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dnssecAnswer{Format: sign.Format, Bundle: d.bundle, Node: d.node, Now: d.now(), State: d.state.Clone()}
}

// run merges and advances until ctx ends.
func (d *dnssec) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		// A node that lost its data answers without signatures until it has heard another: it asks as soon as it can.
		select {
		case <-d.ready:
			return every(ctx, dnssecSync, d.syncs, d.sync)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return every(ctx, dnssecSoon, d.prompts, d.advance) })
	return group.Wait()
}

// every calls do at once, then at each tick and each prompt, until ctx ends.
func every(ctx context.Context, period time.Duration, prompts <-chan struct{}, do func(context.Context)) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		do(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-prompts:
		case <-tick.C:
		}
	}
}

// sync asks every other node once and takes over what is newer.
func (d *dnssec) sync(ctx context.Context) {
	var group sync.WaitGroup
	for _, name := range d.others() {
		group.Go(func() {
			sent := d.now()
			a, err := d.ask(ctx, name)
			if err != nil {
				return // a node that is silent is the boot loop's to report
			}
			d.hear(name, a, sent)
		})
	}
	group.Wait()
	d.mu.Lock()
	d.settleLocked()
	// The own state again: the clock may have become plausible.
	err := d.adoptLocked(sign.Merge(d.state, d.state, d.clockLocked()), keepEvenUnsaved)
	d.mu.Unlock()
	d.report(ownFault, err)
}

// hear merges one answer to a question that was sent at that time.
func (d *dnssec) hear(name string, a dnssecAnswer, sent time.Time) {
	d.mu.Lock()
	now := d.now()
	middle := sent.Add(now.Sub(sent) / 2).Round(0) // Round drops the monotonic reading: clocks are compared
	d.heard[name] = heard{at: now, ahead: a.Now.Sub(middle), blank: a.State.Commands == 0}
	d.settleLocked()
	next := sign.Merge(d.state, a.State, d.clockLocked())
	err := d.adoptLocked(next, keepEvenUnsaved)
	if d.state.Equal(next) {
		err = nil // it is in use; that it is not on disk is for sync to report
	}
	d.mu.Unlock()
	d.report(name, err)
}

// settleLocked finds out whether a blank state is one: another node has a state, or every other node is blank as well.
func (d *dnssec) settleLocked() {
	all, told := true, false
	for _, name := range d.others() {
		h, ok := d.heard[name]
		all, told = all && ok && h.blank, told || ok && !h.blank
	}
	d.known = d.known || told || all
}

// advance looks at the name servers and the parent, and takes the step that is due.
func (d *dnssec) advance(ctx context.Context) {
	if !d.due() {
		return
	}
	v := d.look(ctx)
	if ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	c := d.clockLocked()
	v.Plausible, v.Commands = c.Plausible, d.state.Commands
	d.facts = d.watch.Observe(c.Now, v)
	next, why := sign.Advance(d.state, d.facts, c.Now)
	d.why = why
	before := d.state
	err := d.adoptLocked(next, onlySaved)
	after := d.state
	d.mu.Unlock()
	d.report(ownFault, err)
	if !after.Equal(before) {
		d.log.Info("signing moved on", zap.String("mode", string(after.Mode)), zap.Any("keys", after.Keys), zap.Uint32("epoch", after.Epoch))
	}
}

// due reports whether to look now, and notes that it is done.
func (d *dnssec) due() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if !d.state.Signs() || !d.prompted && !d.pendingLocked() && now.Sub(d.looked) < dnssecLook {
		return false
	}
	d.prompted, d.looked = false, now
	return true
}

// pendingLocked reports whether some name server was not seen to serve this state.
func (d *dnssec) pendingLocked() bool {
	if d.state.Mode == sign.GoingOff && d.facts.Deleting.IsZero() {
		return true
	}
	return slices.ContainsFunc(d.state.Keys, func(k sign.KeyState) bool {
		return d.facts.Published[k.Tag].IsZero() || k.Phase == sign.Active && d.facts.Signing[k.Tag].IsZero()
	})
}

// keys are the numbers of the published keys.
func (d *dnssec) keys() (out []uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.state.Keys {
		out = append(out, k.Number)
	}
	return out
}

// ownFault is the source of faults that no other node has a part in.
const ownFault = ""

// report logs an error when it is a new one of its source, and keeps it for status.
func (d *dnssec) report(source string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	d.mu.Lock()
	is := d.faults[source]
	d.faults[source] = text
	d.mu.Unlock()
	if text != is && err != nil {
		d.log.Error("the signing state is not what it should be", append(errorFields(err), zap.String("from", source))...)
	}
}

// checkDNSSEC makes sure that the answer is of the node that was asked, and one that this version can read.
func checkDNSSEC(a dnssecAnswer, node, bundle string) error {
	if a.Node != node || a.Bundle != bundle {
		return fmt.Errorf("%s answered as %s of bundle %s, expected %s of bundle %s", node, a.Node, a.Bundle, node, bundle)
	}
	if a.Format > sign.Format {
		return fmt.Errorf("%s speaks format %d of the signing state, this node up to %d: upgrade this node", node, a.Format, sign.Format)
	}
	return a.State.Check()
}
