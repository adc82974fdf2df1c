package zone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// errSpoilt says that the file holds something else. It can be started over when the other nodes or the clock tell
// where the serials stand.
var errSpoilt error = &refusal{problem: "this is no record of the zone's serial",
	hint: "set the clock (timedatectl), or start another node first, so that a serial ahead of the lost one can be chosen"}

// recordFormat is the version of the file that keeps the serial.
const recordFormat = 1

// record is what a node remembers of its serials. Format 0 is no record.
type record struct {
	Format int `json:"format"`
	// Serial and Digest are what was served when the record was written.
	Serial uint32 `json:"serial"`
	Digest string `json:"digest"`
	// Reserved is the highest counter that may have been served since.
	Reserved uint32 `json:"reserved"`
}

// recordFile is where the record is kept.
type recordFile struct {
	path string
	// write puts content into path, durably or not at all; a test's disk is full here.
	write func(path string, content []byte) error
}

// load returns the record; none if there is no file yet.
func (f recordFile) load() (record, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read the zone's serial: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil || r.Format < 1 || r.Reserved > counterMask {
		return record{}, fmt.Errorf("read %s: %w", f.path, errSpoilt)
	}
	if r.Format > recordFormat {
		return record{}, refuse("run the newer etcd-dns", "the file %s has format %d, this etcd-dns knows up to %d", f.path, r.Format, recordFormat)
	}
	return r, nil
}

// save writes the record.
func (f recordFile) save(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the zone's serial: %w", err)
	}
	if err := f.write(f.path, append(b, '\n')); err != nil {
		return fmt.Errorf("record the zone's serial: %w", err)
	}
	return nil
}

// writeDurably replaces a file so that after a crash there is the old content or the new one, whole: temporary file,
// fsync, rename, fsync of the directory.
func writeDurably(path string, content []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
