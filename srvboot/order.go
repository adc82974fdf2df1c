package srvboot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// OrderOp is what an operator asks of the membership.
type OrderOp string

const (
	// OrderAdd lets a node in, also one that was removed or that no Corefile names on the leader's node.
	OrderAdd OrderOp = "add"
	// OrderRemove removes a node's member, and keeps the node out until OrderAdd.
	OrderRemove OrderOp = "remove"
	// OrderReplace lets a node that lost its disk back in at once: without waiting for a machine that is not known, and with
	// `replace manual`. All other conditions stay.
	OrderReplace OrderOp = "replace"
	// OrderPromote makes a learner a voter now, if etcd agrees that it has caught up.
	OrderPromote OrderOp = "promote"
	// OrderDrain has a member hand its leadership over.
	OrderDrain OrderOp = "drain"
)

// Order is an operator's word about one node. The node whose member leads carries it out.
type Order struct {
	Format int     `json:"format"`
	Op     OrderOp `json:"op"`
	Node   string  `json:"node"`
	// Force removes a voter although the rest may then have no quorum.
	Force bool `json:"force,omitempty"`
}

// OrderReply answers an order.
type OrderReply struct {
	// Done says that the order is carried out, or taken and going on; Text says which, or why not.
	Done bool   `json:"done"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
	// Leader is the node to give the order to, when it is not the one asked.
	Leader string `json:"leader,omitempty"`
}

// orderLasts is how long a word for a node counts that has not come in yet.
const orderLasts = time.Hour

// HandleOrder carries out an order if the own member leads. It waits for the change itself, not for what follows from it.
func (b *Boot) HandleOrder(ctx context.Context, o Order) (OrderReply, error) {
	answer := make(chan OrderReply, 1)
	if !b.post(ctx, func() { b.ordered(o, func(r OrderReply) { answer <- r }) }) {
		return OrderReply{}, errors.Join(ctx.Err(), errEnded)
	}
	select {
	case r := <-answer:
		return r, nil
	case <-b.ended:
		return OrderReply{}, errEnded
	case <-ctx.Done():
		return OrderReply{}, ctx.Err()
	}
}

// ordered answers once, now or when the step that it takes has ended.
func (b *Boot) ordered(o Order, reply func(OrderReply)) {
	self, ok := b.member.state()
	ok = ok && !self.Hung // another one may lead by now
	switch {
	case o.Format > Format:
		reply(OrderReply{Text: fmt.Sprintf("%s reads format %d, the order has %d", b.home.Node, Format, o.Format), Hint: "upgrade every node first"})
		return
	case !ok && look(b.facts()).lives != nil:
		reply(OrderReply{Leader: look(b.facts()).lives.Node}) // it leads, or knows who does
		return
	case !ok || self.Leader == "":
		reply(OrderReply{Text: "no member leads, so the membership cannot change", Hint: "etcd-dns status"})
		return
	case self.Leader != self.ID:
		e, listed := (&living{List: self.Members}).byID(self.Leader)
		if !listed {
			reply(OrderReply{Text: "the membership is changing", Hint: "try again in a moment"})
			return
		}
		reply(OrderReply{Leader: entryNode(e)})
		return
	case b.busy() || slices.Equal(ListIDs(self.Members), b.steward.from):
		reply(OrderReply{Text: "another change is under way", Hint: "try again in a moment"})
		return
	}
	b.o.Log.Info("ordered", zap.String("op", string(o.Op)), zap.String("node", o.Node), zap.Bool("force", o.Force))
	switch e, listed := listedNode(self.Members, o.Node); o.Op {
	case OrderAdd, OrderReplace:
		b.welcome(o, self, e, listed, reply)
	case OrderRemove:
		b.remove(o, self, e, listed, reply)
	case OrderPromote:
		b.promote(o, self, e, listed, reply)
	case OrderDrain:
		b.drain(o, self, reply)
	default:
		reply(OrderReply{Text: fmt.Sprintf("unknown order %q", o.Op), Hint: "etcd-dns member --help"})
	}
}

func listedNode(list []MemberEntry, node string) (MemberEntry, bool) {
	for _, e := range list {
		if entryNode(e) == node {
			return e, true
		}
	}
	return MemberEntry{}, false
}

// welcome notes that a node may come in. The rest is Reconcile's, so all its conditions hold.
func (b *Boot) welcome(o Order, self MemberState, e MemberEntry, listed bool, reply func(OrderReply)) {
	asks := slices.ContainsFunc(look(b.facts()).fresh, func(a Answer) bool { return a.Node == o.Node && a.State.Claim != nil })
	stays, word := listed && !e.IsLearner && !asks && o.Op == OrderAdd, Tombstone{MemberID: e.ID}
	if e.IsLearner {
		word.MemberID = "" // the word counts until the node votes, be it with this learner
	}
	if !stays {
		word.Welcome = time.Now().Add(orderLasts).Unix()
	}
	if !b.give(self, o.Node, word) {
		reply(OrderReply{Text: "cannot write seen.json", Hint: "df -h; the log says why"})
		return
	}
	b.spread(self, o.Node, func(now MemberState, k known) {
		b.Prompt()
		if _, there := (&living{List: now.Members}).byID(e.ID); stays && k == knownWidely && !there {
			b.welcome(o, now, MemberEntry{}, false, reply) // a removal that was under way took place
			return
		}
		reply(welcomed(o, b.home.Node, k, stays, e.IsLearner))
	})
}

// welcomed answers the word that a node may come in, or that its member stays.
func welcomed(o Order, leader string, k known, stays, learns bool) OrderReply {
	later, again := o.Node+" is let in when that can be done", "etcd-dns member "+string(o.Op)+" "+o.Node+", again"
	if stays {
		later = o.Node + " stays a member"
	}
	switch {
	case k == knownNoLeader:
		return OrderReply{Text: leader + " no longer leads; " + later + ", if the next leader hears of it", Hint: again}
	case k == knownHere:
		return OrderReply{Text: tooFewHeard + " if " + leader + " dies; " + later, Hint: again}
	case stays:
		return OrderReply{Done: true, Text: o.Node + " stays a member"}
	case learns:
		return OrderReply{Done: true, Text: o.Node + " is a learner, and is let in again if it has to ask again", Hint: "etcd-dns status, on " + o.Node}
	}
	return OrderReply{Done: true, Text: o.Node + " is let in when it asks", Hint: "etcd-dns status, on " + o.Node}
}

// drain hands the leadership to the voter that has heard most; the order has to be given again there.
func (b *Boot) drain(o Order, self MemberState, reply func(OrderReply)) {
	if e, _ := listedNode(self.Members, o.Node); e.ID != self.ID {
		reply(OrderReply{Done: true, Text: o.Node + " does not lead"})
		return
	}
	next, found := self.successor()
	if !found {
		reply(OrderReply{Text: "no other voter is connected that could lead", Hint: "etcd-dns status"})
		return
	}
	b.takeOrdered(Change{Op: MoveLeader, Term: self.Term, ID: next.ID, Members: ListIDs(self.Members), Node: o.Node, Reason: "ordered"}, func(r OrderReply) {
		if r.Done && o.Op != OrderDrain {
			r = OrderReply{Leader: entryNode(next)}
		}
		reply(r)
	})
}

// promote makes a learner a voter without what Reconcile waits for.
func (b *Boot) promote(o Order, self MemberState, e MemberEntry, listed bool, reply func(OrderReply)) {
	switch {
	case !listed:
		reply(OrderReply{Text: o.Node + " has no member", Hint: "to let it in: etcd-dns member add " + o.Node})
	case !e.IsLearner:
		reply(OrderReply{Done: true, Text: o.Node + " votes already"})
	default:
		b.takeOrdered(Change{Op: PromoteLearner, Term: self.Term, ID: e.ID, Members: ListIDs(self.Members), Node: o.Node, Reason: "ordered"}, reply)
	}
}

func (b *Boot) takeOrdered(c Change, reply func(OrderReply)) {
	b.change(c, func(err error) {
		if err != nil {
			reply(OrderReply{Text: err.Error(), Hint: "etcd-dns status"})
			return
		}
		reply(OrderReply{Done: true, Text: fmt.Sprintf("%s: %s", c.Node, done[c.Op])})
	})
}

// done says what a change did.
var done = map[ChangeOp]string{
	RemoveMember: "removed", AddLearner: "added as a learner", PromoteLearner: "promoted", MoveLeader: "another member leads now",
}
