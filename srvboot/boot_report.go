package srvboot

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"go.uber.org/zap"
)

// Report is what this node knows of itself and of its cluster, for status and for the zone.
type Report struct {
	// State is what this node says of itself, without the fields that BootOptions.State adds.
	State State
	// Answers are the last answers of the other nodes, by name.
	Answers map[string]Answer
	// Plan is what this node does, Since the time since when its row and action hold.
	Plan  Plan
	Since time.Time
	// View is what this node may publish of its cluster: Unknown; Unborn, while every node that birth waits for said
	// so within ten seconds; Born, from which it never goes back.
	View roster.View
	// Deaths are the last deaths of the member, the latest last.
	Deaths []Death
	// Member is the running member's last report; nil when none runs or before its first report.
	Member *MemberState
}

// selfState is what this node says of itself.
func (b *Boot) selfState() State {
	s := State{
		Format: Format, Bundle: b.home.Bundle, SrvName: b.home.SrvName, Node: b.home.Node, Run: b.run,
		Life: b.disk.Identity.Life, Boot: b.disk.Identity.Boot, Machine: b.disk.Identity.Machine,
		Phase: b.phase(), Digest: effectiveDigest(b.home, b.disk.Marker), Ask: b.home.Ask,
		Initial: sortedMembers(b.home.Initial), Evidence: b.disk.Evidence, View: b.view, Plan: b.plan,
	}
	if m := b.disk.Marker; m != nil {
		s.Promised, s.Accepted, s.Excused = m.Promised, m.Accepted, m.Excused
		if m.Accepted != nil && m.Phase.unborn() {
			s.Initial = m.Accepted.Genesis.Members
		}
	}
	if b.diskErr != nil {
		s.Phase, s.Evidence = "", append(slices.Clone(s.Evidence), b.diskErr.Error())
	}
	if e := b.disk.MarkerError; e != "" {
		s.Phase, s.Evidence = "", append(slices.Clone(s.Evidence), "genesis.json: "+e)
	}
	if !b.member.runs() {
		s.Claim = b.plan.Claim
	}
	s.Tombstones = b.disk.Seen.Tombstones
	s.Admission, s.Waits = b.admission, b.steward.waits
	f := b.facts()
	s.NotReady = f.Preflight
	if own, blocked := ownGround(look(f)); blocked {
		s.NotReady = append(slices.Clone(s.NotReady), own.Reason)
	}
	if b.member.runs() {
		s.NotReady = nil
		if m, ok := b.member.state(); ok {
			s.Member = &m
		}
	}
	s.Ready = len(s.NotReady) == 0
	return s
}

// say makes the present state the one that others hear. It comes after every durable change and before the reply.
func (b *Boot) say() { b.said.Store(&said{state: b.selfState(), seen: b.disk.Seen.Nodes}) }

// publishReport stores the report and signals when it differs from the last one in more than the time of an answer.
func (b *Boot) publishReport() {
	b.say()
	r := Report{
		State: b.said.Load().state, Answers: map[string]Answer{}, Plan: b.plan, Since: b.since, View: b.view, Deaths: b.deaths,
	}
	r.Member = r.State.Member
	for name, p := range b.peers {
		r.Answers[name] = p.Answer
	}
	last := b.report.Swap(&r)
	if reflect.DeepEqual(timeless(*last), timeless(r)) {
		return
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func timeless(r Report) Report {
	answers := map[string]Answer{}
	for name, a := range r.Answers {
		if !a.At.IsZero() {
			a.At = time.Unix(0, 0)
		}
		answers[name] = a
	}
	r.Answers = answers
	return r
}

// remember writes down what was seen of the others (R9), never while a birth or a start is under way: it is one fsync
// that nobody waits for.
func (b *Boot) remember(now time.Time) {
	busy := b.plan.Action == Birth || (b.plan.Action == New && !b.member.runs())
	if busy || b.diskErr != nil || now.Sub(b.seenAt) < b.o.Timing.Remember {
		return
	}
	b.rememberIndex()
	next := b.disk.Seen
	next.Format, next.Nodes = Format, maps.Clone(next.Nodes)
	if next.Nodes == nil {
		next.Nodes = map[string]Sighting{}
	}
	for name, p := range b.peers {
		old := next.Nodes[name]
		// The index was reported before the last writing, so at least that long ago.
		another := p.State.Member != nil && old.MemberID != "" && p.State.Member.ID != old.MemberID // on a new disk, whose lives begin anew
		if p.At.IsZero() || p.State.Boot == "" || p.State.Life < old.Life && !another ||
			p.State.Bundle != b.home.Bundle || p.State.SrvName != b.home.SrvName {
			continue
		}
		see := Sighting{MemberID: old.MemberID, Life: p.State.Life, Boot: p.State.Boot, Machine: p.State.Machine, Index: old.Index}
		if m := p.State.Member; m != nil {
			if m.ID != old.MemberID {
				old.Index, p.settled = 0, 0
			}
			see.MemberID, see.Index = m.ID, max(old.Index, p.settled)
			p.settled = m.Applied
		}
		next.Nodes[name] = see
	}
	b.seenAt = now
	if reflect.DeepEqual(next.Nodes, b.disk.Seen.Nodes) || len(next.Nodes) == 0 {
		return
	}
	if err := b.o.Storage.SaveSeen(next); err != nil {
		b.o.Log.Error("cannot write seen.json", zap.Error(err))
		return
	}
	b.disk.Seen = next
	b.say()
}

// rememberIndex writes down how far the own member came, so that an older image of the disk can be told (R9).
func (b *Boot) rememberIndex() {
	s, ok := b.member.state()
	if !ok {
		return
	}
	if err := b.o.Storage.SaveIndex(s.Applied, s.Term); err != nil {
		b.o.Log.Error("cannot write identity.json", zap.Error(err))
	}
}
