package srvboot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"go.uber.org/zap"
)

const (
	// stampFile is the file in the etcd directory that holds the nonce.
	stampFile = "stamp"
	// asidePrefix begins the name of data set aside within an etcd directory that is a mount point or a link.
	asidePrefix = "aside-"
	// asideTime is UTC and sorts by time.
	asideTime = "20060102T150405Z"
	// maxStampSize bounds what is read of a stamp, in bytes.
	maxStampSize = 256
	// maxWhy bounds the reason in a file name, in bytes.
	maxWhy = 40
)

// Stamp makes the etcd directory with a stamp of that nonce and nothing else, and forgets the raft index that the
// node has reached, because a new log begins. The directory may exist if it holds nothing or only a stamp. All is
// durable when it returns.
func (d *Disk) Stamp(nonce string) (device uint64, err error) {
	if nonce == "" || strings.TrimSpace(nonce) != nonce || len(nonce) >= maxStampSize {
		return 0, fmt.Errorf("stamp: the nonce %q is not a word", nonce)
	}
	names, err := etcdEntries(d.EtcdDir())
	if err != nil {
		return 0, fmt.Errorf("stamp: %w", err)
	}
	if i := slices.IndexFunc(names, func(n string) bool { return n != stampFile }); i >= 0 {
		return 0, fmt.Errorf("stamp: %s is in use: it holds %s", d.EtcdDir(), names[i])
	}
	// Before the directory: a remembered index beyond the new log would read as a log that was rolled back.
	if err := d.forgetIndex(); err != nil {
		return 0, fmt.Errorf("stamp: %w", err)
	}
	if err := os.Mkdir(d.EtcdDir(), stateDirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("stamp: %w", err)
	}
	if err := durable.SyncDir(d.o.Dir); err != nil {
		return 0, fmt.Errorf("stamp: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(d.EtcdDir(), stampFile), []byte(nonce+"\n"), stateFileMode); err != nil {
		return 0, fmt.Errorf("stamp: %w", err)
	}
	return d.EtcdDevice()
}

// readStamp returns the nonce, empty without a stamp.
func (d *Disk) readStamp() (string, error) {
	path := filepath.Join(d.EtcdDir(), stampFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	nonce := strings.TrimSuffix(string(data), "\n")
	if nonce == "" || len(data) > maxStampSize || strings.ContainsAny(nonce, "\x00\n") {
		return "", fmt.Errorf("%s is damaged (%d bytes)", path, len(data))
	}
	return nonce, nil
}

// EtcdDevice is the device number of the file system that the etcd directory is on, or would be made on.
func (d *Disk) EtcdDevice() (uint64, error) {
	dev, err := deviceOf(d.EtcdDir())
	if errors.Is(err, fs.ErrNotExist) {
		dev, err = deviceOf(d.o.Dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return dev, err
}

func deviceOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no device number", path)
	}
	return uint64(st.Dev), nil
}

// SetAside keeps the etcd directory under another name, etcd.aside-TIME-WHY, and returns that path. It deletes
// nothing. Data in a mount point or behind a symbolic link cannot change its directory without changing its disk, so
// it goes to etcd/aside-TIME-WHY. Without a directory there is nothing to do and path is empty.
func (d *Disk) SetAside(why string) (path string, err error) {
	names, err := etcdEntries(d.EtcdDir())
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	info, err := os.Lstat(d.EtcdDir())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	inPlace, err := d.mustStay(info)
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	if inPlace {
		if len(names) == 0 {
			return "", nil
		}
		path, err = setAsideWithin(d.EtcdDir(), asideName(why), names)
	} else {
		path, err = unusedPath(d.EtcdDir() + "." + asideName(why))
		if err == nil {
			err = errors.Join(os.Rename(d.EtcdDir(), path), durable.SyncDir(d.o.Dir))
		}
	}
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	d.o.Log.Warn("etcd data set aside", zap.String("path", path), zap.String("why", why))
	return path, nil
}

// SetAsideStart keeps what a first start that was cut off before its log has left (DiskFacts.CutOff), as SetAside does, and
// leaves the stamp: the next start is a first one still.
func (d *Disk) SetAsideStart(why string) (path string, err error) {
	// Within etcd/, as for a mount: nothing has to change its disk, and what counts there leaves it out (etcdEntries).
	path, err = unusedPath(filepath.Join(d.EtcdDir(), asideName(why)))
	if err == nil {
		err = moveEntries(d.EtcdDir(), path, memberDirName)
	}
	if err != nil {
		return "", fmt.Errorf("set aside a start: %w", err)
	}
	return path, nil
}

func asideName(why string) string {
	return asidePrefix + time.Now().UTC().Format(asideTime) + "-" + fileWord(why)
}

// mustStay reports whether the etcd directory is a mount point or a symbolic link.
func (d *Disk) mustStay(etcd fs.FileInfo) (bool, error) {
	if etcd.Mode()&fs.ModeSymlink != 0 {
		return true, nil
	}
	parent, err := deviceOf(d.o.Dir)
	if err != nil {
		return false, err
	}
	own, err := deviceOf(d.EtcdDir())
	return own != parent, err
}

// setAsideWithin moves the entries one by one. The stamp goes first: a crash in between must not leave a stamp alone,
// which would say that no member ever ran here.
func setAsideWithin(dir, name string, names []string) (string, error) {
	path, err := unusedPath(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	slices.SortFunc(names, func(a, b string) int {
		switch stampFile {
		case a:
			return -1
		case b:
			return 1
		}
		return strings.Compare(a, b)
	})
	return path, moveEntries(dir, path, names...)
}

// moveEntries makes the directory path, and moves entries of dir to it, each durably before the next.
func moveEntries(dir, path string, names ...string) error {
	if err := os.Mkdir(path, stateDirMode); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	for _, n := range names {
		if err := os.Rename(filepath.Join(dir, n), filepath.Join(path, n)); err != nil {
			return err
		}
		if err := errors.Join(durable.SyncDir(path), durable.SyncDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// unusedPath returns path or path-2, path-3, …: the first that does not exist.
func unusedPath(path string) (string, error) {
	for n := 1; ; n++ {
		p := path
		if n > 1 {
			p = fmt.Sprintf("%s-%d", path, n)
		}
		_, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return p, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// fileWord makes a reason fit for a file name.
func fileWord(why string) string {
	w := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, why)
	w = strings.Trim(w, "-")
	if len(w) > maxWhy {
		w = strings.TrimRight(w[:maxWhy], "-")
	}
	if w == "" {
		return "unnamed"
	}
	return w
}
