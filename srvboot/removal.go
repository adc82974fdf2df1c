package srvboot

import (
	"fmt"
	"slices"
)

// removal is one that a person ordered, from the tombstone to the reply. The tombstone stands until a person takes it back: no node
// could do so for sure once others have heard it. What is not carried out here is Reconcile's.
type removal struct {
	order  Order
	leader string      // the member that took the order
	member MemberEntry // empty for a node without one
	reply  func(OrderReply)
}

// remove removes a member by a person's word. A leader that is to go hands over first.
func (b *Boot) remove(o Order, self MemberState, e MemberEntry, listed bool, reply func(OrderReply)) {
	switch why := againstRemoval(self, e); {
	case listed && self.lastVoter(e): // raft panics when it applies that, at each start anew (raft.go applyConfChange)
		reply(OrderReply{Text: why, Hint: "to take its place: etcd-dns member add NAME, first; to end the cluster: systemctl stop etcd-dns, on each node"})
		return
	case listed && !o.Force && why != "":
		reply(OrderReply{Text: why, Hint: "etcd-dns member remove --force " + o.Node + ", if the cluster may stop"})
		return
	}
	if listed && e.ID == self.ID && len(self.Members) > 1 {
		b.drain(o, self, reply)
		return
	}
	if !b.give(self, o.Node, Tombstone{MemberID: e.ID, Removed: true}) {
		reply(OrderReply{Text: "cannot write seen.json, so the node would come back", Hint: "df -h; the log says why"})
		return
	}
	r := &removal{order: o, leader: self.ID, member: e, reply: reply}
	b.spread(self, o.Node, func(self MemberState, k known) { b.removalSpread(r, self, k) })
}

// removalSpread goes on when the tombstone is known, or cannot be.
func (b *Boot) removalSpread(r *removal, self MemberState, k known) {
	switch word := b.disk.Seen.word(self.ClusterID, r.order.Node); {
	case k != knownNoLeader && (!word.Removed || word.MemberID != r.member.ID):
		r.reply(OrderReply{Text: "somebody let " + r.order.Node + " in meanwhile", Hint: "etcd-dns member list"})
	case k == knownNoLeader:
		r.stands(r.leader + " no longer leads")
	case k == knownHere && !r.order.Force:
		r.stands(tooFewHeard)
	case r.member.ID == "":
		r.reply(OrderReply{Done: true, Text: r.order.Node + " has no member, and is kept out"})
	default:
		c := Change{Op: RemoveMember, Term: self.Term, ID: r.member.ID, Members: ListIDs(self.Members), Force: r.order.Force, Node: r.order.Node, Reason: "ordered"}
		b.change(c, func(err error) { b.removalEnded(r, err) })
	}
}

// removalEnded answers when etcd has.
func (b *Boot) removalEnded(r *removal, err error) {
	now, ok := b.member.state()
	_, listed := (&living{List: now.Members}).byID(r.member.ID)
	if err == nil || ok && len(now.Members) > 0 && !listed { // or somebody else was first
		r.reply(OrderReply{Done: true, Text: r.order.Node + ": " + done[RemoveMember]})
		return
	}
	r.stands(err.Error())
}

// stands answers that the removal is not carried out yet.
func (r *removal) stands(why string) {
	if r.member.ID == "" {
		r.reply(OrderReply{Text: fmt.Sprintf("%s; until they have, %s is kept out by this node alone", why, r.order.Node), Hint: "etcd-dns member remove " + r.order.Node + ", again"})
		return
	}
	r.reply(OrderReply{Text: fmt.Sprintf("%s; %s is removed when that can be done, unless you take it back: etcd-dns member add %s", why, r.order.Node, r.order.Node),
		Hint: "etcd-dns member list"})
}

// againstRemoval says why the cluster would not work on without a member.
func againstRemoval(self MemberState, e MemberEntry) string {
	voters, connected := 0, 0
	for _, m := range self.Members {
		if m.IsLearner || m.ID == e.ID {
			continue
		}
		voters++
		quiet := func(l Link) bool { return l.ID == m.ID && l.Quiet > 0 }
		if !slices.ContainsFunc(self.Links, quiet) {
			connected++
		}
	}
	switch {
	case e.IsLearner:
		return ""
	case voters == 0:
		return "it is the last voter: the cluster would end"
	case connected < quorum(voters):
		return fmt.Sprintf("of the %d voters that would be left, %d are connected, and a quorum is %d", voters, connected, quorum(voters))
	}
	return ""
}

// lastVoter reports whether nobody else votes.
func (m MemberState) lastVoter(e MemberEntry) bool { return !e.IsLearner && voters(m.Members) == 1 }

// successor is the connected voter that has heard most: who is to lead when this leader goes.
func (m MemberState) successor() (next MemberEntry, found bool) {
	var best Link
	for _, l := range m.Links {
		if e, listed := (&living{List: m.Members}).byID(l.ID); listed && !e.IsLearner && l.Quiet == 0 && (!found || l.Match >= best.Match) {
			best, next, found = l, e, true
		}
	}
	return next, found
}
