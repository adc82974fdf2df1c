package srvboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"go.uber.org/zap"
)

// The files and directories below the data directory that this package owns.
const (
	markerFile   = "genesis.json"
	identityFile = "identity.json"
	seenFile     = "seen.json"
	etcdDirName  = "etcd"
)

const (
	// stateFileMode and stateDirMode keep everybody but the daemon's user out; etcd warns about anything wider.
	stateFileMode fs.FileMode = 0o600
	stateDirMode  fs.FileMode = 0o700
)

// DiskOptions says whose memory a Disk is.
type DiskOptions struct {
	// Dir is the node's data directory; it must exist before anything is saved (LockNode makes it).
	Dir string
	// Node, Bundle and SrvName are what a marker must name; a marker of another one is refused. Empty ones are not compared.
	Node, Bundle, SrvName string
	Log                   *zap.Logger
}

// Disk is the Storage on the node's own file system. It is used by one goroutine at a time, in a process that holds
// the NodeLock of Dir.
type Disk struct {
	o DiskOptions
	// wal is what the write-ahead log held when it was last read, so that an unchanged one is not read again.
	wal walCache
}

var _ Storage = (*Disk)(nil)

// NewDisk returns the memory in o.Dir. It touches nothing.
func NewDisk(o DiskOptions) *Disk {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Disk{o: o}
}

// EtcdDir is the etcd data directory.
func (d *Disk) EtcdDir() string { return d.path(etcdDirName) }

func (d *Disk) path(name string) string { return filepath.Join(d.o.Dir, name) }

// Facts reads everything anew. Damage is part of the facts; the error says only that the data directory as such
// cannot be read. Read them while no member runs: a log that is being written looks torn, which is harmless, and
// reading it costs time.
func (d *Disk) Facts() (DiskFacts, error) {
	if _, err := os.ReadDir(d.o.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return DiskFacts{}, withHint(fmt.Errorf("data directory: %w", err),
			"ls -ld %s; the user of the service must own it", d.o.Dir)
	}
	var f DiskFacts
	var bad error
	f.Marker, f.Identity, f.Seen, bad = d.load()
	f.MemoryError, f.MemoryHint = explained(bad)

	class := d.classify(f.Marker)
	if err := errors.Join(bad, class.err); errors.Is(err, fs.ErrPermission) { // not damage: what a person put there as another user, such as a backup
		return DiskFacts{}, withHint(err, "find %s ! -user USER, of the service's USER, and chown what that shows", d.o.Dir)
	}
	f.Data, f.CutOff, f.MemberID, f.ClusterID, f.LastIndex = class.data, class.cutOff, class.memberID, class.clusterID, class.lastIndex
	if f.Data == Broken {
		f.Why = class.why
	}
	f.Evidence = d.evidence(f, class)

	if f.Marker != nil && f.Marker.EtcdDevice != 0 {
		device, err := d.EtcdDevice()
		if err != nil {
			return DiskFacts{}, err
		}
		f.DeviceChanged = device != f.Marker.EtcdDevice
	}
	volatile, err := volatileFS(d.EtcdDir())
	if err != nil {
		return DiskFacts{}, err
	}
	f.Volatile = volatile
	return f, nil
}

// load reads the three files. bad says which of them are there and cannot be used, and why; such a file is never
// taken for an absent one.
func (d *Disk) load() (marker *Marker, id Identity, seen Seen, bad error) {
	var m Marker
	found, markerErr := d.read(markerFile, &m)
	if markerErr == nil && found {
		if markerErr = d.mine(m); markerErr == nil {
			marker = &m
		}
	}
	_, idErr := d.read(identityFile, &id)
	_, seenErr := d.read(seenFile, &seen)
	return marker, id, seen, errors.Join(markerErr, idErr, seenErr)
}

// stateFile is what the three files have in common.
type stateFile interface {
	json.Unmarshaler
	validate() error
}

// read reports whether the file is there. A file that is there but unusable is an error that quotes its beginning.
func (d *Disk) read(name string, into stateFile) (found bool, err error) {
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("%s: %w", name, err)
	}
	if err = decodeState(data, into); err != nil {
		return true, fmt.Errorf("%s: %w", d.path(name), err)
	}
	return true, nil
}

// mine reports why a marker is not this node's.
func (d *Disk) mine(m Marker) error {
	for _, c := range []struct{ what, got, want string }{
		{"node", m.Node, d.o.Node}, {"bundle", m.Bundle, d.o.Bundle},
	} {
		if c.want != "" && c.got != c.want {
			return withHint(fmt.Errorf("%s is of %s %q, but this node runs as %s %q", d.path(markerFile), c.what, c.got, c.what, c.want), "%s", hintForeign)
		}
	}
	// The default cluster has the empty srv-name, so emptiness cannot mean "not compared" once the node is known.
	if d.o.Node != "" && m.SrvName != d.o.SrvName {
		return withHint(fmt.Errorf("%s is of srv-name %q, but this node runs for srv-name %q", d.path(markerFile), m.SrvName, d.o.SrvName), "%s", hintForeign)
	}
	return nil
}

// SaveMarker makes the marker durable. It refuses one that it could not read back.
func (d *Disk) SaveMarker(m Marker) error {
	m.Format = Format
	if err := d.mine(m); err != nil {
		return fmt.Errorf("save the marker: %w", err)
	}
	return d.write(markerFile, &m)
}

// SaveSeen makes what is remembered of the others durable.
func (d *Disk) SaveSeen(s Seen) error {
	s.Format = Format
	return d.write(seenFile, &s)
}

func (d *Disk) write(name string, v stateFile) error {
	if err := v.validate(); err != nil {
		return fmt.Errorf("save %s: %w", d.path(name), err)
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("save %s: %w", d.path(name), err)
	}
	if err := durable.WriteFile(d.path(name), append(data, '\n'), stateFileMode); err != nil {
		return withHint(err, "df -h %s; ls -ld %s", d.o.Dir, d.o.Dir)
	}
	return nil
}
