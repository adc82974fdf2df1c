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
	// running says that one is being taken, which may last for minutes. A person's orders do not wait for it.
	running bool
	// saved is the member for whose removal a snapshot was taken, at savedAt.
	saved   string
	savedAt time.Time
	// why is why none could be taken, at failedAt.
	why      string
	failedAt time.Time
}

// lapse forgets what no longer counts: a snapshot that is too old, and a failure after which it is to be tried again. A snapshot that
// was used needs no word: the member it was for never comes back under that ID.
func (s *saving) lapse(now time.Time, again time.Duration) {
	if now.Sub(s.savedAt) > snapshotLasts {
		s.saved = ""
	}
	if now.Sub(s.failedAt) > again {
		s.why = ""
	}
}

// saveBefore takes a snapshot before the removal of a member.
func (b *Boot) saveBefore(id string) {
	b.steward.saving.running = true
	m := b.member.m
	b.beside(b.o.Timing.SnapshotTimeout, func(ctx context.Context) func() {
		path, err := b.o.Storage.SaveSnapshot("before-removal-of-"+id, func(w io.Writer) error { return m.Snapshot(ctx, w) })
		return func() {
			b.steward.saving.running = false
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
