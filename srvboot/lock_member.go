package srvboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	runDirName     = "run"
	memberLockFile = "member.lock"
	memberPIDFile  = "member.pid"
	// lockPoll is how often a held lock is tried again; flock(2) cannot wait with a context.
	lockPoll = 20 * time.Millisecond
	// lockNotice is how long a wait goes unmentioned, and how often it is mentioned.
	lockNotice = 2 * time.Second
)

// MemberLock is the lock on the etcd directory's use. The member's process inherits it, so it outlives a parent that
// was killed: no parent reads facts, renames or spawns before Acquire has returned nil. It is used by one goroutine.
type MemberLock struct {
	dir string
	log *zap.Logger
	f   *os.File
}

// NewMemberLock returns the lock of the data directory dir. It touches nothing.
func NewMemberLock(dir string, log *zap.Logger) *MemberLock {
	if log == nil {
		log = zap.NewNop()
	}
	return &MemberLock{dir: dir, log: log}
}

// Acquire takes the lock, and returns at once if this process has it. A member left over from an earlier parent, known
// by the pid and start time that Record wrote, is killed. Any other holder is waited for, and named in the log.
// flock's own record names the parent that took it, which is dead; the holder is who has the file open.
// The error is that of ctx, with the holder's name, or of the file system.
func (l *MemberLock) Acquire(ctx context.Context) error {
	if l.f != nil {
		return nil
	}
	f, err := l.open()
	if err != nil {
		return err
	}
	if err := l.wait(ctx, f); err != nil {
		return errors.Join(err, f.Close())
	}
	l.f = f
	return nil
}

func (l *MemberLock) open() (*os.File, error) {
	dir := filepath.Join(l.dir, runDirName)
	if err := os.MkdirAll(dir, stateDirMode); err != nil {
		return nil, fmt.Errorf("member lock: %w", err)
	}
	// The file is never replaced: the lock is on its inode.
	f, err := os.OpenFile(filepath.Join(dir, memberLockFile), os.O_RDWR|os.O_CREATE, stateFileMode)
	if err != nil {
		return nil, fmt.Errorf("member lock: %w", err)
	}
	return f, nil
}

func (l *MemberLock) wait(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	notice := time.NewTicker(lockNotice)
	defer notice.Stop()
	for killed := false; ; {
		err := flock(f)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("member lock %s: %w", f.Name(), err)
		}
		if !killed {
			killed = l.killLeftover(f)
		}
		select {
		case <-ctx.Done():
			return withHint(fmt.Errorf("the etcd directory of %s is still in use by %s: %w", l.dir, openHolders(f), ctx.Err()),
				"fuser -v %s; end that process", f.Name())
		case <-notice.C:
			l.log.Warn("waiting for the earlier etcd member to end", zap.String("holder", openHolders(f)))
		case <-tick.C:
		}
	}
}

// killLeftover kills the recorded member if it is the process that was recorded and has the lock file open, and
// reports whether it did.
func (l *MemberLock) killLeftover(f *os.File) bool {
	p, err := l.recorded()
	if err != nil {
		return false // nothing recorded, or nothing legible: wait
	}
	// The descriptor pins the process: what is checked now is what the signal reaches, however pids are used again.
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	now, err := lookProcess(p.PID)
	path, perr := realPath(f)
	if err != nil || perr != nil || now != p || p.PID == os.Getpid() || !hasOpen(p.PID, path) {
		return false
	}
	l.log.Warn("killing the etcd member that an earlier run left over", zap.Int("pid", p.PID))
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

func (l *MemberLock) recorded() (process, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, runDirName, memberPIDFile))
	if err != nil {
		return process{}, err
	}
	var p process
	if err := json.Unmarshal(data, &p); err != nil {
		return process{}, err
	}
	if p.PID <= 1 {
		return process{}, fmt.Errorf("recorded pid %d", p.PID)
	}
	return p, nil
}

// Record remembers the child that was given File, so that the next parent may kill it. Call it right after the start.
func (l *MemberLock) Record(pid int) error {
	p, err := lookProcess(pid)
	if err != nil {
		return fmt.Errorf("record the member's process: %w", err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("record the member's process: %w", err)
	}
	return durable.WriteFile(filepath.Join(l.dir, runDirName, memberPIDFile), append(data, '\n'), stateFileMode)
}

// File is the locked file, for the child to inherit (exec.Cmd.ExtraFiles); nil before Acquire. The child need only
// keep it open. The lock is held until this process and every child that has it have closed it or ended.
func (l *MemberLock) File() *os.File { return l.f }

// Release gives up this process's hold; a child's hold stays. It may be called more than once.
func (l *MemberLock) Release() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
