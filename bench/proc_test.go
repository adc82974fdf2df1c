package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// userTick is the unit of times in /proc/PID/stat: 1/USER_HZ, which is 100 on every Linux that Go runs on (proc(5)).
const userTick = 10 * time.Millisecond

// parseStat reads the user and system time of a process, all its threads together, from the text of /proc/PID/stat.
// The second field is the program's name in parentheses and may itself hold spaces and parentheses.
func parseStat(text string) (time.Duration, error) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, fmt.Errorf("%q is not a line of /proc/PID/stat: want a name in parentheses", text)
	}
	fields := strings.Fields(text[end+1:])
	const utime, stime = 14 - 3, 15 - 3 // proc(5) counts from 1, and this begins with field 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("%q has %d fields after the name, want more than %d", text, len(fields), stime)
	}
	var ticks uint64
	for _, f := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read a time of /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * userTick, nil
}

// cpuTime is what a process has used so far, and with tree what its living descendants have used as well.
func cpuTime(pid int, tree bool) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	total, err := parseStat(string(text))
	if err != nil || !tree {
		return total, err
	}
	for _, child := range children(pid) {
		t, err := cpuTime(child, true)
		if err != nil {
			return 0, err
		}
		total += t
	}
	return total, nil
}

// children are the processes that any thread of pid has started.
func children(pid int) (out []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for _, c := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(c); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

func TestParseStat(t *testing.T) {
	const rest = " 1 42 42 0 -1 4194560 9 0 0 0 %s 0 0 20 0 1 0 7 8 9"
	for _, c := range []struct {
		text string
		want time.Duration
		bad  bool
	}{
		{text: "42 (nsd) S" + fmt.Sprintf(rest, "150 250"), want: 4 * time.Second},
		{text: "42 (a b) c) R" + fmt.Sprintf(rest, "1 0"), want: 10 * time.Millisecond},
		{text: "42 (nsd) S" + fmt.Sprintf(rest, "x 250"), bad: true},
		{text: "42 (nsd) S" + fmt.Sprintf(rest, "-1 250"), bad: true},
		{text: "42 (nsd) S 1 42", bad: true},
		{text: "42 nsd S", bad: true},
		{text: "", bad: true},
	} {
		got, err := parseStat(c.text)
		if got != c.want && !c.bad || (err != nil) != c.bad {
			t.Errorf("%q: got %v, %v; want %v, error %v", c.text, got, err, c.want, c.bad)
		}
	}
}

// A process that has worked has used time, and so has the tree that it is in.
func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid(), false)
	if err != nil {
		t.Fatal(err)
	}
	for sum, end := 0, time.Now().Add(10*time.Second); ; sum++ {
		if now, err := cpuTime(os.Getpid(), true); err != nil {
			t.Fatal(err)
		} else if now > before {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d readings in ten seconds, and no time was used", sum)
		}
	}
}
