package srvboot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// etcdDir is what lies in the etcd data directory.
type etcdDir struct {
	data                Data
	memberID, clusterID string
	lastIndex           uint64
	cutOff              bool // see DiskFacts.CutOff
	// why says what was seen, for a person to read; empty for none. err is what was broken.
	why string
	err error
}

// classify tells what lies in etcd/. It opens everything read-only and takes no lock.
//
// etcd makes member/, member/snap/db, member/wal.tmp/ and at last renames that to member/wal/, and syncs member/
// (server/etcdserver/bootstrap.go bootstrap, storage/wal/wal.go Create). It asks of a directory only whether there is
// a file *.wal; with a database and no log it would start as new on the old keys. So a database without a log is
// broken, but for one case: nothing but what the first start makes before the log, beside the stamp of a marker
// whose member never reached its log.
func (d *Disk) classify(m *Marker) etcdDir {
	names, err := etcdEntries(d.EtcdDir())
	switch {
	case err != nil:
		return broken("%w", err)
	case len(names) == 0:
		return etcdDir{data: None}
	}
	stamp, err := d.readStamp()
	if err != nil {
		return broken("%w", err)
	}
	if !slices.Contains(names, memberDirName) {
		return classifyStamp(names, stamp, m)
	}
	log, err := d.wal.read(d.memberPath("wal"))
	switch {
	case errors.Is(err, errNoWAL):
		return d.classifyNoWAL(stamp, m)
	case err != nil:
		return broken("write-ahead log: %w", err)
	}
	return d.classifyWAL(log, m)
}

const memberDirName = "member"

func (d *Disk) memberPath(name string) string {
	return filepath.Join(d.EtcdDir(), memberDirName, name)
}

func broken(format string, args ...any) etcdDir {
	err := fmt.Errorf(format, args...)
	return etcdDir{data: Broken, why: err.Error(), err: err}
}

// etcdEntries lists what counts in the etcd directory: not what a file system itself makes at its root, nor data
// that was set aside within a mount, nor leftovers of a torn write of ours. No directory is no entry.
func etcdEntries(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		n := e.Name()
		if n == "lost+found" || strings.HasPrefix(n, asidePrefix) || strings.HasPrefix(n, "."+stampFile) {
			continue
		}
		names = append(names, n)
	}
	return names, nil
}

// classifyStamp is for a directory without member/.
func classifyStamp(names []string, stamp string, m *Marker) etcdDir {
	if len(names) != 1 || names[0] != stampFile {
		return broken("no member/ but %s", strings.Join(names, ", "))
	}
	if m != nil && m.Stamp != "" && m.Stamp == stamp {
		return etcdDir{data: Stamped, why: "only the stamp " + stamp}
	}
	if m == nil || !started(m.Phase) {
		// A crash after the stamp and before the marker that names it. Nothing can have run here yet, and the stamp
		// will be written again.
		return etcdDir{data: None}
	}
	return broken("only the stamp %s, but the marker in phase %s names stamp %q", stamp, m.Phase, m.Stamp)
}

// started reports whether a member may have run in that phase.
func started(p Phase) bool {
	return p != Fresh && p != Promised && p != Accepted
}

// classifyNoWAL is for a directory with member/ and without a file of the write-ahead log.
func (d *Disk) classifyNoWAL(stamp string, m *Marker) etcdDir {
	db, err := readDB(d.memberPath(filepath.Join("snap", "db")))
	if err != nil {
		return broken("no write-ahead log, and a database that cannot be read: %w", err)
	}
	if db == dbHasData {
		return broken("a database with data but no write-ahead log")
	}
	if what := d.beyondFirstStart(); what != "" {
		return broken("no write-ahead log, but %s", what)
	}
	if stamp == "" || m == nil || m.Stamp != stamp || (m.Phase != Born && m.Phase != Joining) {
		return broken("an empty database and no write-ahead log, without the stamp of a member that never ran")
	}
	return etcdDir{data: Stamped, cutOff: true, why: "the stamp " + stamp + " and a first start that was cut off before its log"}
}

// beyondFirstStart names an entry of member/ that a first start does not make before its log.
func (d *Disk) beyondFirstStart() string {
	expected := map[string]bool{"snap": true, "snap/db": true, "wal.tmp": true, "snap/tmp": true}
	for _, dir := range []string{"", "snap"} {
		entries, err := os.ReadDir(d.memberPath(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err.Error()
		}
		for _, e := range entries {
			if n := filepath.Join(dir, e.Name()); !expected[n] && e.Name() != touchFile {
				return filepath.Join(memberDirName, n)
			}
		}
	}
	return ""
}

// touchFile is what etcd writes and removes to see whether a directory is writable.
const touchFile = ".touch"

// classifyWAL is for a directory with a write-ahead log that etcd can read.
func (d *Disk) classifyWAL(log walFacts, m *Marker) etcdDir {
	out := etcdDir{memberID: hexID(log.nodeID), clusterID: hexID(log.clusterID), lastIndex: log.lastIndex}
	if m != nil {
		if why := notOurs(out, *m); why != "" {
			out.data, out.why = Alien, why
			return out
		}
	}
	if log.entries == 0 && !log.hardState && log.lastSnapshot == 0 {
		out.data, out.why = Stub, "a write-ahead log without an entry"
		return out
	}
	db, err := checkDB(d.memberPath(filepath.Join("snap", "db")))
	switch {
	case err != nil:
		out.data, out.why, out.err = Broken, fmt.Sprintf("a write-ahead log up to index %d, but %v", log.lastIndex, err), err
	case !db:
		out.data, out.why = Broken, fmt.Sprintf("a write-ahead log up to index %d, but no database", log.lastIndex)
	default:
		out.data, out.why = HasMember, fmt.Sprintf("member %s of cluster %s up to index %d", out.memberID, out.clusterID, log.lastIndex)
	}
	return out
}

// notOurs says how the IDs of the log differ from those of the marker. A marker that knows no ID is of a node that
// never had a member, so any log is another one's.
func notOurs(log etcdDir, m Marker) string {
	memberID, clusterID := m.MemberID, ""
	if m.Accepted != nil {
		clusterID = m.Accepted.Genesis.ClusterID
		if memberID == "" {
			_, byName, err := IDs(m.Accepted.Genesis.Members, m.Accepted.Genesis.ID)
			if err != nil {
				return fmt.Sprintf("the marker's genesis cannot be read: %v", err)
			}
			memberID = byName[m.Node]
		}
	}
	switch {
	case memberID == "" && clusterID == "":
		return fmt.Sprintf("the write-ahead log is of member %s of cluster %s, but the marker (phase %s) has had no member",
			log.memberID, log.clusterID, m.Phase)
	case memberID != "" && memberID != log.memberID:
		return fmt.Sprintf("the write-ahead log is of member %s, but the marker is of member %s", log.memberID, memberID)
	case clusterID != "" && clusterID != log.clusterID:
		return fmt.Sprintf("the write-ahead log is of cluster %s, but the marker is of cluster %s", log.clusterID, clusterID)
	}
	return ""
}
