package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// firstRejoin is the time to the second try, doubled from then on.
	firstRejoin = 200 * time.Millisecond
	// rejoinAtOnce is how many addresses are tried at a time.
	rejoinAtOnce = 8
	// remindAfter is how often an address that cannot be reached is logged.
	remindAfter = time.Hour
)

// joiner reaches for every node that should be there and is not, for ever: memberlist by itself never talks again to a
// node that it has dropped, so a rack that was cut in two for longer than Timing.Forget would stay two.
type joiner struct {
	o     Options
	peers *table
	list  *memberlist.Memberlist
	t     *transport
	// remembered are addresses from earlier runs.
	remembered []netip.AddrPort
	// reminders keeps what goes wrong for long from filling the log.
	reminders *limiter
}

// run joins until ctx ends, and then returns as soon as the transport is shut down.
func (j *joiner) run(ctx context.Context) {
	limit := j.o.Timing.Rejoin
	for pause := min(firstRejoin, limit); ctx.Err() == nil; {
		if _, err := j.t.listen(); err != nil {
			j.remind(zapcore.WarnLevel, "listen", "some addresses cannot be listened on", err)
		}
		if !j.reach(ctx) {
			pause = limit
		}
		// A little less than the pause, so that nodes that start together do not try together.
		timer := time.NewTimer(pause - rand.N(pause/4))
		select {
		case <-ctx.Done():
		case <-timer.C:
			pause = min(2*pause, limit)
		case <-j.peers.lost:
			pause = min(firstRejoin, limit)
		}
		timer.Stop()
	}
}

// reach tries once to join by each address behind which no living peer is known, and reports whether there was any.
func (j *joiner) reach(ctx context.Context) (missing bool) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, rejoinAtOnce)
	known, gone := j.known()
	alone := len(known) == len(j.o.Addrs)
	tried := map[netip.AddrPort]bool{}
	try := func(addrs []netip.AddrPort) {
		for _, a := range addrs {
			if tried[a] {
				continue
			}
			tried[a], missing = true, true
			slots <- struct{}{}
			wg.Go(func() {
				j.joinBy(ctx, a, alone)
				<-slots
			})
		}
	}
	try(absent(known, append(gone, j.remembered...)))
	if j.o.Seeds != nil { // it may take its time, so the others are tried meanwhile
		ctx, cancel := context.WithTimeout(ctx, j.o.Timing.Rejoin)
		defer cancel()
		try(absent(known, j.o.Seeds(ctx)))
	}
	return missing
}

// joinBy tries one address. A node that has nobody says more loudly that it fails.
func (j *joiner) joinBy(ctx context.Context, a netip.AddrPort, alone bool) {
	if ctx.Err() != nil {
		return
	}
	if _, err := j.list.Join([]string{a.String()}); err != nil && ctx.Err() == nil {
		if inner := errors.Unwrap(err); inner != nil { // memberlist wraps a single error in a list of several lines
			err = inner
		}
		level := zapcore.InfoLevel
		if alone {
			level = zapcore.WarnLevel
		}
		j.remind(level, a.String(), "a node that may be there cannot be reached", err)
	}
}

func (j *joiner) remind(level zapcore.Level, key, what string, err error) {
	if _, say := j.reminders.admit(level.String()+key, time.Now()); say {
		j.o.Log.Log(level, "gossip: "+what, zap.Error(err))
	}
}

// known returns the addresses of this node and of the peers that are alive, and apart from them those of peers that are
// not.
func (j *joiner) known() (known map[netip.AddrPort]bool, gone []netip.AddrPort) {
	known = map[netip.AddrPort]bool{}
	for _, a := range j.o.Addrs {
		known[netip.AddrPortFrom(a, j.o.Port)] = true
	}
	for _, p := range j.peers.list() {
		for _, a := range p.endpoints() {
			if p.Status == Alive {
				known[a] = true
			} else {
				gone = append(gone, a)
			}
		}
	}
	return known, gone
}

// absent returns those of addrs that may be a node's and are not known.
func absent(known map[netip.AddrPort]bool, addrs []netip.AddrPort) (out []netip.AddrPort) {
	for _, a := range addrs {
		if a = unmapped(a); !known[a] && isUnicast(a.Addr()) && a.Port() != 0 {
			out = append(out, a)
		}
	}
	return out
}
