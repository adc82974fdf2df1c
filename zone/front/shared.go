package front

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Shared is what all readers of a front share. Its parts are safe for concurrent use.
type Shared struct {
	// Answerer, Cookies and Limiter are set by NewShared, then read-only.
	Answerer Answerer
	Cookies  *Cookies
	Limiter  *Limiter
	// Clock is the time of cookies and rate limits. Readers refresh it, once per batch of packets.
	Clock *Clock

	settings atomic.Pointer[Settings]

	mu  sync.Mutex
	all []*counters // guarded by mu; grows only
}

// Settings are what an operator may change while the front runs. They are immutable once set.
type Settings struct {
	// NSID identifies this server to those who ask (RFC 5001): 1 to MaxNSID octets; a longer one is not sent.
	NSID []byte
	// Bypass, when it is not empty, is why the full server is to answer every query.
	Bypass string
	// RatePerSecond is how many answers of one kind a network gets per second over UDP, 0 for no limit; see Limiter.
	RatePerSecond int
	// Exempt are the networks without a limit; loopback has none either.
	Exempt []netip.Prefix
}

// NewShared returns the shared parts of a front that answers from a: without settings, secrets and limit. It starts
// nothing.
func NewShared(a Answerer) *Shared {
	s := &Shared{Answerer: a, Clock: new(Clock)}
	s.Clock.Set(time.Now())
	s.Cookies, s.Limiter = NewCookies(s.Clock), NewLimiter(s.Clock)
	s.settings.Store(&Settings{})
	return s
}

// Sibling returns the shared parts of a front on another address of the same server: with settings and counters of its
// own, and with the answers, the clock, the secrets and the rate limit of s.
func (s *Shared) Sibling() *Shared {
	o := &Shared{Answerer: s.Answerer, Clock: s.Clock, Cookies: s.Cookies, Limiter: s.Limiter}
	o.settings.Store(s.settings.Load())
	return o
}

// SetSettings swaps the settings.
func (s *Shared) SetSettings(set Settings) {
	if len(set.NSID) > MaxNSID {
		set.NSID = nil
	}
	s.Limiter.Set(set.RatePerSecond, set.Exempt)
	s.settings.Store(&set)
}

// Settings returns the settings in use: never nil, not to be changed.
func (s *Shared) Settings() *Settings { return s.settings.Load() }

// Clock is a coarse clock that its readers need not ask the kernel for. Its zero value is 1970.
type Clock struct{ unix atomic.Int64 }

// Set tells the time. Owners of readers call it, at least once per second while packets come.
func (c *Clock) Set(now time.Time) {
	// Most calls change nothing, and a store would take the cache line from every other reader.
	if unix := now.Unix(); unix != c.unix.Load() {
		c.unix.Store(unix)
	}
}

// now returns unix seconds modulo 2³², as cookies have them (RFC 9018 §4.3).
func (c *Clock) now() uint32 { return uint32(c.unix.Load()) }
