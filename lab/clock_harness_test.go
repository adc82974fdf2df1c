//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clockProbe prints its clock and what its monotonic clock says has passed, whenever it reads a line.
const clockProbe = `package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	start := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(time.Now().UnixNano(), int64(time.Since(start)))
	}
}
`

// A set clock is seen by the process at once, forth and back, and only by its wall clock.
func TestHarnessClock(t *testing.T) {
	need(t)
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, "probe")
	if err := os.WriteFile(src, []byte(clockProbe), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := clockedBuild(bin, src); err != nil {
		t.Fatal(err)
	}
	h := &host{name: "probe", dir: dir}
	if err := h.addClock(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), clockVariable+"="+h.clockFile())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, started := bufio.NewScanner(out), time.Now()
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 1500 * time.Millisecond, -1500 * time.Millisecond, never(), 10 * 365 * 24 * time.Hour, 0} {
		if err := h.setClock(ahead); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(ahead)
		if _, err := fmt.Fprintln(in); err != nil {
			t.Fatal(err)
		}
		var wall, passed int64
		if !lines.Scan() {
			t.Fatal("the probe is gone")
		}
		if _, err := fmt.Sscan(lines.Text(), &wall, &passed); err != nil {
			t.Fatal(err)
		}
		if shows := time.Unix(0, wall); shows.Before(before.Round(0)) || shows.After(time.Now().Add(ahead)) {
			t.Errorf("%v ahead: the clock shows %v, want about %v", ahead, shows, before)
		}
		if passed < 0 || time.Duration(passed) > time.Since(started) {
			t.Errorf("%v ahead: the monotonic clock says that %v passed", ahead, time.Duration(passed))
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// Without its file a process does not run on with another clock than it was meant to have.
	cmd = exec.Command(bin)
	cmd.Env = append(os.Environ(), clockVariable+"="+filepath.Join(dir, "none"))
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), clockVariable) {
		t.Errorf("without its clock: %v, %s", err, said)
	}
}

// A version of Go whose time.Now reads otherwise is refused, not built with a clock that stands still.
func TestHarnessClockOfAnotherGo(t *testing.T) {
	goroot := t.TempDir()
	lib := filepath.Join(goroot, "src", "time")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"package time\n", "package time\n" + realNow + realNow} {
		if err := os.WriteFile(filepath.Join(lib, "time.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := clockOverlay(t.TempDir(), goroot); err == nil || !strings.Contains(err.Error(), "want once") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
