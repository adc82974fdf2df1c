package srvboot

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/google/uuid"
	"go.uber.org/zap"
)

// BootOptions are what a Boot works with. Home, Peers, Storage, Launcher and Log are needed.
type BootOptions struct {
	// Home is asked at every step, so a reloaded configuration or a name heard of counts at once.
	Home     func() Home
	Peers    Peers
	Storage  Storage
	Launcher Launcher
	// Preflight returns the failed checks with their reasons; nil stands for none. It runs beside the loop.
	Preflight func(ctx context.Context) []string
	// Publish puts the view into the zone. It returns before the member is spawned: SRV comes first. An error keeps
	// a member from its first start.
	Publish func(roster.View) error
	// State lets the node add its fields to a state that is about to be sent; it may be called at once by many.
	State func(*State)
	// News is called when the list has changed, and it is for this node to have those asked that do not know; nil wants no call.
	// It must not block.
	News func()
	// DiskReplaced is the operator's word that a missing or different etcd device is meant.
	DiskReplaced bool
	// Moved is the operator's word that the data came from another machine, where nothing runs on it any more.
	Moved  bool
	Log    *zap.Logger
	Timing Timing
}

// Boot decides how this node's member starts, takes part in its cluster's birth, and keeps the member running.
type Boot struct {
	o       BootOptions
	events  chan func()
	hints   chan hint
	prompt  chan struct{}
	changed chan struct{}
	ended   chan struct{}
	said    atomic.Pointer[said]
	report  atomic.Pointer[Report]
	work    sync.WaitGroup

	// Everything below belongs to the goroutine of Run.
	ctx     context.Context
	began   time.Time
	run     string
	home    Home
	disk    DiskFacts
	diskErr error
	diskAt  time.Time
	unsure  bool // a marker write failed: what is on disk may not be durable
	// incomplete says that the marker lacks the genesis that others know, and cannot be written.
	incomplete bool
	peers      map[string]*peer
	namesake   peer
	preflight  preflight
	plan       Plan
	since      time.Time
	told       map[string]bool // what was logged of this row and action, by reason without its numbers
	stirred    time.Time
	round      *Round
	ballot     Ballot
	moved      time.Time
	accepted   time.Time
	retry      backoff
	member     member
	deaths     []Death
	sight
	list      listDate
	seenAt    time.Time // when what was seen was last written, indexAt when indices were last looked at
	indexAt   time.Time
	reached   MemberState // of the own member at indexAt
	wake      time.Time
	steward   steward
	spreading *spreading           // nil while no word waits
	admission *Admission           // the last learner that this node let in
	welcomed  map[string]time.Time // by node, since when a person lets it in
	removed   bool                 // the member of this data ended once because its cluster removed it
}

// said is what HandleState answers from: a state, and what is remembered of the others: when a member of theirs was
// last heard to run, which counts from since.
type said struct {
	state State
	seen  map[string]Sighting
	ran   map[string]time.Time
	since time.Time
}

// NewBoot returns a Boot that does nothing until Run.
func NewBoot(o BootOptions) *Boot {
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming()
	}
	b := &Boot{
		o: o, events: make(chan func()), hints: make(chan hint, 64), prompt: make(chan struct{}, 1),
		changed: make(chan struct{}, 1), ended: make(chan struct{}), run: uuid.NewString(), peers: map[string]*peer{}, welcomed: map[string]time.Time{},
	}
	b.began = time.Now()
	b.home = o.Home()
	b.diskErr = errUnread
	b.said.Store(&said{state: b.selfState()})
	b.report.Store(&Report{State: b.said.Load().state, View: roster.View{Cluster: b.home.SrvName}})
	return b
}

var errUnread = errors.New("its disk was not read yet")

// Run gathers, decides and executes until ctx ends, stops the member and returns. It is called once. The order at the
// end: the member stops, the goroutines that ask others end, then waiting handlers are released.
func (b *Boot) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ctx = ctx
	now := time.Now()
	b.began, b.stirred, b.moved, b.since, b.indexAt = now, now, now, now, now
	b.gather()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		b.step()
		timer.Reset(max(time.Millisecond, time.Until(b.wake)))
		b.await(timer.C)
	}
	err := b.stopMember()
	cancel()
	close(b.ended)
	b.work.Wait()
	return err
}

// await sleeps until something happened, and takes in all that did.
func (b *Boot) await(timer <-chan time.Time) {
	select {
	case <-b.ctx.Done():
	case e := <-b.events:
		e()
	case h := <-b.hints:
		b.hinted(h)
	case <-b.prompt:
		b.askAllNow()
		b.preflight.valid = false
		b.diskAt = time.Time{}
		b.retry.reset()
	case <-b.member.done():
		b.died()
	case <-b.member.changed():
		b.reported()
	case <-timer:
	}
	b.alsoTake()
}

