package srvboot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Death is how a member ended.
type Death struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// keptDeaths is how many deaths the report shows.
const keptDeaths = 8

// member is the running member, if any.
type member struct {
	m     Member
	since time.Time
	want  Launch
	known bool // its IDs were compared
}

func (m member) runs() bool { return m.m != nil }

func (m member) done() <-chan struct{} {
	if m.m == nil {
		return nil
	}
	return m.m.Done()
}

func (m member) changed() <-chan struct{} {
	if m.m == nil {
		return nil
	}
	return m.m.Changed()
}

func (m member) state() (MemberState, bool) {
	if m.m == nil {
		return MemberState{}, false
	}
	return m.m.State()
}

// backoff doubles the wait after every failure.
type backoff struct {
	until time.Time
	wait  time.Duration
}

func (r *backoff) reset() { *r = backoff{} }

func (r *backoff) failed(now time.Time, t Timing) {
	r.wait = min(max(2*r.wait, t.BackoffMin), t.BackoffMax)
	r.until = now.Add(r.wait)
}

// spawn publishes what may be published and starts the member.
func (b *Boot) spawn(l Launch) {
	now := time.Now()
	if now.Before(b.retry.until) {
		b.at(b.retry.until)
		return
	}
	if b.disk.CutOff && !b.clearStart() {
		return
	}
	b.look()
	if err := b.publish(); err != nil {
		b.o.Log.Error("cannot publish the SRV records", zap.Error(err))
		if l.New || b.phase() == Joining {
			b.retry.failed(now, b.o.Timing)
			b.at(b.retry.until)
			return
		}
	}
	if b.disk.Identity.MovedFrom != "" && !b.settle() {
		return
	}
	m, err := b.o.Launcher.Start(context.WithoutCancel(b.ctx), l)
	if err != nil {
		b.o.Log.Error("cannot start the member", zap.Error(err))
		b.buried(fmt.Sprintf("not started: %v", err))
		return
	}
	b.member = member{m: m, since: time.Now(), want: l}
	b.o.Log.Info("member started", zap.Bool("new", l.New), zap.String("genesis", l.Token), zap.String("member_id", l.MemberID))
	b.say()
	b.askAllNow()
	b.reported()
}

func (b *Boot) publish() error {
	if b.o.Publish == nil {
		return nil
	}
	return b.o.Publish(b.view)
}

// died takes in the end of the member; the loop starts it again.
func (b *Boot) died() {
	if time.Since(b.member.since) >= b.o.Timing.Settled {
		b.retry.reset()
	}
	reason := "stopped"
	if err := b.member.m.Err(); err != nil {
		reason = err.Error()
		var told interface {
			Removed() bool
			Acknowledged() uint64
		}
		if errors.As(err, &told) {
			b.removed = b.removed || told.Removed()
			b.acknowledged(told.Acknowledged())
		}
	}
	b.member = member{}
	b.preflight = preflight{running: b.preflight.running}
	b.list = listDate{}
	b.stirred = time.Now()
	b.o.Log.Error("member died", zap.String("reason", reason))
	b.buried(reason)
	b.gather()
}

// acknowledged remembers how far the own member came, as its leader knows: its log has less, so the disk is an older one (row 8).
func (b *Boot) acknowledged(index uint64) {
	if index == 0 {
		return
	}
	b.disk.Identity.Index = max(b.disk.Identity.Index, index)
	if err := b.o.Storage.SaveIndex(index, 0); err != nil {
		b.o.Log.Error("cannot write identity.json", zap.Error(err))
	}
}

func (b *Boot) buried(reason string) {
	now := time.Now()
	b.deaths = append(slices.Clone(b.deaths), Death{At: now, Reason: reason})
	b.deaths = b.deaths[max(0, len(b.deaths)-keptDeaths):]
	b.retry.failed(now, b.o.Timing)
}

