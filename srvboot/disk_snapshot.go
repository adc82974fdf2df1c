package srvboot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

const (
	// snapshotSuffix ends the name of each snapshot, as etcd's manuals have it.
	snapshotSuffix = ".db"
	// autoMark is in the name of snapshots that this node takes by itself; keptSnapshots of them are kept.
	autoMark      = "-auto-"
	keptSnapshots = 3
)

// SaveSnapshot keeps what write writes as snapshots/TIME-auto-WHY.db, and returns that path once it is durable. Of those
// that it made before, the latest few stay; others than its own are never touched. A failed one leaves nothing.
func (d *Disk) SaveSnapshot(why string, write func(io.Writer) error) (path string, err error) {
	dir := d.path(snapshotsDir)
	if err := os.Mkdir(dir, stateDirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("save a snapshot: %w", err)
	}
	if err := durable.RemoveTemps(dir); err != nil {
		return "", fmt.Errorf("save a snapshot: %w", err)
	}
	path = filepath.Join(dir, time.Now().UTC().Format(asideTime)+autoMark+fileWord(why)+snapshotSuffix)
	if err := durable.WriteWith(path, stateFileMode, write); err != nil {
		return "", fmt.Errorf("save a snapshot: %w", err)
	}
	return path, pruneSnapshots(dir, filepath.Base(path))
}

// pruneSnapshots removes the oldest of the snapshots that this program took by itself, but for the latest: the clock may have been set back
// since the others were taken.
func pruneSnapshots(dir, latest string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old snapshots: %w", err)
	}
	var own []string
	for _, e := range entries {
		if strings.Contains(e.Name(), autoMark) && strings.HasSuffix(e.Name(), snapshotSuffix) && e.Name() != latest && e.Type().IsRegular() {
			own = append(own, e.Name())
		}
	}
	slices.Sort(own)
	var errs []error
	for _, name := range own[:max(0, len(own)-keptSnapshots+1)] {
		errs = append(errs, os.Remove(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}
