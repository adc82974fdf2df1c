package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// minInterval is how long a set is taken for true at least, whatever its TTL: a resolver may hand out records that have none left.
	minInterval = time.Second
	// maxInterval is how long at most. Records that people write have TTLs of minutes and hours; to ask a resolver again costs nothing
	// while it has them in its cache.
	maxInterval = 30 * time.Second
	// maxBackoff bounds the time between two lookups that fail; it begins with minInterval and doubles.
	maxBackoff = 8 * time.Second
	// lookupTimeout bounds the lookups of all sources together.
	lookupTimeout = 5 * time.Second
	// remindEvery is how often it is said again that there is nothing to go to yet.
	remindEvery = 30 * time.Second
)

// Answer is what a source says now.
type Answer struct {
	// Endpoints are empty when there are none for certain.
	Endpoints []Endpoint
	// TTL is how long the answer holds.
	TTL time.Duration
}

// Source is where endpoints come from: a service in DNS, or the command line.
type Source struct {
	// Name is the source for people; Hint is what they do when it has nothing.
	Name, Hint string
	// Lookup asks it. An error means that nothing is known; an answer without endpoints that there are none.
	Lookup func(ctx context.Context) (Answer, error)
}

// Follower keeps the set of endpoints up to date. The set is never emptied: a source that fails keeps its last good answer, and
// when all of them together have nothing, the set stays as it is.
type Follower struct {
	log     *zap.Logger
	sources []Source
	prompts chan struct{} // of one slot
	fails   atomic.Int64  // lookups that failed or were empty

	// owned by Run: what each source said last, whether the last refresh failed, and when that was said
	last    []Answer
	failing bool
	said    time.Time

	mu      sync.Mutex
	set     []Endpoint    // guarded by mu; replaced, never changed
	changed chan struct{} // guarded by mu; closed when set is replaced
}

// NewFollower makes a follower of the sources, whose answers are put together in their order. seed is the set until they answer.
func NewFollower(log *zap.Logger, seed []Endpoint, sources ...Source) *Follower {
	return &Follower{log: log, sources: sources, set: seed, last: make([]Answer, len(sources)), prompts: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Set returns the endpoints, empty until some are found, and a channel that is closed when they change. The slice is shared; do
// not change it.
func (f *Follower) Set() ([]Endpoint, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set, f.changed
}

// Prompt makes the follower ask soon, as after a failed dial: at once, but not twice within a second.
func (f *Follower) Prompt() {
	select {
	case f.prompts <- struct{}{}:
	default: // one is due already
	}
}

// Run follows the sources until ctx ends. It returns nil.
func (f *Follower) Run(ctx context.Context) error {
	backoff := minInterval
	for ctx.Err() == nil {
		asked := time.Now()
		hold, err := f.refresh(ctx)
		if ctx.Err() != nil {
			break
		}
		f.report(err)
		if err == nil {
			backoff = minInterval
		} else {
			hold, backoff = backoff, min(2*backoff, maxBackoff)
		}
		if f.sleep(ctx, hold, true) {
			f.sleep(ctx, minInterval-time.Since(asked), false)
		}
	}
	return nil //nolint:nilerr // the error was reported, and ctx has ended
}

// sleep waits for a time, or for a prompt if it may be cut short, and says whether it was.
func (f *Follower) sleep(ctx context.Context, d time.Duration, prompted bool) bool {
	prompts := f.prompts
	if !prompted {
		prompts = nil
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	case <-prompts:
		return true
	}
	return false
}

// refresh asks every source and publishes the set if it changed. It returns how long the answers hold; an error says why the set
// is older than that.
func (f *Follower) refresh(ctx context.Context) (hold time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	answers, errs := make([]Answer, len(f.sources)), make([]error, len(f.sources))
	var wg sync.WaitGroup
	for i, s := range f.sources {
		wg.Go(func() { answers[i], errs[i] = s.Lookup(ctx) })
	}
	wg.Wait()
	old, _ := f.Set()
	hold = maxInterval
	var set []Endpoint
	var empty []string
	for i, a := range answers {
		if errs[i] == nil {
			f.last[i] = a
			hold = min(hold, max(a.TTL, minInterval))
			empty = append(empty, f.sources[i].Name)
		}
		for _, e := range f.last[i].Endpoints {
			set = merge(set, e, old)
		}
	}
	err = errors.Join(errs...)
	switch {
	case len(set) > 0:
		f.publish(set)
	case err == nil:
		err = fmt.Errorf("no endpoint at %s", strings.Join(empty, " or "))
	}
	var lost addressError
	for _, e := range set {
		if !e.Known() {
			lost = append(lost, e.Host)
		}
	}
	if len(lost) > 0 {
		err = errors.Join(err, lost)
	}
	return hold, err
}

// addressError is hosts of endpoints that never had an address.
type addressError []string

func (e addressError) Error() string { return "no address is known of " + strings.Join(e, ", ") }

// Hint is what tells why.
func (e addressError) Hint() string { return "dig " + e[0] }

// merge adds an endpoint to the set unless it is there: a cluster may publish the same host as a TLS service and as a plain one. An
// endpoint whose addresses could not be looked up keeps those that it had.
func merge(set []Endpoint, e Endpoint, old []Endpoint) []Endpoint {
	named := func(o Endpoint) bool { return o.Name() == e.Name() }
	if slices.ContainsFunc(set, named) {
		return set
	}
	if i := slices.IndexFunc(old, named); i >= 0 && (len(e.Addrs) == 0 || sameAddrs(e.Addrs, old[i].Addrs)) {
		e.Addrs = old[i].Addrs
	}
	return append(set, e)
}

// sameAddrs reports whether two lists hold the same addresses: name servers shuffle them.
func sameAddrs(a, b []netip.Addr) bool {
	return slices.Equal(slices.SortedFunc(slices.Values(a), netip.Addr.Compare), slices.SortedFunc(slices.Values(b), netip.Addr.Compare))
}

func (f *Follower) publish(set []Endpoint) {
	slices.SortStableFunc(set, func(a, b Endpoint) int { return strings.Compare(a.Name(), b.Name()) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.EqualFunc(set, f.set, same) {
		return
	}
	f.log.Info("endpoints", zap.Strings("now", names(set)), zap.Strings("before", names(f.set)))
	f.set = set
	close(f.changed)
	f.changed = make(chan struct{})
}

// report says once that lookups fail, and once that they are good again; until there is an endpoint to go to, now and then.
func (f *Follower) report(err error) {
	set, _ := f.Set()
	hint := f.sources[0].Hint
	if lost := (addressError)(nil); errors.As(err, &lost) {
		hint = lost.Hint()
	}
	switch {
	case err == nil && f.failing:
		f.log.Info("the lookup is good again", zap.Strings("endpoints", names(set)))
	case err != nil && !slices.ContainsFunc(set, Endpoint.Known) && (!f.failing || time.Since(f.said) >= remindEvery):
		f.log.Warn("no endpoint is known yet; connections wait", zap.Error(err), zap.String("hint", hint))
		f.said = time.Now()
	case err != nil && !f.failing:
		f.log.Warn("the lookup fails; the endpoints stay as they are", zap.Error(err), zap.Strings("endpoints", names(set)), zap.String("hint", hint))
	}
	if err != nil {
		f.fails.Add(1)
	}
	f.failing = err != nil
}

func names(set []Endpoint) []string {
	out := make([]string, len(set))
	for i, e := range set {
		out[i] = e.Name()
	}
	return out
}
