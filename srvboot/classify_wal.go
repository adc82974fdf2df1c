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
	"syscall"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
)

// walFacts is what a write-ahead log holds.
type walFacts struct {
	nodeID, clusterID uint64
	// entries counts the raft entries, overwritten ones included.
	entries int
	// hardState says that a term, vote or commit index was persisted.
	hardState bool
	// lastIndex is the index of the last entry or snapshot.
	lastIndex uint64
	// lastSnapshot is the index of the newest snapshot that etcd would start from, 0 without one.
	lastSnapshot uint64
	// torn says that the last record was cut off, which a crash leaves and etcd repairs.
	torn bool
}

// errNoWAL says that etcd would find no log.
var errNoWAL = errors.New("no write-ahead log")

// walCache remembers the last log read by the names, sizes, times and inodes of its files.
type walCache struct {
	signature string
	facts     walFacts
	err       error
}

func (c *walCache) read(dir string) (walFacts, error) {
	signature, names, err := walFiles(dir)
	if err != nil {
		return walFacts{}, err
	}
	if signature != c.signature {
		c.facts, c.err = readWAL(dir, names)
		if c.signature = signature; errors.As(c.err, new(*fs.PathError)) { // of the file system, not of what is in the log
			c.signature = ""
		}
	}
	return c.facts, c.err
}

// walFiles lists the log's files in order, as etcd does: a file *.wal makes a log exist, whatever its name.
func walFiles(dir string) (signature string, names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, errNoWAL
	}
	if err != nil {
		return "", nil, err
	}
	var sig strings.Builder
	sig.WriteString(dir)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".wal") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return "", nil, err
		}
		var inode uint64
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = st.Ino
		}
		fmt.Fprintf(&sig, "\n%s %d %d %d", e.Name(), info.Size(), info.ModTime().UnixNano(), inode)
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		return "", nil, errNoWAL
	}
	slices.Sort(names)
	return sig.String(), names, nil
}

// parseWALName is etcd's (server/storage/wal/util.go).
func parseWALName(name string) (seq, index uint64, err error) {
	if _, err := fmt.Sscanf(name, "%016x-%016x.wal", &seq, &index); err != nil {
		return 0, 0, fmt.Errorf("%s is not named like a part of a log", name)
	}
	return seq, index, nil
}

// readWAL reads the whole log without locking or changing it. It accepts exactly what etcd would start from
// (server/storage/wal/wal.go ReadAll, ValidSnapshotEntries and repair.go): checksums chain through all files, only the
// last file may end in a torn record, and the entries after the newest valid snapshot have no gap.
func readWAL(dir string, names []string) (facts walFacts, err error) {
	// etcd's decoding helpers panic on a record whose checksum is right and whose content is not.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the log cannot be decoded: %v", p)
		}
	}()
	r := walReader{}
	first := uint64(0)
	for i, name := range names {
		seq, index, err := parseWALName(name)
		if err != nil {
			return walFacts{}, err
		}
		if i == 0 {
			first = index
		} else if seq != r.seq+1 {
			return walFacts{}, fmt.Errorf("a part of the log is missing before %s", name)
		}
		r.seq = seq
		if err := r.file(filepath.Join(dir, name), i == len(names)-1); err != nil {
			return walFacts{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return r.finish(first)
}

// walReader follows a log from file to file.
type walReader struct {
	facts    walFacts
	seq      uint64
	crc      uint32
	metadata []byte
	commit   uint64
	// last is the index of the last entry; gap the highest index missing just before an entry.
	last, gap uint64
	snapshots []uint64
}

func (r *walReader) file(path string, isLast bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only, nothing to lose
	d := wal.NewDecoder(fileutil.NewFileReader(f))
	d.UpdateCRC(r.crc)
	rec := &walpb.Record{}
	for err = d.Decode(rec); err == nil; err = d.Decode(rec) {
		if err := r.record(rec, d); err != nil {
			return fmt.Errorf("at byte %d: %w", d.LastOffset(), err)
		}
	}
	r.crc = d.LastCRC()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF) && isLast:
		r.facts.torn = true
		return nil
	}
	return fmt.Errorf("after byte %d: %w", d.LastOffset(), err)
}

func (r *walReader) record(rec *walpb.Record, d wal.Decoder) error {
	switch rec.GetType() {
	case wal.MetadataType:
		if r.metadata != nil && string(r.metadata) != string(rec.Data) {
			return wal.ErrMetadataConflict
		}
		r.metadata = slices.Clone(rec.Data)
	case wal.EntryType:
		index := wal.MustUnmarshalEntry(rec.Data).GetIndex()
		if index > r.last+1 {
			r.gap = max(r.gap, index-1)
		}
		r.last = index
		r.facts.entries++
	case wal.StateType:
		st := wal.MustUnmarshalState(rec.Data)
		r.commit = st.GetCommit()
		r.facts.hardState = r.facts.hardState || st.GetTerm()+st.GetVote()+st.GetCommit() > 0
	case wal.SnapshotType:
		var s walpb.Snapshot
		if err := proto.Unmarshal(rec.Data, &s); err != nil {
			return err
		}
		r.snapshots = append(r.snapshots, s.GetIndex())
	case wal.CrcType:
		if crc := d.LastCRC(); crc != 0 && rec.Validate(crc) != nil {
			return wal.ErrCRCMismatch
		}
		d.UpdateCRC(rec.GetCrc())
	default:
		return fmt.Errorf("unknown record type %d", rec.GetType())
	}
	return nil
}

// finish checks the log as a whole. first is the index in the name of its first file.
func (r *walReader) finish(first uint64) (walFacts, error) {
	var meta etcdserverpb.Metadata
	if err := proto.Unmarshal(r.metadata, &meta); err != nil || meta.GetNodeID() == 0 || meta.GetClusterID() == 0 {
		return walFacts{}, errors.New("the log names no member and cluster")
	}
	r.facts.nodeID, r.facts.clusterID = meta.GetNodeID(), meta.GetClusterID()
	for _, s := range r.snapshots {
		r.facts.lastIndex = max(r.facts.lastIndex, s)
		// A snapshot beyond the commit index was never confirmed; etcd passes over it.
		if s <= r.commit {
			r.facts.lastSnapshot = s
		}
	}
	r.facts.lastIndex = max(r.facts.lastIndex, r.last)
	if first > r.facts.lastSnapshot {
		return walFacts{}, fmt.Errorf("the log begins at index %d, after its newest valid snapshot at %d", first, r.facts.lastSnapshot)
	}
	if r.gap > r.facts.lastSnapshot {
		return walFacts{}, fmt.Errorf("the entry of index %d is missing", r.gap)
	}
	return r.facts, nil
}
