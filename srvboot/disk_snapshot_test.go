package srvboot

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestSnapshotAfterTheClockWasSetBack: the snapshot that was just taken stays, whatever the names of the others say.
func TestSnapshotAfterTheClockWasSetBack(t *testing.T) {
	d := testDisk(t.TempDir())
	take := func(w io.Writer) error { _, err := w.Write([]byte("keys")); return err }
	if err := os.Mkdir(d.path(snapshotsDir), stateDirMode); err != nil {
		t.Fatal(err)
	}
	for i := range keptSnapshots + 1 {
		later := filepath.Join(d.path(snapshotsDir), fmt.Sprintf("2099010%dT000000Z%sx%s", i+1, autoMark, snapshotSuffix))
		if err := os.WriteFile(later, []byte("old"), stateFileMode); err != nil {
			t.Fatal(err)
		}
	}
	path, err := d.SaveSnapshot("before-removal-of-1", take)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if kept, err := os.ReadDir(d.path(snapshotsDir)); err != nil || len(kept) != keptSnapshots {
		t.Errorf("%d are kept, %v, want %d", len(kept), err, keptSnapshots)
	}
}
