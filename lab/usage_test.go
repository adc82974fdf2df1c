//go:build linux

package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what a node's parent process takes of its machine.
type usage struct {
	// rss and peak are octets of memory, now and at most since the watch began (VmRSS and VmHWM of proc_pid_status(5)).
	rss, peak int64
	// files are open descriptors.
	files int
	// cpu is user and system time of all threads so far.
	cpu time.Duration
}

func (u usage) String() string {
	return fmt.Sprintf("%d MiB, at most %d MiB, %d descriptors", u.rss>>20, u.peak>>20, u.files)
}

// usageOf measures a process.
func usageOf(pid int) (u usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return u, err
		}
		switch f[0] {
		case "VmRSS:":
			u.rss = n << 10
		case "VmHWM:":
			u.peak = n << 10
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.files = len(files)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The second field is a name in parentheses; utime and stime are the 14th and 15th (proc_pid_stat(5)), in 1/100 s.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, s := range f[11:13] {
		n, err := strconv.Atoi(s)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	return u, nil
}

// meter watches a node's parent process for the most that it takes.
type meter struct {
	pid    int
	before usage
	stop   chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	files int   // the most open descriptors; guarded by mu
	err   error // guarded by mu
}

// meter begins to watch a node.
func (l *Lab) meter(name string) *meter {
	l.t.Helper()
	m := &meter{pid: l.PID(name), stop: make(chan struct{})}
	// Writing 5 begins VmHWM anew (proc_pid_clear_refs(5)).
	err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.pid), []byte("5"), 0)
	if err == nil {
		m.before, err = usageOf(m.pid)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	m.wg.Go(m.watch)
	return m
}

func (m *meter) watch() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := usageOf(m.pid)
		m.mu.Lock()
		m.files, m.err = max(m.files, u.files), err
		m.mu.Unlock()
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
	}
}

// end stops watching, and returns what the node takes now and took at most.
func (m *meter) end() (u usage, err error) {
	close(m.stop)
	m.wg.Wait()
	if m.err != nil {
		return u, m.err
	}
	u, err = usageOf(m.pid)
	u.files = max(u.files, m.files)
	return u, err
}

// waitIdle waits until a node uses less than a share of one processor, and returns the share.
func (l *Lab) waitIdle(name string, most float64) (share float64) {
	l.t.Helper()
	pid := l.PID(name)
	last, err := usageOf(pid)
	at := time.Now()
	l.Wait(name+" is idle again", 30*time.Second, func() error {
		if time.Since(at) < time.Second {
			return errorf("not measured yet")
		}
		var now usage
		if now, err = usageOf(pid); err != nil {
			return err
		}
		share = (now.cpu - last.cpu).Seconds() / time.Since(at).Seconds()
		last, at = now, time.Now()
		if share > most {
			return errorf("it uses %.0f %% of a processor, want %.0f %% at most", 100*share, 100*most)
		}
		return nil
	})
	return share
}
