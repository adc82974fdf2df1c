package srvboot

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"
)

// steward is what the loop keeps for changing the membership; see ChangeFacts. All but the list and what failed is empty unless
// the own member leads.
type steward struct {
	list  []string
	since time.Time
	// leads is since when the own member leads in this term.
	leads time.Time
	term  uint64
	// refused and othersTurn are those of ChangeFacts.
	refused    []Refusal
	othersTurn bool

	busy bool
	// from is the list that the last step leads away from, nil as soon as the member reports another: the next step waits for that. A
	// list may come back, as after a learner was taken out by etcdctl.
	from   []string
	claims map[string]time.Time
	// failed are the nodes whose learners had to be taken out since one was promoted.
	failed map[string]learnerRetry
	near   map[string]time.Time
	saving saving
	waits  map[string]string
	retry  backoff
}

// tend takes the next step in the membership when the own member leads its cluster.
func (b *Boot) tend(now time.Time) {
	self, ok := b.member.state()
	if !ok {
		b.steward = steward{busy: b.steward.busy, saving: saving{running: b.steward.saving.running}}
		return
	}
	list := ListIDs(self.Members)
	if !slices.Equal(list, b.steward.list) {
		b.steward.list, b.steward.since, b.steward.from = list, now, nil
	}
	if self.Hung { // what it said is old, and who leads by now it does not know
		return
	}
	if self.Leader == "" || self.Leader != self.ID {
		b.steward = b.steward.rests()
		return
	}
	if b.steward.leads.IsZero() || b.steward.term != self.Term {
		b.steward.leads, b.steward.term = now, self.Term
		b.askAllNow() // what people ordered while others led
		b.at(now)
	}
	b.observe(self, now)
	if b.busy() || b.steward.saving.running || now.Before(b.steward.retry.until) || slices.Equal(list, b.steward.from) {
		return
	}
	next := Reconcile(b.changeFacts(self))
	if next.Change == nil {
		b.explain(next.Waits)
	}
	if next.Save == "" {
		b.steward.othersTurn = false
	}
	switch c := next.Change; {
	case next.Save != "":
		b.saveBefore(next.Save)
	case c != nil:
		b.change(*c, func(err error) {
			b.steward.learned(*c, self.Members, err)
			delete(next.Waits, c.Node)
			if err != nil {
				b.steward.refuse(next.Ordered, err)
				next.Waits[c.Node] = fmt.Sprintf("%s failed and is tried again: %v", c.Op, err)
			}
			b.explain(b.steward.waitsWith(next))
		})
	}
}

// refuse notes that a step for the removal of a member by a person's word failed; nothing for another step.
func (w *steward) refuse(removed string, err error) {
	if removed == "" {
		return
	}
	w.refused = slices.DeleteFunc(slices.Clone(w.refused), func(f Refusal) bool { return f.ID == removed })
	w.refused, w.othersTurn = append(w.refused, Refusal{ID: removed, Why: err.Error()}), true
}

// waitsWith are the reasons of now. When a removal by a person's word was tried, who asks was not looked at, and waits for the same as before.
func (w *steward) waitsWith(now NextChange) map[string]string {
	if now.Ordered == "" {
		return now.Waits
	}
	all := map[string]string{}
	for node, why := range w.waits {
		if _, asks := w.claims[node]; asks {
			all[node] = why
		}
	}
	maps.Copy(all, now.Waits)
	return all
}

// rests is what is kept while the own member does not lead. A step that is under way ends all the same.
func (w *steward) rests() steward {
	kept := steward{list: w.list, since: w.since, failed: w.failed, busy: w.busy, saving: saving{running: w.saving.running}}
	if w.busy {
		kept.from = w.from
	}
	return kept
}

// explain says why nodes have to wait, if that is news. A step that failed is such a reason, and stays one while it is tried again.
func (b *Boot) explain(waits map[string]string) {
	if !reflect.DeepEqual(waits, b.steward.waits) {
		b.steward.waits = waits
		b.say()
	}
}

// busy reports whether a change of the membership is under way, or a person's word about one spreads.
func (b *Boot) busy() bool { return b.steward.busy || b.spreading != nil }

// observe keeps the times since when things are as they are.
func (b *Boot) observe(self MemberState, now time.Time) {
	w := &b.steward
	claims := map[string]time.Time{}
	for _, a := range look(b.facts()).fresh {
		if a.State.Claim != nil {
			claims[a.Node] = since(w.claims[a.Node], now)
		}
	}
	near := map[string]time.Time{}
	for _, l := range self.Links {
		if l.Quiet == 0 && l.Match+learnerLag >= self.Commit {
			near[l.ID] = since(w.near[l.ID], now)
		}
	}
	w.claims, w.near = claims, near
	w.saving.lapse(now, b.o.Timing.BackoffMax)
}

func since(known, now time.Time) time.Time {
	if known.IsZero() {
		return now
	}
	return known
}

func (b *Boot) changeFacts(self MemberState) ChangeFacts {
	w := &b.steward
	return ChangeFacts{Facts: b.facts(), Self: self, LeadSince: w.leads, Refused: w.refused, OthersTurn: w.othersTurn, ListSince: w.since, ClaimSince: maps.Clone(w.claims), NearSince: maps.Clone(w.near),
		Saved: w.saving.saved, NoSnapshot: w.saving.why, Manual: b.home.Manual, Welcomed: b.stillWelcome(self), NotBefore: w.notBefore()}
}

// change takes a step beside the loop. The run of a node that is let in is the one whose claim led to the step.
func (b *Boot) change(c Change, then func(error)) {
	b.steward.busy = true
	if c.Op != MoveLeader {
		b.steward.from = c.Members
	}
	m, run := b.member.m, ""
	if p := b.peers[c.Node]; p != nil {
		run = p.State.Run
	}
	b.o.Log.Info("changing the membership", zap.String("op", string(c.Op)), zap.String("node", c.Node), zap.String("member_id", c.ID),
		zap.String("reason", c.Reason))
	b.beside(b.o.Timing.ChangeTimeout, func(ctx context.Context) func() {
		id, err := m.Change(ctx, c)
		return func() {
			b.tookStep(c, id, run, err)
			then(err)
		}
	})
}

// tookStep notes how a step ended. After an error nobody knows whether it took place; the next step is derived from the
// list that there is.
func (b *Boot) tookStep(c Change, id, run string, err error) {
	now := time.Now()
	w := &b.steward
	w.busy = false
	if err != nil {
		w.from = nil
		w.retry.failed(now, b.o.Timing)
		b.o.Log.Warn("the membership did not change", zap.String("op", string(c.Op)), zap.String("node", c.Node), zap.Error(err))
		return
	}
	w.retry.reset()
	if g := look(b.facts()).genesis(); c.Op == AddLearner && g != nil && run != "" {
		b.admission = &Admission{Node: c.Node, Run: run, ID: id, Genesis: *g}
	}
	b.o.Log.Info("the membership changed", zap.String("op", string(c.Op)), zap.String("node", c.Node), zap.String("member_id", id))
	b.say()
	b.askAllNow()
}
