package zone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

// errSpoilt says that the file holds something else. It can be started over when the other nodes or the clock tell
// where the serials stand.
var errSpoilt error = &refusal{problem: "this is no record of the zone's serial",
	hint: "set the clock (timedatectl), or start another node first, so that a serial ahead of the lost one can be chosen"}

const (
	// recordFormat is the version of the file that keeps the serial.
	recordFormat = 1
	// recordSize is the length of the file in octets, a sector: always the same, so that it can be overwritten in place.
	recordSize = 512
)

// record is what a node remembers of its serials. Format 0 is no record.
type record struct {
	Format int `json:"format"`
	// Serial and Digest are what was served when the record was written.
	Serial uint32 `json:"serial"`
	Digest string `json:"digest"`
	// Reserved is the highest counter that may have been served since.
	Reserved uint32 `json:"reserved"`
	// Sum is the CRC-32 of the others: a record that was half overwritten is none.
	Sum uint32 `json:"sum"`
}

func (r record) sum() uint32 {
	return crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %d %q %d", r.Format, r.Serial, r.Digest, r.Reserved))
}

// recordFile is where the record is kept.
type recordFile struct {
	path string
	// write is writeRecord; a test's disk is full here.
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
	err = json.Unmarshal(b, &r)
	switch {
	case err == nil && r.Format > recordFormat:
		return record{}, refuse("run the newer etcd-dns", "the file %s has format %d, this etcd-dns knows up to %d", f.path, r.Format, recordFormat)
	case err != nil || r.Format < 1 || r.Reserved > counterMask || r.Sum != r.sum():
		return record{}, fmt.Errorf("read %s: %w", f.path, errSpoilt)
	}
	return r, nil
}

// save writes the record.
func (f recordFile) save(r record) error {
	r.Sum = r.sum()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the zone's serial: %w", err)
	}
	content := bytes.Repeat([]byte{' '}, recordSize)
	copy(content, b)
	content[recordSize-1] = '\n'
	if err := f.write(f.path, content); err != nil {
		return fmt.Errorf("record the zone's serial (df -h %s): %w", filepath.Dir(f.path), err)
	}
	return nil
}

// writeRecord replaces the file or, where a full disk has no room for a second one, overwrites it: a node that could not
// record what it serves would go back to an older serial at its next start.
func writeRecord(path string, content []byte) error {
	err := durable.WriteFile(path, content, 0o600)
	if err == nil || durable.Overwrite(path, content) == nil {
		return nil
	}
	return err
}
