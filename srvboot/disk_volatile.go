package srvboot

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// volatileFS names the file system of path, or of the nearest directory above it that exists, if what it holds may
// not outlive a power cut; empty otherwise. An overlay is taken for a container's, which is thrown away with it.
func volatileFS(path string) (string, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			break
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return "", fmt.Errorf("file system of %s: %w", path, err)
		}
		path = parent
	}
	// The field's type differs between architectures; the magic numbers are 32 bits wide.
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs", nil
	case unix.RAMFS_MAGIC:
		return "ramfs", nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay", nil
	}
	return "", nil
}
