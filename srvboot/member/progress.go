package member

import (
	"expvar"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// progress remembers when a leader last heard of each other member. Raft itself only says whether it did since its last
// check of the quorum, which comes once in an election timeout.
type progress struct {
	heard map[uint64]time.Time
}

// raftStatus reads the status of the member of this process. etcd has no function for it, but publishes it as the
// variable raft.status (etcd server/etcdserver/raft.go).
func raftStatus() (raft.Status, bool) {
	f, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return raft.Status{}, false
	}
	s, ok := f().(raft.Status)
	return s, ok
}

// sample returns what the leader knows of the others, sorted by ID; nil when this member does not lead. A member that it
// knows for the first time counts as heard, so that an election is no silence.
func (l *progress) sample(now time.Time) []srvboot.Link {
	s, ok := raftStatus()
	if !ok || s.RaftState != raft.StateLeader {
		l.heard = nil
		return nil
	}
	return l.take(s, now)
}

func (l *progress) take(s raft.Status, now time.Time) (out []srvboot.Link) {
	heard := map[uint64]time.Time{}
	for _, id := range slices.Sorted(maps.Keys(s.Progress)) {
		if id == s.ID {
			continue
		}
		heard[id] = now
		if last, known := l.heard[id]; known && !s.Progress[id].RecentActive {
			heard[id] = last
		}
		out = append(out, srvboot.Link{ID: hexID(id), Match: s.Progress[id].Match, Quiet: int(now.Sub(heard[id]) / time.Second)})
	}
	l.heard = heard
	return out
}
