package member

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
)

// headRecords is how many records a segment may have before its metadata: a CRC seed (etcd server/storage/wal/wal.go
// Create and cut).
const headRecords = 2

// readWALIdentity reads the IDs that every segment of a write-ahead log carries at its head, from the last segment.
func readWALIdentity(dir string) (identity, error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(segments) == 0 {
		return identity{}, fmt.Errorf("%s has no segment of a write-ahead log", dir)
	}
	path := slices.Max(segments)
	f, err := os.Open(path)
	if err != nil {
		return identity{}, fmt.Errorf("open the write-ahead log: %w", err)
	}
	defer f.Close()
	dec := wal.NewDecoderAdvanced(true, fileutil.NewFileReader(f))
	for range headRecords {
		var rec walpb.Record
		if err := dec.Decode(&rec); err != nil {
			return identity{}, fmt.Errorf("read the head of %s: %w", path, err)
		}
		if rec.GetType() != wal.MetadataType {
			dec.UpdateCRC(rec.GetCrc())
			continue
		}
		var meta etcdserverpb.Metadata
		if err := proto.Unmarshal(rec.GetData(), &meta); err != nil {
			return identity{}, fmt.Errorf("read the IDs in %s: %w", path, err)
		}
		return identity{cluster: hexID(meta.GetClusterID()), member: hexID(meta.GetNodeID())}, nil
	}
	return identity{}, fmt.Errorf("%s has no metadata record at its head", path)
}

// hexID prints an etcd ID as srvboot does, in full width.
func hexID(id uint64) string { return fmt.Sprintf("%016x", id) }
