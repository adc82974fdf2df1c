// Package durable writes small files so that a power cut leaves the old content or the new one, never a part of either.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempMark is in the name of every temporary file, so that leftovers of a crash can be told from real files.
const tempMark = ".tmp-"

// WriteFile replaces path with data: a temporary file in the same directory, fsync, rename, fsync of the directory.
// Readers see the old content or the new one at every instant. When it returns nil, the new content survives a power
// cut. On an error before the rename the old file is untouched; a failed fsync of the directory is reported too,
// although the new content is then already visible. The directory must exist. perm is applied regardless of the umask.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return WriteWith(path, perm, whole(data))
}

// WriteWith is WriteFile for content that write makes. An error of write leaves the old file untouched.
func WriteWith(path string, perm fs.FileMode, write func(io.Writer) error) error {
	temp, err := writeTemp(path, perm, write)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// Create is WriteFile for a path that must not exist yet; it never overwrites. If the path exists (a dangling symbolic
// link counts), the error matches fs.ErrExist and nothing changed. Of several concurrent callers exactly one succeeds.
func Create(path string, data []byte, perm fs.FileMode) error {
	temp, err := writeTemp(path, perm, whole(data))
	if err != nil {
		return err
	}
	// link(2), unlike rename(2), fails when the new name exists, and the name appears with its whole content.
	err = os.Link(temp, path)
	if err = errors.Join(err, os.Remove(temp)); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Overwrite writes data into the file path, which exists and has as many octets. It needs no room on most file systems
// (those that never write in place may refuse), but a power cut in the middle of it may leave a mixture: the reader has to
// be able to tell, by a checksum.
func Overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("overwrite: %w", err)
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != int64(len(data))) {
		err = fmt.Errorf("overwrite %s: it is no file of %d octets", path, len(data))
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the directory's entries (files created, renamed or removed in it) survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// RemoveTemps deletes what a crash in the middle of WriteFile or Create left in dir. Only the directory's owner may
// call it, while nothing writes there. A missing directory is fine.
func RemoveTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), tempMark) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func whole(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// writeTemp leaves what write makes, synced, in a new file beside path and returns its name. On error nothing is left behind.
func writeTemp(path string, perm fs.FileMode, write func(io.Writer) error) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+tempMark+"*") // O_EXCL, 0600
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, cause(err))
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, cause(err)), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// cause leaves out the name of the temporary file, which is another one at each try: who tries again logs an error once.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
