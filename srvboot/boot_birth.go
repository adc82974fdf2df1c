package srvboot

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// message names one message of the genesis protocol.
type message struct {
	ballot Ballot
	accept bool
}

var errEnded = errors.New("this node is stopping")

// HandleState answers the question of a node for this one's state; news is what it says of its list. It does not wait for anything.
func (b *Boot) HandleState(from string, news News) State {
	said := b.said.Load()
	s := said.state
	s.Seen = said.seen
	heard := said.since
	if at, ok := said.ran[from]; ok {
		heard = at
	}
	s.Quiet = int(time.Since(heard) / time.Second)
	if b.o.State != nil {
		b.o.State(&s)
	}
	select {
	case b.hints <- hint{from: from, news: news}:
	default: // a hint more or less: the node is asked in turn anyway
	}
	return s
}

// HandlePrepare answers a Prepare once the promise is durable. from is the sender's name by its certificate.
func (b *Boot) HandlePrepare(ctx context.Context, from string, req Prepare) (Reply, error) {
	return b.handle(ctx, from, func() Move { return OnPrepare(Self{Facts: b.facts(), From: from}, req) })
}

// HandleAccept answers an Accept once the acceptance is durable. from is the sender's name by its certificate.
func (b *Boot) HandleAccept(ctx context.Context, from string, req Accept) (Reply, error) {
	return b.handle(ctx, from, func() Move { return OnAccept(Self{Facts: b.facts(), From: from}, req) })
}

func (b *Boot) handle(ctx context.Context, from string, decide func() Move) (Reply, error) {
	answer := make(chan Reply, 1)
	if !b.post(ctx, func() { answer <- b.grant(from, decide) }) {
		return Reply{}, errors.Join(ctx.Err(), errEnded)
	}
	select {
	case r := <-answer:
		if b.o.State != nil {
			b.o.State(&r.State)
		}
		return r, nil
	case <-b.ended:
		return Reply{}, errEnded
	}
}

// PlanBirthOrder says which nodes have to carry an order out; none when it is refused, and the reply says why.
func (b *Boot) PlanBirthOrder(ctx context.Context, o BirthOrder) (tell []string, r OrderReply, err error) {
	planned := make(chan struct{})
	if !b.post(ctx, func() { tell, r = look(b.facts()).planBirthOrder(o); close(planned) }) {
		return nil, OrderReply{}, errors.Join(ctx.Err(), errEnded)
	}
	select {
	case <-planned:
		return tell, r, nil
	case <-b.ended:
		return nil, OrderReply{}, errEnded
	}
}

// HandleBirthOrder carries this node's part of an order out.
func (b *Boot) HandleBirthOrder(ctx context.Context, from string, o BirthOrder) (Reply, error) {
	return b.handle(ctx, from, func() Move { return OnBirthOrder(Self{Facts: b.facts(), From: from}, o) })
}

// grant saves before it replies.
func (b *Boot) grant(from string, decide func() Move) Reply {
	if b.unsure || b.diskErr != nil {
		b.gather()
	}
	if b.unsure || b.diskErr != nil || b.member.runs() {
		return Reply{Reason: b.home.Node + " cannot write its marker now, or runs already", State: b.said.Load().state}
	}
	move, before := decide(), b.phase()
	if move.OK && move.Save && !b.save(move.Marker) {
		move = no("%s cannot write its marker", b.home.Node)
	}
	if move.OK && b.phase().rank() < before.rank() { // who heard more of this run would take it for an old answer
		b.newRun()
		b.diskAt = time.Time{}
		b.say()
	}
	if move.OK {
		b.stirred = time.Now()
		b.ballotMoved(b.disk.Marker.Promised, b.stirred)
		if b.disk.Marker.Phase != before || b.disk.Marker.Phase == Accepted {
			b.askAllNow()
		}
	} else {
		b.o.Log.Info("refused", zap.String("from", from), zap.String("reason", move.Reason))
	}
	return Reply{OK: move.OK, Reason: move.Reason, State: b.said.Load().state}
}

// propose takes the proposer's next steps. It reports whether the marker changed, so that the plan may have.
func (b *Boot) propose() bool {
	step := Propose(Proposal{
		Facts: b.facts(), Round: b.round, Moved: b.moved, NewID: uuid.NewString, Timing: b.o.Timing,
	})
	if step.Marker != nil && !b.save(*step.Marker) {
		b.round = nil
		return false
	}
	b.round = step.Round
	if step.Marker != nil {
		b.ballotMoved(step.Marker.Promised, time.Now())
	}
	for node, req := range step.Prepare {
		b.tell(node, message{ballot: req.Ballot}, func(ctx context.Context) (Reply, error) {
			return b.o.Peers.Prepare(ctx, node, req)
		})
	}
	for node, req := range step.Accept {
		b.tell(node, message{ballot: req.Ballot, accept: true}, func(ctx context.Context) (Reply, error) {
			return b.o.Peers.Accept(ctx, node, req)
		})
	}
	return step.Marker != nil
}

// tell sends a message beside the loop, again once a second until it is granted.
func (b *Boot) tell(node string, m message, send func(context.Context) (Reply, error)) {
	p := b.peers[node]
	if p == nil || p.telling {
		return
	}
	now := time.Now()
	if again := p.toldAt.Add(b.o.Timing.Resend); p.told == m && now.Before(again) {
		b.at(again)
		return
	}
	p.telling, p.told, p.toldAt = true, m, now
	p.sent++
	number := p.sent
	b.beside(b.o.Timing.TellTimeout, func(ctx context.Context) func() {
		reply, err := send(ctx)
		return func() {
			p.telling = false
			if err != nil {
				b.o.Log.Info("no reply", zap.String("node", node), zap.Error(err))
				return
			}
			b.replied(p, number, m, reply)
		}
	})
}

// replied takes in a reply: it is an answer like any other, and it moves the round on.
func (b *Boot) replied(p *peer, number uint64, m message, reply Reply) {
	if reply.State.Node != p.Node {
		return
	}
	b.heard(p, number, p.toldAt, reply.State, nil)
	if !reply.OK {
		b.o.Log.Info("not granted", zap.String("node", p.Node), zap.String("reason", reply.Reason))
	}
	switch {
	case b.round == nil:
	case m.accept:
		b.round = b.round.OnAccepted(p.Node, m.ballot, reply)
	default:
		b.round = b.round.OnPromise(p.Node, m.ballot, reply)
	}
}
