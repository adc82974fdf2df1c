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
	// remembered are the nodes that were seen in earlier runs; read only.
	remembered []sighting
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
	known, gone := j.look()
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
	try(absent(known, gone))
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

// look returns the addresses behind which this node or a living peer is, and those where a node was that has no living
// run: where its last run was, and where it was seen in an earlier run of this node.
func (j *joiner) look() (known map[netip.AddrPort]bool, gone []netip.AddrPort) {
	known = map[netip.AddrPort]bool{}
	for _, a := range j.o.Addrs {
		known[netip.AddrPortFrom(a, j.o.Port)] = true
	}
	alive, last := map[string]bool{}, map[string]Peer{}
	for _, p := range j.peers.list() {
		if p.Status == Alive {
			alive[p.Name] = true
			for _, a := range p.endpoints() {
				known[a] = true
			}
		} else if p.Since.After(last[p.Name].Since) {
			last[p.Name] = p
		}
	}
	for name, p := range last {
		if !alive[name] {
			gone = append(gone, p.endpoints()...)
		}
	}
	for _, s := range j.remembered {
		if !alive[s.Name] {
			gone = append(gone, s.Addrs...)
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
