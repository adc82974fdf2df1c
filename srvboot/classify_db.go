package srvboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// dbContent is what a database without a log holds.
type dbContent int

const (
	// dbEmpty: nothing was ever applied, or there is no database.
	dbEmpty dbContent = iota
	dbHasData
)

// freshDBSize is the size of the four pages that bbolt writes at once into a new file (bbolt db.go init), with the
// largest page size of a supported machine, 64 KiB.
const freshDBSize = 4 << 16

// dbLockWait bounds the wait for the shared lock that bbolt takes; who reads facts holds the member lock, so nothing
// else should have the database open.
const dbLockWait = 100 * time.Millisecond

// readDB tells whether anything was ever applied to a database that has no log beside it.
func readDB(path string) (c dbContent, err error) {
	found, err := checkDB(path)
	if err != nil {
		if zero, zerr := allZero(path); zerr == nil && zero {
			return dbEmpty, nil // a power cut before the first sync
		}
		return 0, err
	}
	if !found {
		return dbEmpty, nil
	}
	// bbolt maps the file: a page that points outside it faults, and one with nonsense panics.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: damaged: %v", path, p)
		}
	}()
	db, err := bbolt.Open(path, stateFileMode, &bbolt.Options{ReadOnly: true, Timeout: dbLockWait})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close() // read only
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			if k, _ := b.Cursor().First(); k != nil {
				c = dbHasData
			}
			return nil
		})
	})
	return c, err
}

func allZero(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > freshDBSize {
		return false, err
	}
	data, err := os.ReadFile(path)
	return len(bytes.Trim(data, "\x00")) == 0, err
}

// The layout of a bbolt meta page (bbolt internal/common page.go, meta.go), in the byte order of the machine.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltPageHeader = 16
	boltMetaSize   = 64
	// boltMinPage and boltMaxPage are the page sizes that bbolt looks for the second meta page at.
	boltMinPage, boltMaxPage = 1 << 10, 1 << 24
)

// boltMeta is the part of a meta page that tells whether the file is whole.
type boltMeta struct {
	pageSize uint32
	// pages is the number of pages in use, so that the file must be at least pages*pageSize long.
	pages, txid uint64
}

// checkDB reports whether there is a database, and an error if it is one that etcd could not open: without a valid
// meta page, or shorter than its newest one says. It takes no lock, so it may run beside a member.
func checkDB(path string) (found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return true, err
	}
	best, ok := metaAt(f, 0)
	for page := int64(boltMinPage); page <= boltMaxPage && page < info.Size(); page *= 2 {
		m, valid := metaAt(f, page)
		if valid && int64(m.pageSize) == page && (!ok || m.txid > best.txid) {
			best, ok = m, true
		}
	}
	switch {
	case !ok:
		return true, fmt.Errorf("%s (%d bytes) is not a database or its head is damaged", path, info.Size())
	case best.pages > uint64(info.Size())/uint64(best.pageSize):
		return true, fmt.Errorf("%s is cut off: %d bytes, but it has %d pages of %d", path, info.Size(), best.pages, best.pageSize)
	}
	return true, nil
}

// metaAt reads the meta page at that offset; valid is false if there is none.
func metaAt(f *os.File, offset int64) (m boltMeta, valid bool) {
	var b [boltMetaSize]byte
	if _, err := f.ReadAt(b[:], offset+boltPageHeader); err != nil {
		return m, false
	}
	sum := fnv.New64a()
	sum.Write(b[:boltMetaSize-8])
	order := binary.NativeEndian
	m = boltMeta{pageSize: order.Uint32(b[8:]), pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:])}
	return m, order.Uint32(b[:]) == boltMagic && order.Uint32(b[4:]) == boltVersion && m.pageSize > 0 &&
		order.Uint64(b[boltMetaSize-8:]) == sum.Sum64()
}
