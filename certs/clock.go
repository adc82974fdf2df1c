package certs

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// clockGrace is how long an unsynchronised clock that is behind a certificate found on disk is given to catch up.
	clockGrace = time.Minute
	// stepEvery is how often the wall clock is compared with the monotonic one, and stepSize what counts as a step.
	stepEvery = 5 * time.Second
	stepSize  = 10 * time.Second
)

// clock judges the wall clock. Machines boot with clocks at 1970 or hours off, and no certificate may be issued then.
type clock struct {
	now     func() time.Time
	synced  func() bool
	created time.Time // of the bundle
	started time.Time // monotonic
	grace   time.Duration

	lastWall, lastMono time.Time
}

// fault says why the clock must be wrong, or returns nil. newest is the latest NotBefore among the certificates that
// an earlier run left: a clock before it was wrong then or is wrong now. If time service says it is right now, or
// the grace period is over, then it was wrong then.
func (c *clock) fault(now, newest time.Time) error {
	const hint = "set the clock, for example with: chronyc makestep"
	if now.Before(c.created.Add(-clockTolerance)) {
		return withHint(hint, "the clock says %s, but the bundle was made on %s: waiting for the clock to be set",
			now.UTC().Format(time.RFC3339), c.created.UTC().Format(time.RFC3339))
	}
	if now.Before(newest) && !c.synced() && time.Since(c.started) < c.grace {
		return withHint(hint, "the clock says %s, which is before the node's own certificates of %s, and it is not synchronised: waiting up to %s",
			now.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339), c.grace)
	}
	return nil
}

// stepped says whether the wall clock was set since the last call. Timers are monotonic and do not notice.
func (c *clock) stepped() bool {
	wall, mono := c.now().Round(0), time.Now() // Round drops the monotonic reading
	first := c.lastMono.IsZero()
	drift := wall.Sub(c.lastWall) - mono.Sub(c.lastMono)
	c.lastWall, c.lastMono = wall, mono
	return !first && drift.Abs() > stepSize
}

// ClockSynced reports whether a time service disciplines this machine's clock.
func ClockSynced() bool { return kernelSynced() }

// kernelSynced asks the kernel whether a time service disciplines the clock (adjtimex(2)).
func kernelSynced() bool {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unix.STA_UNSYNC == 0
}
