package srvboot

import (
	"fmt"
	"slices"
	"time"
)

// spreadFor is how long the other nodes have to note a person's word: they ask the leader once a second, and who gave the order waits
// for four. spreadAsk is how often they are asked whether they have.
const spreadFor, spreadAsk = 2500 * time.Millisecond, 100 * time.Millisecond

// tooFewHeard says what knownHere means to the one who gave the order.
const tooFewHeard = "too few of the other voters' nodes have heard of it to remember it"

// tooFewSaid says why a node waits of which heardOf is false, and which order does without.
func tooFewSaid(order OrderOp, node string) string {
	return fmt.Sprintf("too few of the voters' nodes have said since this one leads whether a person keeps it out; if they cannot be asked: etcd-dns member %s %s", order, node)
}

// known says where a word on a node is known.
type known int

const (
	// knownWidely is by as many voters' nodes as can elect a leader without the member it is about: nobody forgets it, whoever dies.
	knownWidely known = iota
	// knownHere is by too few others, after spreadFor.
	knownHere
	// knownNoLeader is when the own member no longer leads: another node goes on, if it has heard.
	knownNoLeader
)

// spreading is a person's word on a node, durable here, which has to be known elsewhere before it is answered. No other change goes on
// meanwhile.
type spreading struct {
	node, leader string
	then         func(self MemberState, k known)
	// until is how long it waits, next when the others are asked again.
	until, next time.Time
}

// spread has the others hear the word on a node that give wrote down, and then calls then from the loop, at once or later.
func (b *Boot) spread(self MemberState, node string, then func(self MemberState, k known)) {
	b.spreading = &spreading{node: node, leader: self.ID, then: then, until: time.Now().Add(spreadFor)}
	b.attend(time.Now())
}

// attend looks whether the word that spreads has been heard by enough.
func (b *Boot) attend(now time.Time) {
	w := b.spreading
	if w == nil {
		return
	}
	k, self := b.whoKnows(w)
	if k == knownHere && now.Before(w.until) {
		if !now.Before(w.next) {
			w.next = now.Add(spreadAsk)
			b.askAllNow()
		}
		b.at(w.next)
		return
	}
	b.spreading = nil
	w.then(self, k)
}

func (b *Boot) whoKnows(w *spreading) (known, MemberState) {
	switch self, ok := b.member.state(); {
	case !ok || self.Hung || self.Leader != w.leader:
		return knownNoLeader, self
	case look(b.facts()).noted(self, w.node, time.Time{}):
		return knownWidely, self
	default:
		return knownHere, self
	}
}

// noted reports whether a quorum of the voters that would be left have the word on a node, as they said when they were asked after some
// time.
func (s *situation) noted(self MemberState, node string, after time.Time) bool {
	word := s.f.Disk.Seen.word(self.ClusterID, node)
	voters, have := 0, 0
	for _, e := range self.Members {
		if e.IsLearner || e.ID == word.MemberID {
			continue
		}
		voters++
		name := entryNode(e)
		says := func(a Answer) bool {
			return a.Node == name && a.State.Tombstones[node] == word && !a.Asked.Before(after)
		}
		if e.ID == self.ID || slices.ContainsFunc(s.fresh, says) {
			have++
		}
	}
	return have >= quorum(voters)
}

// heardOf reports whether a quorum of the voters have said, when they were asked after some time, what people ordered for a node, and this
// one has written it down. A word that a quorum noted before is then known here, whoever led when it was given.
func (s *situation) heardOf(self MemberState, node string, after time.Time) bool {
	own := s.f.Disk.Seen.word(self.ClusterID, node)
	if own.Term == self.Term && self.Term > 0 {
		return true // a person told this very leader
	}
	heard := 0
	for _, e := range self.Members {
		says := func(a Answer) bool {
			m, word := a.State.Member, a.State.Tombstones[node]
			return m != nil && m.ID == e.ID && !a.Asked.Before(after) &&
				!(word.isOn(self.ClusterID) && word.after(own))
		}
		if !e.IsLearner && (e.ID == self.ID || slices.ContainsFunc(s.fresh, says)) {
			heard++
		}
	}
	return heard >= quorum(voters(self.Members))
}
