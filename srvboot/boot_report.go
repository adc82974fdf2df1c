package srvboot

import (
	"reflect"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
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
		Life: b.disk.Identity.Life, Boot: b.disk.Identity.Boot, Chain: b.disk.Identity.chain(), Machine: b.disk.Identity.Machine,
		Reached: b.disk.LastIndex,
		Phase:   b.phase(), Digest: effectiveDigest(b.home, b.disk.Marker), Ask: b.home.Ask,
		Initial: sortedMembers(b.home.Initial), Size: b.home.Size, Evidence: b.disk.Evidence, View: b.view, Plan: b.plan,
	}
	if m := b.disk.Marker; m != nil {
		s.Promised, s.Accepted, s.Excused, s.Abandoned = m.Promised, m.Accepted, m.Excused, m.Abandoned
		if m.Accepted != nil && m.Phase.unborn() {
			s.Initial = m.Accepted.Genesis.Members
		}
	}
	if b.diskErr != nil {
		s.Phase, s.Evidence = "", append(slices.Clone(s.Evidence), b.diskErr.Error())
	}
	if e := b.disk.MemoryError; e != "" {
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
func (b *Boot) say() {
	ran := map[string]time.Time{}
	for name, p := range b.peers {
		if !p.ran.IsZero() {
			ran[name] = p.ran
		}
	}
	b.said.Store(&said{state: b.selfState(), seen: b.disk.Seen.Nodes, ran: ran, since: b.began})
}

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
	r.Answers = timelessAnswers(r.Answers)
	return r
}

func timelessAnswers(in map[string]Answer) map[string]Answer {
	out := make(map[string]Answer, len(in))
	for name, a := range in {
		if !a.At.IsZero() {
			a.At, a.Asked = time.Unix(0, 0), time.Time{}
		}
		out[name] = a
	}
	return out
}
