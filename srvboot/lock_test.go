package srvboot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// read passes on the helper's lines.
func (h *helper) read(r io.Reader) {
	defer close(h.out)
	for s := bufio.NewScanner(r); s.Scan(); {
		h.out <- s.Text()
	}
}

// waitFor returns the rest of the first line that begins so.
func (h *helper) waitFor(t *testing.T, prefix string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-h.out:
			if !ok {
				t.Fatalf("the helper ended before it said %q", prefix)
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest)
			}
		case <-timeout:
			t.Fatalf("the helper did not say %q", prefix)
		}
	}
}

// TestDiskHelperProcess is not a test: it is what a helper process runs.
func TestDiskHelperProcess(t *testing.T) {
	spec := os.Getenv(helperEnv)
	if spec == "" {
		t.Skip("only runs as a helper of other tests")
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	args := strings.Split(spec, "\n")
	var err error
	switch args[0] {
	case "etcd":
		err = helperEtcd(args[1])
	case "lock":
		_, err = LockNode(LockOptions{Dir: args[1], Domain: args[2], Node: args[3]})
	case "parent":
		err = helperParent(args[1], args[2])
	case "listen":
		err = helperListen(args[1])
	case "writer":
		err = helperWriter(args[1])

	case "hold":
	default:
		err = fmt.Errorf("no helper %q", args[0])
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// helperParent takes the member lock and starts a child that inherits it; "record" as the mode writes its pid down.
func helperParent(dir, mode string) error {
	l := NewMemberLock(dir, nil)
	if err := l.Acquire(context.Background()); err != nil {
		return err
	}
	child := exec.Command(os.Args[0], "-test.run=^TestDiskHelperProcess$")
	child.Env = append(os.Environ(), helperEnv+"=hold")
	child.ExtraFiles = []*os.File{l.File()}
	// A member that is stopped does not notice its parent's death; neither does one whose input stays open.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	child.ExtraFiles = append(child.ExtraFiles, w)
	child.Stdin = r
	if err := child.Start(); err != nil {
		return err
	}
	if mode == "record" {
		if err := l.Record(child.Process.Pid); err != nil {
			return err
		}
	}
	fmt.Println("child", child.Process.Pid)
	return nil
}

func helperListen(network string) error {
	var addr net.Addr
	if network == "tcp" {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr = l.Addr()
	} else {
		c, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr = c.LocalAddr()
	}
	fmt.Println("addr", addr)
	return nil
}

func TestLockNodeExcludesAnotherProcess(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "data"), t.TempDir()
	domain := fmt.Sprintf("lock%d.test", os.Getpid())
	h := startHelper(t, "lock", dir, domain, "n0")
	h.waitFor(t, "ready")
	pid := fmt.Sprintf("(pid %d)", h.cmd.Process.Pid)

	for _, tc := range []struct {
		name string
		o    LockOptions
		want []string // parts of the error; none for success
	}{
		{"same directory", LockOptions{Dir: dir, Domain: domain, Node: "n1"}, []string{dir, pid, "srvboot"}},
		{"same name", LockOptions{Dir: other, Domain: domain, Node: "n0"}, []string{"n0", domain, pid, "srvboot"}},
		{"same name, other spelling", LockOptions{Dir: other, Domain: strings.ToUpper(domain) + ".", Node: "N0"}, []string{pid}},
		{"another node", LockOptions{Dir: other, Domain: domain, Node: "n2"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := LockNode(tc.o)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v, want an error: %v", err, len(tc.want) > 0)
			}
			if err == nil {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not name %q", err, part)
				}
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || hint.Hint() == "" {
				t.Errorf("the error %q has no hint", err)
			}
		})
	}

	h.kill(t)
	l, err := LockNode(LockOptions{Dir: dir, Domain: domain, Node: "n0"})
	if err != nil {
		t.Fatalf("after the holder's death: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockNodeLongName(t *testing.T) {
	long := strings.Repeat("a.", 110) + "test"
	a, err := LockNode(LockOptions{Dir: t.TempDir(), Domain: long, Node: "n0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := LockNode(LockOptions{Dir: t.TempDir(), Domain: long, Node: "n0"}); err == nil {
		t.Error("two runs of a long name")
	}
	b, err := LockNode(LockOptions{Dir: t.TempDir(), Domain: long, Node: "n1"})
	if err != nil {
		t.Fatalf("another node of a long domain: %v", err)
	}
	b.Close()
}

// leftover makes a member whose parent was killed, and returns the member's pid.
func leftover(t *testing.T, dir, mode string) int {
	t.Helper()
	h := startHelper(t, "parent", dir, mode)
	var pid int
	if _, err := fmt.Sscan(h.waitFor(t, "child"), &pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	h.kill(t)
	if !alive(pid) {
		t.Fatal("the member did not outlive its parent, the test shows nothing")
	}
	return pid
}

// alive is false for a zombie too: nobody may be there to reap it.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return strings.Fields(after)[0] != "Z"
}

func TestMemberLockKillsRecordedLeftover(t *testing.T) {
	dir := t.TempDir()
	pid := leftover(t, dir, "record")
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l := NewMemberLock(dir, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.Acquire(ctx); err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if alive(pid) {
		t.Error("the lock was taken while the leftover member lives")
	}
	if l.File() == nil {
		t.Error("no file to pass on")
	}
	if err := l.Acquire(ctx); err != nil {
		t.Errorf("a second acquire: %v", err)
	}
}

func TestMemberLockWaitsForUnrecordedHolder(t *testing.T) {
	dir := t.TempDir()
	pid := leftover(t, dir, "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := NewMemberLock(dir, nil).Acquire(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want a deadline", err)
	}
	if want := fmt.Sprintf("(pid %d)", pid); !strings.Contains(err.Error(), want) {
		t.Errorf("the error %q does not name %q", err, want)
	}
	if !alive(pid) {
		t.Error("a process that was not recorded was killed")
	}
}

// TestMemberLockSparesReusedPID: the recorded pid lives, but as another process than the one recorded.
func TestMemberLockSparesReusedPID(t *testing.T) {
	for name, change := range map[string]func(*process){
		"other start time": func(p *process) { p.Start++ },
		"other boot":       func(p *process) { p.BootID = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pid := leftover(t, dir, "record")
			path := filepath.Join(dir, runDirName, memberPIDFile)
			var p process
			data, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(data, &p)
			}
			if err != nil || p.PID != pid {
				t.Fatalf("recorded %+v, %v; want pid %d", p, err, pid)
			}
			change(&p)
			data, _ = json.Marshal(p)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			expectSpared(t, dir, pid)
		})
	}
	// A process that was started in the recorded one's place and does not have the lock.
	t.Run("not the holder", func(t *testing.T) {
		dir := t.TempDir()
		pid := leftover(t, dir, "")
		bystander := startHelper(t, "hold")
		bystander.waitFor(t, "ready")
		if err := NewMemberLock(dir, nil).Record(bystander.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		expectSpared(t, dir, pid)
		if !alive(bystander.cmd.Process.Pid) {
			t.Error("a process without the lock was killed")
		}
	})
}

func expectSpared(t *testing.T, dir string, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := NewMemberLock(dir, nil).Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
	if !alive(pid) {
		t.Error("a process that is not the recorded one was killed")
	}
}

// TestMemberLockSaysThatItWaits also shows that the wait ends when the holder does.
func TestMemberLockSaysThatItWaits(t *testing.T) {
	dir := t.TempDir()
	pid := leftover(t, dir, "")
	core, logs := observer.New(zap.WarnLevel)
	l := NewMemberLock(dir, zap.New(core))
	done := make(chan error, 1)
	go func() { done <- l.Acquire(t.Context()) }() // ends when the holder below is killed
	eventually(t, "a line that says for whom it waits", func() bool {
		for _, e := range logs.All() {
			if strings.Contains(fmt.Sprint(e.ContextMap()["holder"]), fmt.Sprintf("(pid %d)", pid)) {
				return true
			}
		}
		return false
	})
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func TestStartTime(t *testing.T) {
	self, err := lookProcess(os.Getpid())
	if err != nil || self.Start == 0 || self.BootID == "" {
		t.Errorf("this process: %+v, %v", self, err)
	}
	got, err := startTime("1 (a ) (b) S 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 777 19")
	if err != nil || got != 777 {
		t.Errorf("got %d, %v; want 777", got, err)
	}
	if _, err := startTime("1 (a) S"); err == nil {
		t.Error("a short line was accepted")
	}
}