// maxTogether bounds how many events are taken in before a step.
const maxTogether = 64

// alsoTake takes in what else has happened: a step looks at everything that is known, which is most of what an idle node of a large
// rack does.
func (b *Boot) alsoTake() {
	for range maxTogether {
		select {
		case e := <-b.events:
			e()
		case h := <-b.hints:
			b.hinted(h)
		default:
			return
		}
	}
}

// step does everything that is due, and says when it wants to be called again at the latest.
func (b *Boot) step() {
	now := time.Now()
	b.wake = now.Add(b.o.Timing.Slow)
	b.home = b.o.Home()
	b.ask(now)
	b.check(now)
	if !b.member.runs() && now.Sub(b.diskAt) >= b.o.Timing.Slow {
		b.gather()
	}
	for range maxMoves {
		if !b.advance() {
			break
		}
	}
	b.completeGenesis()
	b.look()
	b.attend(now)
	b.tend(now)
	b.remember(now)
	b.publishReport()
}

// maxMoves bounds the decisions of one step; a birth needs four.
const maxMoves = 8

// at asks to be woken at a time, if that is sooner than what is planned.
func (b *Boot) at(t time.Time) {
	if t.Before(b.wake) {
		b.wake = t
	}
}

// post runs f on the goroutine of Run.
func (b *Boot) post(ctx context.Context, f func()) bool {
	select {
	case b.events <- f:
		return true
	case <-ctx.Done():
		return false
	case <-b.ended:
		return false
	}
}

// Prompt makes the loop look again now.
func (b *Boot) Prompt() {
	select {
	case b.prompt <- struct{}{}:
	default:
	}
}

// Ask has a node asked at once, because something about it is news. It returns when the loop has taken it in, or ctx ends.
func (b *Boot) Ask(ctx context.Context, node string) {
	b.post(ctx, func() {
		if p := b.peers[node]; p != nil {
			p.askNow()
		}
	})
}

// Changed receives after the report changed; it holds one signal.
func (b *Boot) Changed() <-chan struct{} { return b.changed }

// Report returns the latest report. It shares memory with later ones: do not write to it.
func (b *Boot) Report() Report { return *b.report.Load() }

// gather reads the disk anew. A marker that is gone, or that was not durable, is not passed over: the first starts a
// new run, so that promises asked of the lost disk are not given by this one.
func (b *Boot) gather() {
	before := b.disk.Marker
	b.diskAt = time.Now()
	d, err := b.o.Storage.Facts()
	b.diskErr = err
	if err != nil {
		b.o.Log.Error("cannot read this node's memory", zap.Error(err))
		return
	}
	b.disk = d
	if before != nil && d.Marker == nil {
		b.newRun()
	}
	if b.unsure && d.Marker != nil {
		b.save(*d.Marker)
	}
	b.say()
}

func (b *Boot) newRun() {
	b.run = uuid.NewString()
	b.round = nil
}

// save makes a marker durable, then takes it as this node's. After a failure the disk is read again, and what is read
// is made durable before it is used.
func (b *Boot) save(m Marker) bool {
	if err := b.o.Storage.SaveMarker(m); err != nil {
		b.o.Log.Error("cannot write genesis.json; nothing is promised, accepted or started", zap.Error(err))
		b.unsure = true
		b.diskAt = time.Time{}
		return false
	}
	b.unsure = false
	if m.Phase == Accepted && (b.disk.Marker == nil || b.disk.Marker.Phase != Accepted) {
		b.accepted = time.Now()
	}
	b.disk.Marker = &m
	b.say()
	return true
}

// facts are those that Decide looks at.
func (b *Boot) facts() Facts {
	f := Facts{
		Now: time.Now(), Home: b.home, Disk: b.disk, Run: b.run, Began: b.began, Namesake: b.namesake.Answer,
		Peers: make(map[string]Answer, len(b.peers)), Preflight: b.preflight.failed,
		DiskReplaced: b.o.DiskReplaced, Moved: b.o.Moved, ToldRemoved: b.removed,
	}
	if !b.preflight.valid && b.preflight.at.IsZero() {
		f.Preflight = []string{"the checks have not run yet"}
	}
	if b.o.Preflight == nil {
		f.Preflight = nil
	}
	for name, p := range b.peers {
		f.Peers[name] = p.Answer
	}
	return f
}
