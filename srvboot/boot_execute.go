package srvboot

import (
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// advance decides and does what was decided. It reports whether it is worth deciding again at once.
func (b *Boot) advance() bool {
	now := time.Now()
	if b.member.runs() {
		return b.watch(now)
	}
	if b.diskErr != nil || b.unsure {
		b.planned(b.withoutMemory(), now)
		b.at(now.Add(b.o.Timing.Slow))
		return false
	}
	p := Decide(b.facts())
	b.planned(p, now)
	if p.Action == Birth {
		return b.propose()
	}
	if now.Before(b.retry.until) {
		b.at(b.retry.until)
		return false
	}
	return b.execute(p)
}

// withoutMemory waits for what is on this node's disk.
func (b *Boot) withoutMemory() Plan {
	if b.diskErr == nil {
		return wait(20, "genesis.json cannot be written; see the log")
	}
	why, hint := explained(b.diskErr)
	return wait(20, "this node's memory cannot be read: %s", why).hint(hint)
}

func (b *Boot) execute(p Plan) bool {
	switch p.Action {
	case New:
		return b.executeNew(p)
	case Existing:
		return b.executeExisting(p)
	case Restart:
		b.spawn(b.launch(p))
		return false
	case SetAside:
		done := b.setAside(p.Reason)
		b.gather()
		return done
	case Enroll:
		return b.enroll(p)
	case Retire:
		return b.retire(p)
	case Rebuild:
		return b.save(rebuild(b.facts()))
	case StopMember:
		return b.fence(p)
	}
	return false
}

// planned notes a plan, and says once what a node waits for. Reasons that differ in their numbers only, such as how far a
// learner has come, are one reason; status has the latest.
func (b *Boot) planned(p Plan, now time.Time) {
	if !reflect.DeepEqual(p, b.plan) { // a hint alone may be news
		if p.Row != b.plan.Row || p.Action != b.plan.Action {
			b.since, b.stirred = now, now
			b.told = map[string]bool{}
		}
		b.plan = p
		b.say()
	}
	kind := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, p.Reason)
	if b.told[kind] || b.member.runs() || p.Action == New || p.Action == Restart {
		return
	}
	if due := b.since.Add(b.o.Timing.Complain); now.Before(due) {
		b.at(due)
		return
	}
	b.told[kind] = true
	if p.Spare {
		b.o.Log.Info("a spare", zap.String("reason", p.Reason), zap.String("hint", p.Hint))
		return
	}
	b.o.Log.Warn("waiting", zap.Int("row", p.Row), zap.String("plan", string(p.Action)), zap.String("reason", p.Reason),
		zap.String("hint", p.Hint), zap.Strings("for", p.For))
}

// executeNew goes from a decided genesis to the running member: stamp, born, SRV, spawn, each durable or done before
// the next one begins.
func (b *Boot) executeNew(p Plan) bool {
	m := *b.disk.Marker
	switch {
	case b.disk.Data == Stub:
		if !b.stepBack() || !b.setAside(p.Reason) {
			return false
		}
		b.gather()
		return true
	case m.Phase == Accepted:
		if !b.stamp(m.Stamp, func(device uint64) Marker { return bear(m, device) }) {
			return false
		}
		b.o.Log.Info("born", zap.String("genesis", p.Genesis.ID), zap.String("why", p.Reason))
		b.askAllNow()
		return true
	}
	b.spawn(b.launch(p))
	return false
}

// stamp makes etcd/ with its stamp and then the marker durable.
func (b *Boot) stamp(nonce string, next func(device uint64) Marker) bool {
	if b.disk.CutOff && !b.clearStart() {
		return false
	}
	device, err := b.o.Storage.Stamp(nonce)
	if err != nil {
		b.o.Log.Error("cannot make etcd/", zap.Error(err))
		b.retry.failed(time.Now(), b.o.Timing)
		b.at(b.retry.until)
		return false
	}
	b.disk.Identity.Index, b.disk.Identity.Term, b.disk.LastIndex, b.removed = 0, 0, 0, false
	if !b.save(next(device)) {
		return false
	}
	b.disk.Data = Stamped
	return true
}

// executeExisting starts a member that was added to a living cluster, or whose cluster has changed since its birth.
func (b *Boot) executeExisting(p Plan) bool {
	m := *b.disk.Marker
	if m.Phase == Accepted {
		return b.stamp(m.Stamp, func(device uint64) Marker {
			m.Phase, m.MemberID, m.EtcdDevice = Joining, p.MemberID, device
			return m
		})
	}
	b.spawn(b.launch(p))
	return false
}

// enroll takes the ID of a learner that was added for this run. The marker comes after the stamp, so that a crash in
// between leaves a node that asks again.
func (b *Boot) enroll(p Plan) bool {
	f, nonce := b.facts(), uuid.NewString()
	return b.stamp(nonce, func(device uint64) Marker { return enrolled(f, p, nonce, device) })
}

