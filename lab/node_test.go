//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopLimit is how long a node may take to shut down.
const stopLimit = 10 * time.Second

// node is a host of the rack with what runs on it.
type node struct {
	*host
	proc *process
}

func (n *node) data() string { return filepath.Join(n.dir, "data") }

func (n *node) up() bool { return n.proc != nil && n.proc.running() }

func (l *Lab) node(name string) *node {
	l.t.Helper()
	n := l.nodes[name]
	if n == nil {
		l.t.Fatalf("no node %s", name)
	}
	return n
}

// Start starts a node and returns at once.
func (l *Lab) Start(name string) {
	l.t.Helper()
	n := l.node(name)
	if n.up() {
		l.t.Fatalf("%s already runs", name)
	}
	argv, env := l.flavor.argv(l, n)
	p, err := spawn(n.host, "log", argv, env...)
	if err != nil {
		l.t.Fatal(err)
	}
	n.proc = p
}

// StartAll starts every node that does not run.
func (l *Lab) StartAll() {
	l.t.Helper()
	for _, name := range l.names {
		if !l.node(name).up() {
			l.Start(name)
		}
	}
}

// Stop shuts a node down as systemd does, and fails the test if that takes more than ten seconds, leaves a process
// behind or ends in an error.
func (l *Lab) Stop(name string) {
	l.t.Helper()
	n := l.node(name)
	if !n.up() {
		l.t.Fatalf("%s does not run", name)
	}
	if err := n.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	if !n.proc.ended(stopLimit) {
		l.t.Fatalf("%s did not stop within %v", name, stopLimit)
	}
	if n.proc.err != nil {
		l.t.Errorf("%s stopped with %v:\n%s", name, n.proc.err, tail(l.Log(name), 5))
	}
	if pids, err := pidsIn(n.ns); err != nil || len(pids) > 0 {
		l.t.Errorf("%s left processes %v behind (%v)", name, pids, err)
	}
}

// Kill is kill -9 of a whole node, parent and member, as a power cut would.
func (l *Lab) Kill(names ...string) {
	l.t.Helper()
	for _, name := range names {
		for _, pid := range l.pids(name) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, name := range names {
		n := l.node(name)
		if err := killAll(n.ns); err != nil {
			l.t.Fatal(err)
		}
		if n.proc != nil && !n.proc.ended(stopLimit) {
			l.t.Fatalf("%s does not die", name)
		}
	}
}

// KillAll is a power cut of the whole rack.
func (l *Lab) KillAll() {
	l.t.Helper()
	l.Kill(l.names...)
}

// pids are the node's processes, the parent first so that nothing is started again while they are killed.
func (l *Lab) pids(name string) []int {
	l.t.Helper()
	n := l.node(name)
	pids, err := pidsIn(n.ns)
	if err != nil {
		l.t.Fatal(err)
	}
	if n.up() {
		pids = append([]int{n.proc.cmd.Process.Pid}, pids...)
	}
	return pids
}

// PID is the process id of a node's parent process.
func (l *Lab) PID(name string) int {
	l.t.Helper()
	n := l.node(name)
	if !n.up() {
		l.t.Fatalf("%s does not run", name)
	}
	return n.proc.cmd.Process.Pid
}

// MemberPID is the member process that has a node's etcd data open, 0 when none has: a child that was only started ahead of
// time is no member yet, and a parent that has it open only reads what is there.
func (l *Lab) MemberPID(name string) int {
	l.t.Helper()
	n := l.node(name)
	data := filepath.Join(n.data(), "etcd") + "/"
	for _, pid := range l.pids(name) {
		if n.up() && pid == n.proc.cmd.Process.Pid {
			continue
		}
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, data) && strings.Contains(to, "/member/") {
				return pid
			}
		}
	}
	return 0
}

// KillMember is kill -9 of a node's etcd member alone. It returns the process id that was.
func (l *Lab) KillMember(name string) int {
	l.t.Helper()
	pid := l.MemberPID(name)
	if pid == 0 {
		l.t.Fatalf("%s has no member", name)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	return pid
}

// Signal sends a signal to a node's parent process.
func (l *Lab) Signal(name string, sig syscall.Signal) {
	l.t.Helper()
	if err := unix.Kill(l.PID(name), sig); err != nil {
		l.t.Fatal(err)
	}
}

// Wipe gives a stopped node a blank disk.
func (l *Lab) Wipe(name string) {
	l.t.Helper()
	l.wipe(name, "")
}

// WipeEtcd empties the etcd data directory of a stopped node and leaves the node's own memory.
func (l *Lab) WipeEtcd(name string) {
	l.t.Helper()
	l.wipe(name, "etcd")
}

func (l *Lab) wipe(name, below string) {
	l.t.Helper()
	n := l.node(name)
	if n.up() {
		l.t.Fatalf("%s runs, so its disk cannot be wiped", name)
	}
	if err := os.RemoveAll(filepath.Join(n.data(), below)); err != nil {
		l.t.Fatal(err)
	}
}

// Log is all that a node ever printed.
func (l *Lab) Log(name string) string {
	text, err := os.ReadFile(filepath.Join(l.nodes[name].dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}
