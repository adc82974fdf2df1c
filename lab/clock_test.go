//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A namespace has no clock of its own, and the product has no knob to lie to it about the time. So the nodes of a rack
// with Options.Clocks run a binary that was built from the same sources with another time.Now: it adds an offset, which it
// reads at every call from a file that the process has mapped. SetClock writes the file, and the wall clock of the node's
// processes is set at that moment; monotonic readings, timers and the kernel's own clock (the dates of files) stay as they
// are. It works for every Go program: clockedBuild takes any main package.

// clockVariable is the environment variable that names the file: one int64 in the machine's byte order, nanoseconds
// that the clock is ahead. A process without the variable has the machine's clock, one without the file does not start.
const clockVariable = "LAB_CLOCK"

// realNow is what time.Now of Go 1.26 asks the runtime by, and clockedNow what the patched one does.
const (
	realNow    = "\tsec, nsec, mono := runtimeNow()\n"
	clockedNow = "\tsec, nsec, mono := labNow()\n"
)

// clockSource is added to package time.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// labAhead is how far the wall clock is ahead, in nanoseconds; nil in a process without a clock file.
var labAhead *int64

func init() {
	path, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("open ` + clockVariable + `=" + path + ": " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("map ` + clockVariable + `=" + path + ": " + err.Error())
	}
	_ = syscall.Close(fd)
	labAhead = (*int64)(unsafe.Pointer(&page[0]))
}

func labNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	if labAhead == nil {
		return sec, nsec, mono
	}
	ahead := atomic.LoadInt64(labAhead)
	sec += ahead / 1e9
	nsec += int32(ahead % 1e9)
	switch {
	case nsec < 0:
		sec, nsec = sec-1, nsec+1e9
	case nsec >= 1e9:
		sec, nsec = sec+1, nsec-1e9
	}
	return sec, nsec, mono
}
`

// clockOverlay writes the overlay of go build (go help build) into dir and returns its path. It refuses a time.go
// that is not as expected, which a new version of Go may bring.
func clockOverlay(dir, goroot string) (string, error) {
	lib := filepath.Join(goroot, "src", "time")
	text, err := os.ReadFile(filepath.Join(lib, "time.go"))
	if err != nil {
		return "", err
	}
	if n := bytes.Count(text, []byte(realNow)); n != 1 {
		return "", fmt.Errorf("%s/time.go has the line %q %d times, want once: fit lab/clock_test.go to this version of Go", lib, strings.TrimSpace(realNow), n)
	}
	patched, added := filepath.Join(dir, "time.go"), filepath.Join(dir, "clock.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(lib, "time.go"): patched, filepath.Join(lib, "lab_clock.go"): added,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	for file, content := range map[string][]byte{
		patched: bytes.Replace(text, []byte(realNow), []byte(clockedNow), 1), added: []byte(clockSource), path: overlay,
	} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return "", err
		}
	}
	return path, nil
}

// clockedBuild builds a main package with a clock that can be set. As the whole standard library hangs on package
// time, the first build on a machine compiles everything; Go's build cache has it afterwards.
func clockedBuild(bin, pkg string) error {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	dir := bin + ".overlay"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	overlay, err := clockOverlay(dir, strings.TrimSpace(string(goroot)))
	if err != nil {
		return err
	}
	return goBuild(bin, pkg, "-overlay", overlay)
}

// clockedProduct is product with a clock that can be set.
var clockedProduct = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(processDir(), "etcd-dns-clocked")
	return bin, clockedBuild(bin, "../cmd/etcd-dns")
})

// clockFile is the file of a host's clock.
func (h *host) clockFile() string { return filepath.Join(h.dir, "clock") }

// addClock gives the host a clock of its own, which is right.
func (h *host) addClock() error {
	h.clock = true
	return os.WriteFile(h.clockFile(), make([]byte, 8), 0o644)
}

// SetClock sets the clock of a node that far ahead of the true time, from this moment on, whether it runs or not; 0 is
// the true time again.
func (l *Lab) SetClock(name string, ahead time.Duration) {
	l.t.Helper()
	if err := l.host(name).setClock(ahead); err != nil {
		l.t.Fatal(err)
	}
}

func (h *host) setClock(ahead time.Duration) error {
	if !h.clock {
		return fmt.Errorf("%s has no clock of its own: Options.Clocks", h.name)
	}
	f, err := os.OpenFile(h.clockFile(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	page, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	// At once, not octet by octet: the node may look at this very moment.
	atomic.StoreInt64((*int64)(unsafe.Pointer(&page[0])), int64(ahead))
	h.ahead.Store(int64(ahead))
	return unix.Munmap(page)
}

// Clock is what a node's clock shows. It may be called from any goroutine.
func (l *Lab) Clock(name string) time.Time {
	return time.Now().Add(time.Duration(l.host(name).ahead.Load()))
}

// never is how far ahead a clock is that was never set: it starts at 1970.
func never() time.Duration { return -time.Duration(time.Now().UnixNano()) }
