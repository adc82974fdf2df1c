package srvboot

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"
)

// remember writes down what was seen of the others (R9), never while a birth or a start is under way: it is one fsync
// that nobody waits for. A run that is new is written down within a second, an index every five.
func (b *Boot) remember(now time.Time) {
	busy := b.plan.Action == Birth || (b.plan.Action == New && !b.member.runs())
	if busy || !b.memory() || now.Sub(b.seenAt) < b.o.Timing.Slow {
		return
	}
	due := now.Sub(b.indexAt) >= b.o.Timing.Remember
	if due {
		b.indexAt = now
		b.rememberIndex()
	}
	next := b.disk.Seen
	next.Format, next.Nodes = Format, maps.Clone(next.Nodes)
	if next.Nodes == nil {
		next.Nodes = map[string]Sighting{}
	}
	for name, p := range b.peers {
		if p.At.IsZero() || p.State.Bundle != b.home.Bundle || p.State.SrvName != b.home.SrvName || p.State.Member == nil {
			continue
		}
		// The index was reported before the last writing, so at least that long ago.
		settled := uint64(0)
		if m := p.State.Member; due {
			if p.settledOf == m.ID {
				settled = p.settled
			}
			p.settled, p.settledOf = m.Applied, m.ID
		}
		old := next.Nodes[name]
		see := sighted(old, p.State, settled)
		if see != old {
			next.Nodes[name] = see
		}
	}
	if reflect.DeepEqual(next.Nodes, b.disk.Seen.Nodes) || len(next.Nodes) == 0 {
		return
	}
	b.seenAt = now
	if err := b.o.Storage.SaveSeen(next); err != nil {
		b.o.Log.Error("cannot write seen.json", zap.Error(err))
		return
	}
	b.disk.Seen = next
	b.say()
}

// memory reports whether what is in memory is what is on disk: a file that cannot be used has to stay as it is, for a person.
func (b *Boot) memory() bool { return b.diskErr == nil && b.disk.MemoryError == "" }

// rememberIndex writes down how far the own member came, so that an older image of etcd/ alone can be told (R9). It is
// what was reported the last time; by now that is in the log on disk. A list without the member says nothing of it: it may
// be older than the member.
func (b *Boot) rememberIndex() {
	last := b.reached
	s, ok := b.member.state()
	b.reached = MemberState{}
	if !ok || !slices.ContainsFunc(s.Members, func(e MemberEntry) bool { return e.ID == s.ID }) {
		return
	}
	b.reached = MemberState{ID: s.ID, Applied: s.Applied, Term: s.Term}
	if last.ID != s.ID || last.Applied == 0 {
		return
	}
	if err := b.o.Storage.SaveIndex(last.Applied, last.Term); err != nil {
		b.o.Log.Error("cannot write identity.json", zap.Error(err))
		return
	}
	b.disk.Identity.Index = max(b.disk.Identity.Index, last.Applied)
}

// settle makes this machine the node's: whoever held it back for coming from another one is satisfied.
func (b *Boot) settle() bool {
	if err := b.o.Storage.Settle(); err != nil {
		b.o.Log.Error("cannot write identity.json; the member is not started", zap.Error(err))
		b.retry.failed(time.Now(), b.o.Timing)
		b.at(b.retry.until)
		return false
	}
	b.o.Log.Info("this machine is the node's from here on", zap.String("from", b.disk.Identity.MovedFrom), zap.String("to", b.disk.Identity.Machine))
	b.disk.Identity.MovedFrom = ""
	return true
}
