package certs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxBundleSize keeps a wrong path from filling the memory.
const maxBundleSize = 4 << 20

// LoadBundle reads a bundle file. It refuses a file that others than its owner and group can read or that its group
// can write, a format newer than it knows, and content that its root did not sign; every error has a hint. Files in the
// directory of systemd credentials ($CREDENTIALS_DIRECTORY) are guarded by that directory, whatever their mode.
func LoadBundle(path string) (*Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openHint(path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	fi, err := f.Stat()
	if err != nil {
		return nil, openHint(path, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, withHint("set `bundle` to the file cluster.bundle that etcd-dns init wrote", "bundle %s: not a regular file", path)
	}
	if perm := fi.Mode().Perm(); perm&0o027 != 0 && !isCredential(path) {
		return nil, withHint("chmod 0600 "+path,
			"bundle %s: mode %04o lets others read it or its group write it, want at most 0640", path, perm)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxBundleSize+1))
	if err != nil {
		return nil, withHint("check the disk: dmesg --level err", "bundle %s: %w", path, err)
	}
	if len(raw) > maxBundleSize {
		return nil, withHint(damagedHint, "bundle %s: larger than %d octets", path, maxBundleSize)
	}
	b, err := openBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func openHint(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withHint("copy cluster.bundle, which etcd-dns init wrote, to "+path, "bundle: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return withHint("chown it to the user that runs etcd-dns, then: chmod 0600 "+path, "bundle: %w", err)
	}
	return withHint("set `bundle` to the file cluster.bundle that etcd-dns init wrote", "bundle: %w", err)
}

// isCredential says whether path is a file right below systemd's credentials directory.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return filepath.IsAbs(dir) && filepath.Dir(filepath.Clean(path)) == filepath.Clean(dir)
}

// RootKeyFile is the name that init gives the root's private key.
const RootKeyFile = "root.key"

// RootKeyBeside returns the path of a root key in the bundle's own directory, symbolic links followed. A node must not
// start beside it. An unreadable directory counts as having none.
func RootKeyBeside(bundlePath string) (path string, found bool) {
	dirs := []string{filepath.Dir(bundlePath)}
	if real, err := filepath.EvalSymlinks(bundlePath); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, RootKeyFile)
		if _, err := os.Lstat(path); err == nil {
			return path, true
		}
	}
	return "", false
}
