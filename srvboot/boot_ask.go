package srvboot

import (
	"context"
	"errors"
	"time"
)

// peer is what the loop keeps of one node that it asks.
type peer struct {
	Answer
	asking bool
	// again asks once more when the answer under way has come.
	again bool
	next  time.Time
	// unheard counts the questions without an answer since the last one with.
	unheard int
	// sent and seen number the questions: an answer to an older question does not replace a newer one.
	sent, seen uint64
	// ran is when it last said that its member runs.
	ran time.Time
	// settled is the applied index that it had reported when what was seen was written down before.
	settled   uint64
	settledOf string
	// telling says that a message of the genesis protocol is under way; told names the last one.
	telling bool
	told    message
	toldAt  time.Time
}

// preflight is the last result of the checks.
type preflight struct {
	running, valid bool
	at             time.Time
	failed         []string
}

// ask puts the question to every node whose turn it is.
func (b *Boot) ask(now time.Time) {
	names := look(b.facts()).knownNames()
	for _, m := range b.view.Members { // its line may be gone, and its member stays
		names = append(names, m.Node)
	}
	known := map[string]bool{}
	for _, name := range names {
		if name == b.home.Node || known[name] {
			continue
		}
		known[name] = true
		p := b.peers[name]
		if p == nil {
			p = &peer{Answer: Answer{Node: name}}
			b.peers[name] = p
		}
		if !p.asking && !now.Before(p.next) {
			p.next = now.Add(b.interval(now))
			b.askOne(p)
		}
		if !p.asking { // its answer wakes the loop
			b.at(p.next)
		}
	}
	for name := range b.peers {
		if !known[name] && !b.peers[name].Fresh(now, FreshFor) {
			delete(b.peers, name)
		}
	}
	if !b.member.runs() && !b.namesake.asking && !now.Before(b.namesake.next) {
		b.namesake.Node = b.home.Node
		b.namesake.next = now.Add(b.o.Timing.Slow)
		b.askOne(&b.namesake)
	}
}

// interval is the time between two questions to the same node.
func (b *Boot) interval(now time.Time) time.Duration {
	t := b.o.Timing
	switch {
	case b.member.runs() && !b.healthy(now):
		return t.Unhealthy
	case !b.member.runs() && now.Sub(b.stirred) < t.SlowAfter:
		return t.Poll
	}
	return t.Slow
}

// healthy reports whether every member of the published list serves.
func (b *Boot) healthy(now time.Time) bool {
	if s, ok := b.member.state(); !ok || !s.Serving {
		return false
	}
	for _, m := range b.view.Members {
		if p := b.peers[m.Node]; p != nil && (!p.Fresh(now, FreshFor) || p.Err != "" || p.State.Member == nil || !p.State.Member.Serving) {
			return false
		}
	}
	return true
}

func (b *Boot) askAllNow() {
	for _, p := range b.peers {
		p.askNow()
	}
}

func (p *peer) askNow() {
	p.next = time.Time{}
	p.again = p.asking
}

// askOne asks beside the loop.
func (b *Boot) askOne(p *peer) {
	p.asking = true
	p.sent++
	number, node, asked := p.sent, p.Node, time.Now()
	b.beside(b.o.Timing.AskTimeout, func(ctx context.Context) func() {
		s, err := b.o.Peers.State(ctx, node)
		return func() {
			p.asking = false
			if p.again {
				p.again = false
				p.next = time.Time{}
			}
			b.heard(p, number, asked, s, err)
		}
	})
}

// beside runs f on a goroutine of its own, with a deadline, and what it returns on the goroutine of Run.
func (b *Boot) beside(timeout time.Duration, f func(context.Context) func()) {
	b.work.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, timeout)
		defer cancel()
		then := f(ctx)
		b.post(b.ctx, then)
	})
}

// heard takes in an answer, if it is not older than what is known.
func (b *Boot) heard(p *peer, number uint64, asked time.Time, s State, err error) {
	now := time.Now()
	if err != nil {
		if p.Err == "" {
			b.stirred = now
		}
		var at interface{ Stranger() bool }
		p.Err, p.Stranger = err.Error(), errors.As(err, &at) && at.Stranger()
		return
	}
	if number < p.seen || s.Node != p.Node || s.before(p.State) {
		return
	}
	if p.At.IsZero() || p.Err != "" || s.Phase != p.State.Phase || s.Run != p.State.Run || s.Promised != p.State.Promised {
		b.stirred = now
	}
	p.seen, p.At, p.Asked, p.State, p.Err, p.Stranger = number, now, asked, s, "", false
	if s.Member != nil {
		p.ran = now
	}
	b.ballotMoved(s.Promised, now)
	if s.Bundle == b.home.Bundle && s.SrvName == b.home.SrvName {
		b.hearTombstones(s.Tombstones)
	}
}

// before reports whether a state is of an earlier moment of the same run.
func (s State) before(known State) bool {
	if s.Run != known.Run || s.Run == "" {
		return false
	}
	return s.Phase.rank() < known.Phase.rank() || s.Promised.Less(known.Promised)
}

func (b *Boot) ballotMoved(to Ballot, now time.Time) {
	if b.ballot.Less(to) {
		b.ballot, b.moved = to, now
	}
}

// hinted is told that a node asked this one. Around a birth, when it was silent, and when its list is a later one, it is asked
// back at once: it has something new to say.
func (b *Boot) hinted(h hint) {
	p := b.peers[h.from]
	if p == nil {
		return
	}
	now := time.Now()
	t := b.o.Timing
	age := now.Sub(p.At)
	birth := b.phase() == Accepted && now.Sub(b.accepted) < t.Slow
	if h.news.isNewsTo(b.view) || age > t.Slow || birth && age >= t.BirthPoll {
		p.askNow()
	} else if birth {
		p.next = minTime(p.next, p.At.Add(t.BirthPoll))
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (b *Boot) phase() Phase {
	if b.disk.Marker == nil {
		return Fresh
	}
	return b.disk.Marker.Phase
}

// check runs the pre-flight checks beside the loop, now and then while no member runs.
func (b *Boot) check(now time.Time) {
	due := !b.preflight.valid || now.Sub(b.preflight.at) >= b.o.Timing.Slow
	if b.o.Preflight == nil || b.preflight.running || b.member.runs() || !due {
		return
	}
	b.preflight.running = true
	b.beside(b.o.Timing.SlowAfter, func(ctx context.Context) func() {
		failed := b.o.Preflight(ctx)
		return func() {
			b.preflight = preflight{valid: true, at: time.Now(), failed: failed}
			b.say()
		}
	})
}
