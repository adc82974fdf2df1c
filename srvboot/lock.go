package srvboot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LockOptions says what a run of a node locks.
type LockOptions struct {
	// Dir is the node's data directory; it is made if it does not exist.
	Dir string
	// Domain and Node name the run: two runs of one name in one network namespace exclude each other whatever their
	// data directories.
	Domain, Node string
}

// NodeLock says that this is the only run of its node. The kernel releases it when the process ends.
type NodeLock struct {
	dir    *os.File
	socket int
}

// LockNode locks the data directory's inode with flock(2), and the node's name with an abstract unix socket. It does
// not wait; the error names the process that holds the lock.
func LockNode(o LockOptions) (*NodeLock, error) {
	if err := os.MkdirAll(o.Dir, stateDirMode); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	dir, err := os.Open(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := flock(dir); err != nil {
		holder := fileHolder(dir)
		return nil, errors.Join(lockedError(err, "the data directory "+o.Dir, holder), dir.Close())
	}
	socket, err := bindName(socketName(o))
	if err != nil {
		holder := socketNameHolder(socketName(o))
		return nil, errors.Join(lockedError(err, fmt.Sprintf("the name %s of %s", o.Node, o.Domain), holder), dir.Close())
	}
	return &NodeLock{dir: dir, socket: socket}, nil
}

// Close releases the lock.
func (l *NodeLock) Close() error {
	return errors.Join(unix.Close(l.socket), l.dir.Close())
}

func lockedError(err error, what, holder string) error {
	if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("lock %s: %w", what, err)
	}
	return withHint(fmt.Errorf("%s is in use by %s: %w", what, holder, err),
		"systemctl status etcd-dns; stop the other run, or give this one another name and data directory")
}

// flock takes the exclusive lock without waiting.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// maxSocketName is the space in sockaddr_un for an abstract name, without its leading zero byte (unix(7)).
const maxSocketName = 107

// socketName is the abstract socket's name, in the form with a leading @. A name too long for the kernel is hashed.
func socketName(o LockOptions) string {
	name := "etcd-dns/" + strings.ToLower(strings.TrimSuffix(o.Domain, ".")) + "/" + strings.ToLower(o.Node)
	if len(name) > maxSocketName {
		name = fmt.Sprintf("etcd-dns/%x", sha256.Sum256([]byte(name)))
	}
	return "@" + name
}

// bindName binds without listening, so that nobody can connect.
func bindName(name string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// socketNameHolder names the process that has the abstract socket.
func socketNameHolder(name string) string {
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return unseenHolder
	}
	var inodes []string
	for line := range strings.Lines(string(data)) {
		// Num RefCount Protocol Flags Type St Inode Path
		if f := strings.Fields(line); len(f) == 8 && f[7] == name {
			inodes = append(inodes, f[6])
		}
	}
	if len(inodes) == 0 {
		return unseenHolder
	}
	return socketHolders(inodes)
}
