package discovery

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A directory in use ends a start at once, and one whose files somebody else holds ends with its context.
func TestStoreInUse(t *testing.T) {
	dir := shortDir(t)
	store := openStore(t, dir)
	var used *inUse
	if _, err := OpenStore(t.Context(), dir, zap.NewNop()); !errors.As(err, &used) || !strings.Contains(err.Error(), dir) || used.Hint() == "" {
		t.Errorf("%v, want it to name %s", err, dir)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// Held for as long as the tests run: an etcd that gets it later would start in a directory that is gone.
	db, err := syscall.Open(filepath.Join(dir, "etcd", "member", "snap", "db"), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(db, syscall.LOCK_EX); err != nil { // as bbolt does
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := OpenStore(ctx, dir, zap.NewNop()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's end", err)
	}
}
