//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Every name of this process begins with edlPID-: namespaces, their folders below /etc/netns, the folder below the
// temporary directory, and the lock that says that the process lives.
const namePrefix = "edl"

const lockDir = "/run/etcd-dns-lab"

func processName() string { return namePrefix + strconv.Itoa(os.Getpid()) }

// processDir holds the files of all labs of this process.
func processDir() string { return filepath.Join(os.TempDir(), processName()) }

// claim takes the lock that tells other runs that this one lives. A lock, not the pid alone, because pids come again.
func claim() (unlock func(), err error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(lockDir, processName())
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := removeRun(processName()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(processDir(), 0o755); err != nil {
		return nil, err
	}
	return func() {
		_ = os.Remove(path)
		_ = unix.Close(fd)
	}, nil
}

// sweep removes what dead runs left behind. A run is dead when nobody holds its lock: claim takes it before anything
// else is made, and gives it back after everything else is gone.
func sweep() error {
	names := map[string]bool{}
	own := regexp.MustCompile("^" + namePrefix + "[0-9]+")
	for _, dir := range []string{lockDir, "/run/netns", "/etc/netns", os.TempDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if name := own.FindString(e.Name()); name != "" {
				names[name] = true
			}
		}
	}
	var all error
	for name := range names {
		path := filepath.Join(lockDir, name)
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			all = errors.Join(all, removeRun(name), os.Remove(path))
		}
		_ = unix.Close(fd)
	}
	return all
}

// removeRun ends the processes of the run called name and removes its namespaces and files.
func removeRun(name string) error {
	dir := filepath.Join(os.TempDir(), name)
	return errors.Join(removeSpaces(name), unmountBelow(dir), os.RemoveAll(dir))
}

// unmountBelow unmounts the file systems that a run mounted into its folder, the inner ones first.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var at []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") { // proc_pid_mountinfo(5)
			at = append(at, fields[4])
		}
	}
	slices.Sort(at)
	slices.Reverse(at)
	for _, path := range at {
		err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
	}
	return err
}

// removeSpaces kills whatever runs in the namespaces whose names begin with prefix and a dash, and removes them.
func removeSpaces(prefix string) error {
	spaces, err := filepath.Glob("/run/netns/" + prefix + "-*")
	for _, path := range spaces {
		ns := filepath.Base(path)
		err = errors.Join(err, killAll(ns), ip("netns", "del", ns))
	}
	folders, e := filepath.Glob("/etc/netns/" + prefix + "-*")
	for _, path := range folders {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return errors.Join(err, e)
}

// killAll kills every process in the namespace ns, again and again until none is left: a parent may start another
// child before it is hit itself.
func killAll(ns string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		pids, err := pidsIn(ns)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v in %s do not end", pids, ns)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// pidsIn lists the processes whose network namespace is ns, zombies left out.
func pidsIn(ns string) ([]int, error) {
	want, err := os.Stat(filepath.Join("/run/netns", ns))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	procs, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range procs {
		if is, err := os.Stat(path); err != nil || !os.SameFile(want, is) {
			continue // it has ended, a zombie has no namespace, or it lives elsewhere
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ip runs iproute2's command.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// ipBatch runs commands of iproute2, one a line, inside the namespace ns.
func ipBatch(ns string, lines ...string) error {
	cmd := exec.Command("ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip -n %s -batch: %w: %s\n%s", ns, err, out, strings.Join(lines, "\n"))
	}
	return nil
}

// inNetns runs f on a thread that is in the namespace ns; sockets that f opens stay there. If the thread cannot go
// home again it is never used for anything else: it stays locked and dies with its goroutine.
func inNetns(ns string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = unix.Close(home) }()
		there, err := unix.Open(filepath.Join("/run/netns", ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("namespace %s: %w", ns, err)
			return
		}
		defer func() { _ = unix.Close(there) }()
		if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter %s: %w", ns, err)
			return
		}
		err = f()
		if back := unix.Setns(home, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
