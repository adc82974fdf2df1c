package xfr

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Times of the notifier.
const (
	// coalesce is the least time between two serials of one zone that are announced.
	coalesce = time.Second
	// firstRetry doubles with every try up to lastRetry. RFC 1996 §3.6 suggests 60 s and five tries; a rack's zone wants to
	// be quicker, and a secondary that was away for an hour to be found again.
	firstRetry, lastRetry = 500 * time.Millisecond, 5 * time.Minute
	// firstAnswer doubles likewise up to lastAnswer: how long a secondary gets to answer.
	firstAnswer, lastAnswer = 500 * time.Millisecond, 5 * time.Second
	// pullTime is what a secondary that acknowledged gets to pull before it is looked at.
	pullTime = time.Second
	// acknowledged is after how many tries a secondary that acknowledges and does not say which serial it has is left
	// alone; one that says an older serial is told on, ever more slowly.
	acknowledged = 6
)

// Notice is a zone with those who are told of its changes.
type Notice struct {
	Zone Zone
	// To are the secondaries; a port is never 0. Source, when valid, is the address that messages come from.
	To     []netip.AddrPort
	Source func(to netip.Addr) netip.Addr
	// Unsigned leaves the messages without TSIG.
	Unsigned bool
}

// NotifierOptions configure a Notifier.
type NotifierOptions struct {
	// Key signs the messages.
	Key Key
	// Notices returns who is to be told of what now. It is called by Run alone, often, and must be quick.
	Notices func() []Notice
}

// Notifier tells secondaries of new serials (RFC 1996) until they have them. It starts nothing before Run.
type Notifier struct {
	key     Key
	notices func() []Notice
	// exchange sends a message from the address, if valid, and returns the answer within the time given.
	exchange func(ctx context.Context, m *dns.Msg, from netip.Addr, to netip.AddrPort, within time.Duration) (*dns.Msg, error)
	// prompts holds one signal to look again.
	prompts chan struct{}

	mu sync.Mutex
	// zones is guarded by mu.
	zones map[string]*announced
}

// announced is a zone's state.
type announced struct {
	serial uint32
	soa    *dns.SOA
	since  time.Time
	// to is in the order of the notice.
	to []*secondary
}

// NewNotifier returns a notifier.
func NewNotifier(o NotifierOptions) *Notifier {
	n := &Notifier{key: o.Key, notices: o.Notices, prompts: make(chan struct{}, 1), zones: map[string]*announced{}}
	n.exchange = n.overUDP
	return n
}

// Changed says that a zone or the list of secondaries may have changed. It never blocks.
func (n *Notifier) Changed() {
	select {
	case n.prompts <- struct{}{}:
	default:
	}
}

// Pulled says that the secondary at an address was seen to have a serial of a zone, whatever its port.
func (n *Notifier) Pulled(origin string, at netip.Addr, serial uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	z := n.zones[origin]
	if z == nil {
		return
	}
	for _, s := range z.to {
		if s.addr.Addr() == at.Unmap() {
			s.saw(serial, z.serial)
		}
	}
}

// Run tells the secondaries until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	var tries sync.WaitGroup
	defer tries.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.prompts:
		case <-timer.C:
		}
		due, next := n.look(time.Now())
		for _, t := range due {
			tries.Go(func() {
				n.finish(t, n.try(ctx, t))
				n.Changed()
			})
		}
		timer.Reset(next)
	}
}

// idle is how long the notifier waits when nothing is to be done; every change prompts it.
const idle = time.Hour

// look takes over the zones as they are and returns what to send now, and when to look again.
func (n *Notifier) look(now time.Time) (due []try, next time.Duration) {
	notices := n.notices()
	n.mu.Lock()
	defer n.mu.Unlock()
	next = idle
	known := map[string]bool{}
	for _, notice := range notices {
		known[notice.Zone.Origin()] = true
		z, wait := n.update(notice, now)
		if wait > 0 {
			next = min(next, wait)
		}
		if z == nil {
			continue
		}
		for _, s := range z.to {
			switch wait := s.due.Sub(now); {
			case s.busy || s.settled:
			case wait > 0:
				next = min(next, wait)
			default:
				s.busy = true
				due = append(due, newTry(notice, z, s))
			}
		}
	}
	for origin := range n.zones {
		if !known[origin] {
			delete(n.zones, origin)
		}
	}
	return due, next
}

// update brings a zone's state up to date. wait says when a newer serial may be announced; 0 for no such serial.
func (n *Notifier) update(notice Notice, now time.Time) (z *announced, wait time.Duration) {
	z = n.zones[notice.Zone.Origin()]
	v := notice.Zone.Version()
	if v == nil {
		return z, 0
	}
	soa := v.SOA()
	switch {
	case z == nil:
		z = &announced{serial: soa.Serial, soa: soa, since: now}
		n.zones[notice.Zone.Origin()] = z
	case z.serial == soa.Serial:
	case now.Sub(z.since) < coalesce:
		wait = coalesce - now.Sub(z.since)
	default:
		z.serial, z.soa, z.since = soa.Serial, soa, now
		for _, s := range z.to {
			s.begin(now)
			// It may have fetched this serial when another primary told it.
			s.settled = s.pulled != nil && !older(*s.pulled, soa.Serial)
		}
	}
	old := z.to
	z.to = nil
	for _, to := range notice.To {
		to = unmap(to)
		i := slices.IndexFunc(old, func(s *secondary) bool { return s.addr == to })
		switch {
		case i >= 0:
			z.to = append(z.to, old[i])
		case !slices.ContainsFunc(z.to, func(s *secondary) bool { return s.addr == to }):
			z.to = append(z.to, &secondary{addr: to, due: now})
		}
	}
	return z, wait
}
