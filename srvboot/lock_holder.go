package srvboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileHolder names the process that holds a flock on the file's inode, from /proc/locks; where the kernel shows none
// (another pid namespace), the processes that have the file open.
func fileHolder(f *os.File) string {
	if pids := flockPIDs(f); len(pids) > 0 {
		return processName(pids[0])
	}
	return openHolders(f)
}

// openHolders names the processes, other than this one, that have the file open.
func openHolders(f *os.File) string {
	path, err := realPath(f)
	if err != nil {
		return unseenHolder
	}
	self := strconv.Itoa(os.Getpid())
	return fdHolders(func(pid, link string) bool { return link == path && pid != self })
}

// realPath is the file's path as /proc shows it.
func realPath(f *os.File) (string, error) {
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// flockPIDs returns the pids that /proc/locks gives for flocks on the file's inode.
func flockPIDs(f *os.File) []int {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	data, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	dev := uint64(st.Dev)
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), st.Ino)
	var pids []int
	for line := range strings.Lines(string(data)) {
		// 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF; one that waits has "->" as its second field.
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != id {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// process is one run of a pid: pids are used again, but not with the same start time in the same boot.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since the boot (proc_pid_stat(5) field 22).
	Start  uint64 `json:"start"`
	BootID string `json:"boot_id"`
}

// lookProcess describes the process that has the pid now.
func lookProcess(pid int) (process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	start, err := startTime(string(stat))
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return process{PID: pid, Start: start, BootID: strings.TrimSpace(string(boot))}, nil
}

// startTime reads field 22. The command in field 2 may hold spaces and parentheses, so it counts from the last one.
func startTime(stat string) (uint64, error) {
	const fieldAfterCommand, field = 3, 22
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) <= field-fieldAfterCommand {
		return 0, fmt.Errorf("too short: %q", stat)
	}
	return strconv.ParseUint(f[field-fieldAfterCommand], 10, 64)
}

// hasOpen reports whether the process has the file open under that path.
func hasOpen(pid int, path string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if link, err := os.Readlink(dir + "/" + fd.Name()); err == nil && link == path {
			return true
		}
	}
	return false
}