// reported takes in a new report of the member: its IDs are compared once, and a born or joining node whose member's
// log holds entries is running from here on.
func (b *Boot) reported() {
	s, ok := b.member.state()
	if !ok || b.disk.Marker == nil {
		return
	}
	if !b.member.known && s.ID != "" {
		if why := b.member.want.mismatch(s); why != "" {
			b.impostor(why, s)
			return
		}
		b.member.known = true
		b.askAllNow() // whoever waits for this member's port asks back
	}
	m := *b.disk.Marker
	votes := m.Learner && slices.ContainsFunc(s.Members, func(e MemberEntry) bool { return e.ID == s.ID && !e.IsLearner })
	if s.Applied > 0 && b.member.known && (m.Phase != Running || m.MemberID == "" || votes) && m.Phase != Removed && m.Phase != FencedOff {
		m.Phase, m.MemberID, m.Learner = Running, s.ID, m.Learner && !votes
		b.save(m)
	}
	b.disk.LastIndex = max(b.disk.LastIndex, s.Applied)
	b.list.take(s)
	b.say()
}

// mismatch says how a member differs from what was started.
func (l Launch) mismatch(s MemberState) string {
	switch {
	case l.ClusterID != "" && s.ClusterID != l.ClusterID:
		return fmt.Sprintf("the member has cluster ID %s, expected %s", s.ClusterID, l.ClusterID)
	case l.MemberID != "" && s.ID != l.MemberID:
		return fmt.Sprintf("the member has ID %s, expected %s", s.ID, l.MemberID)
	}
	return ""
}

// impostor ends a member that turned out to be another one. A first start in a wrong cluster used no vote of this
// genesis: its data is set aside and the start is tried again. All else waits for a person, since etcd/ is alien.
func (b *Boot) impostor(why string, s MemberState) {
	b.o.Log.Error("wrong member, stopping it", zap.String("reason", why))
	l := b.member.want
	if err := b.stopMember(); err != nil {
		b.o.Log.Error("cannot stop the member", zap.Error(err))
	}
	b.buried(why)
	if l.New && s.ClusterID != l.ClusterID && b.stepBack() {
		b.setAside(why)
	}
	b.gather()
}

// stepBack returns from born to accepted, for a member that provably never ran, before its directory is set aside: in
// between, a crash would leave a born node without its stamp.
func (b *Boot) stepBack() bool {
	m := *b.disk.Marker
	if m.Phase != Born || m.Accepted == nil {
		return m.Phase == Accepted
	}
	m.Phase = Accepted
	if !b.save(m) {
		return false
	}
	b.newRun()
	b.say()
	return true
}

func (b *Boot) setAside(why string) bool {
	path, err := b.o.Storage.SetAside(why)
	if err != nil {
		b.o.Log.Error("cannot set etcd/ aside", zap.Error(err))
		b.retry.failed(time.Now(), b.o.Timing)
		return false
	}
	b.o.Log.Warn("etcd/ was set aside", zap.String("path", path), zap.String("reason", why))
	return true
}

// clearStart makes way for a first start after one that was cut off before its log, as by a power cut, or because the cluster
// changed its membership meanwhile (etcd/server/etcdserver/bootstrap.go bootstrapExistingClusterNoWAL).
func (b *Boot) clearStart() bool {
	path, err := b.o.Storage.SetAsideStart("first start cut off")
	if err != nil {
		b.o.Log.Error("cannot set a first start aside", zap.Error(err))
		b.retry.failed(time.Now(), b.o.Timing)
		b.at(b.retry.until)
		return false
	}
	b.o.Log.Info("a first start that was cut off before its log was set aside", zap.String("path", path))
	b.disk.CutOff = false
	return true
}

// stopMember ends the member and waits until it has ended.
func (b *Boot) stopMember() error {
	if !b.member.runs() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.o.Timing.StopMember)
	defer cancel()
	err := b.member.m.Stop(ctx)
	b.member = member{}
	if err != nil {
		return fmt.Errorf("stop the member: %w", err)
	}
	return nil
}
