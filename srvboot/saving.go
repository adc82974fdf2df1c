package srvboot

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
)

// saving is what the leader's node keeps of the snapshot before a voter is removed (safety.md R10 f).
type saving struct {
	// saved is the member for whose removal a snapshot was taken, at savedAt.
	saved   string
	savedAt time.Time
	// why is why none could be taken, at failedAt.
	why      string
	failedAt time.Time
}

// lapse forgets what no longer counts: all when nobody claims a member, a snapshot that is too old, and a failure after which it is to
// be tried again.
func (s *saving) lapse(claimed bool, now time.Time, again time.Duration) {
	if !claimed || now.Sub(s.savedAt) > snapshotLasts {
		s.saved = ""
	}
	if !claimed || now.Sub(s.failedAt) > again {
		s.why = ""
	}
}

// saveBefore takes a snapshot before the removal of a member.
func (b *Boot) saveBefore(id string) {
	b.steward.busy = true
	m := b.member.m
	b.beside(b.o.Timing.SnapshotTimeout, func(ctx context.Context) func() {
		path, err := b.o.Storage.SaveSnapshot("before-removal-of-"+id, func(w io.Writer) error { return m.Snapshot(ctx, w) })
		return func() {
			b.steward.busy = false
			if err != nil {
				b.steward.saving.why, b.steward.saving.failedAt = fmt.Sprint(err), time.Now()
				b.o.Log.Error("no snapshot; the member is not replaced without one", zap.Error(err))
				return
			}
			b.steward.saving.saved, b.steward.saving.savedAt = id, time.Now()
			b.o.Log.Info("snapshot taken", zap.String("path", path))
		}
	})
}