// retire notes that the member was removed, then sets its data aside.
func (b *Boot) retire(p Plan) bool {
	m := startMarker(b.home, b.disk.Marker)
	if m.Phase != Removed {
		m.Phase = Removed
		if !b.save(m) {
			return false
		}
	}
	done := b.setAside(p.Reason)
	b.gather()
	return done
}

// launch says how to start by a plan. The members of a restart are the latest list that was seen.
func (b *Boot) launch(p Plan) Launch {
	l := Launch{New: p.Action == New, Members: p.Members, MemberID: p.MemberID}
	if p.Genesis != nil {
		l.Token, l.ClusterID = p.Genesis.ID, p.Genesis.ClusterID
		if l.Members == nil {
			l.Members = b.latestMembers(*p.Genesis)
		}
	}
	if l.ClusterID == "" {
		l.ClusterID = b.disk.ClusterID
	}
	return l
}

// latestMembers is the member list with the highest applied index among those heard of, else that of the birth.
func (b *Boot) latestMembers(g Genesis) []GenesisMember {
	out, index := g.Members, uint64(0)
	for _, a := range look(b.facts()).born {
		m := a.State.Member
		if m != nil && len(m.Members) > 0 && a.State.Accepted.Genesis.same(g) && m.Applied >= index {
			out, index = bootMembers(m.Members), m.Applied
		}
	}
	return out
}

// rebuild makes the marker of a member whose data is whole and whose marker is lost. Whoever runs the same cluster
// knows its genesis; without that, the IDs are all that is known, and the generation is taken for that of a birth: with a lower one
// its lists would count less than those that others remember.
func rebuild(f Facts) Marker {
	m := startMarker(f.Home, nil)
	m.Phase, m.MemberID = Running, f.Disk.MemberID
	m.Accepted = &Acceptance{Genesis: Genesis{ClusterID: f.Disk.ClusterID, Generation: 1}}
	if known := look(f).acceptanceOf(f.Disk.ClusterID); known != nil {
		m.Accepted = known
	}
	return m
}

// acceptanceOf is the genesis of a cluster as another node knows it, nil when none does.
func (s *situation) acceptanceOf(clusterID string) *Acceptance {
	for _, a := range s.born {
		if g := a.State.Accepted.Genesis; g.ID != "" && g.ClusterID == clusterID {
			return &Acceptance{Ballot: a.State.Accepted.Ballot, Genesis: g}
		}
	}
	return nil
}

// completeGenesis takes over the genesis from who knows it, once one does, after a marker was rebuilt without it. When that cannot be
// written it is left for the next start.
func (b *Boot) completeGenesis() {
	m := b.disk.Marker
	if b.incomplete || m == nil || m.Accepted == nil || m.Accepted.Genesis.ID != "" {
		return
	}
	known := look(b.facts()).acceptanceOf(m.Accepted.Genesis.ClusterID)
	if known == nil {
		return
	}
	next := *m
	next.Accepted = known
	if err := b.o.Storage.SaveMarker(next); err != nil { // either marker is right, so whichever is on disk
		b.incomplete = true
		b.o.Log.Warn("cannot write the genesis that others know into genesis.json", zap.Error(err))
		return
	}
	b.disk.Marker = &next
	b.say()
}

// watch stops a running member whose genesis has a successor, or whose disk turns out to be older than what somebody saw
// of it who did not answer before.
func (b *Boot) watch(now time.Time) bool {
	s := look(b.facts())
	if p, fenced := rowSuccessor(s); fenced {
		b.end(p, now, "fenced: "+p.Reason)
		return b.fence(p)
	}
	if why := s.runsOnOlderDisk(); why != "" {
		b.end(wait(8, "this disk is older than what was seen of this node: %s", why), now, "it ran on an older disk: "+why)
		b.retry.reset()
		return true
	}
	b.planned(Plan{Row: b.plan.Row, Action: b.plan.Action, Reason: b.plan.Reason, MemberID: b.plan.MemberID}, now)
	return false
}

// end stops the member by a plan, and reads the disk.
func (b *Boot) end(p Plan, now time.Time, why string) {
	b.planned(p, now)
	if err := b.stopMember(); err != nil {
		b.o.Log.Error("cannot stop the member", zap.Error(err))
	}
	b.buried(why)
	b.list = listDate{}
	b.gather()
}

// fence keeps the data of a cluster that was recovered elsewhere, and never serves it again.
func (b *Boot) fence(p Plan) bool {
	if b.disk.Marker == nil {
		return false
	}
	m := *b.disk.Marker
	m.Phase = FencedOff
	if !b.save(m) {
		return false
	}
	if b.disk.Data != None {
		b.setAside(p.Reason)
	}
	b.gather()
	return true
}
