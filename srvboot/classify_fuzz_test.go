package srvboot

import (
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// FuzzWAL: whatever a disk gives back, reading it neither panics nor changes it, and a log without IDs is refused.
func FuzzWAL(f *testing.F) {
	const name = "0000000000000000-0000000000000000.wal"
	dir := filepath.Join(f.TempDir(), "wal")
	old := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = 4 << 10
	defer func() { wal.SegmentSizeBytes = old }()
	w, err := wal.Create(nil, dir, []byte{8, 1, 16, 2})
	if err == nil {
		err = w.Close()
	}
	seed, rerr := os.ReadFile(filepath.Join(dir, name))
	if err != nil || rerr != nil {
		f.Fatal(err, rerr)
	}
	f.Add(seed)
	f.Add(seed[:100])
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		do(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		facts, err := readWAL(dir, []string{name})
		if err == nil && (facts.nodeID == 0 || facts.clusterID == 0) {
			t.Errorf("accepted a log without IDs: %+v", facts)
		}
		after, rerr := os.ReadFile(filepath.Join(dir, name))
		if rerr != nil || string(after) != string(data) {
			t.Error("the log changed")
		}
	})
}

// FuzzDB: a damaged database is an error, never a crash, and never empty when it is longer than a new one.
func FuzzDB(f *testing.F) {
	path := filepath.Join(f.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		f.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("key"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	}); err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	// The database is patched rather than replaced, so that its checksums often still hold.
	f.Add(0, []byte{})
	f.Add(4096*2+8, []byte{0xff, 0xff})
	f.Add(4096*3, []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, offset int, patch []byte) {
		data := append([]byte{}, seed...)
		if offset >= 0 && offset < len(data) {
			copy(data[offset:], patch)
		}
		path := filepath.Join(t.TempDir(), "db")
		do(t, os.WriteFile(path, data, 0o600))
		c, err := readDB(path)
		if len(patch) == 0 && (err != nil || c != dbHasData) {
			t.Errorf("undamaged: %v, %v", c, err)
		}
	})
}
