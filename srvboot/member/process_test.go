package member

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logtest "go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestLockLivesInTheChild: the lock is free again only when the child is dead, however its parent ended.
func TestLockLivesInTheChild(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	path := filepath.Join(t.TempDir(), "member.lock")
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	p := r.start(r.launcher(n, func(o *Options) { o.Lock = func() *os.File { return lock } }), r.launch(n))
	r.await(p, "healthy", r.healthy)
	lock.Close() // as if the parent had died

	second, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := unix.Flock(int(second.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second run got the lock while the child lives (%v)", err)
	}
	stopNow(t, p)
	if err := unix.Flock(int(second.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the lock is still held after the child's death: %v", err)
	}
}

// TestStopKillsTheStuck: a child that cannot react is killed when Stop's context ends, and Stop says so.
func TestStopKillsTheStuck(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	p := r.start(r.launcher(n), r.launch(n))
	r.await(p, "healthy", r.healthy)
	if err := p.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v, want an error that wraps the context's", err)
	}
	if p.Err() != nil {
		t.Errorf("Err() = %v after Stop, want nil", p.Err())
	}
}

func TestSignals(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	p := r.start(r.launcher(n), r.launch(n))
	s := r.await(p, "healthy", r.healthy)
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGPIPE} {
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	r.put(r.client(n), "k", "v")
	r.await(p, "further on", func(now srvboot.MemberState) bool { return now.Applied > s.Applied })
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "comm"))
	if err != nil || strings.TrimSpace(string(comm)) != processName {
		t.Errorf("ps shows %q (%v), want %s", comm, err, processName)
	}
	// An operator who sends SIGTERM to the child gets a clean stop, which is still a death that nobody ordered.
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := r.awaitDeath(p); e.Status != "exit status 0" || e.Reason != "" {
		t.Errorf("death by SIGTERM: %+v, want a clean exit", e)
	}
}

func TestPrewarm(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1, plain: true})
	n := r.nodes[0]
	var pids []int
	l := r.launcher(n, func(o *Options) { o.OnStart = func(pid int) error { pids = append(pids, pid); return nil } })
	if _, err := l.Metrics(t.Context()); !errors.Is(err, errNotRunning) {
		t.Errorf("Metrics before Start = %v, want %v", err, errNotRunning)
	}
	l.Prewarm(t.Context())
	l.Prewarm(t.Context())
	p := r.start(l, r.launch(n))
	if len(pids) != 1 || p.PID() != pids[0] {
		t.Errorf("processes %v for two Prewarm and one Start that runs %d, want one", pids, p.PID())
	}
	r.await(p, "healthy", r.healthy)
	if _, err := l.Start(t.Context(), r.launch(n)); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("a second Start beside a living member: %v, want a refusal", err)
	}
	stopNow(t, p)

	// A warm child that died is replaced.
	l.Prewarm(t.Context())
	warm := l.warm
	warm.kill()
	<-warm.Done()
	again := r.launch(n)
	again.New = false
	second := r.start(l, again)
	r.await(second, "healthy on its data", r.healthy)

	// A warm child ends with its context, without ever having had a spec.
	ctx, cancel := context.WithCancel(t.Context())
	l.Prewarm(ctx)
	warm = l.warm
	cancel()
	select {
	case <-warm.Done():
	case <-time.After(patience):
		t.Fatal("a warm child outlives its context")
	}
	if warm.Err() != nil {
		t.Errorf("warm child: %v", warm.Err())
	}
}

func TestMetrics(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1})
	n := r.nodes[0]
	l := r.launcher(n)
	p := r.start(l, r.launch(n))
	r.await(p, "healthy", r.healthy)
	families, err := l.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		if g := f.GetMetric()[0].GetGauge(); g != nil {
			found[f.GetName()] = g.GetValue()
		}
	}
	if found["etcd_server_has_leader"] != 1 || found["etcd_server_is_leader"] != 1 {
		t.Errorf("metrics %v, want a leader", found)
	}
	stopNow(t, p)
	if _, err := l.Metrics(t.Context()); !errors.Is(err, errNotRunning) {
		t.Errorf("Metrics after Stop = %v, want %v", err, errNotRunning)
	}
}

// TestLogRelay: fields, levels and times survive, a fatal line does not end the parent, and etcd's own lines arrive.
func TestLogRelay(t *testing.T) {
	core, logs := logtest.New(zapcore.DebugLevel)
	p := &Process{log: zap.New(core).Named("etcd")}
	for _, line := range []string{
		`{"level":"info","ts":"2026-11-22T20:00:00.000001Z","caller":"x/y.go:1","msg":"one","n":3,"list":["a"],"s":"t"}`,
		`{"level":"fatal","ts":"2026-11-22T20:00:00.000001Z","msg":"two","error":"disk full"}`,
		`{"level":"panic","msg":"three"}`,
		`panic: runtime error: boom`,
		`{"level":"info"}`,
		`{"level":"nonsense","msg":"five"}`,
		`{`,
	} {
		p.relay([]byte(line))
	}
	all := logs.All()
	if len(all) != 7 {
		t.Fatalf("%d entries, want 7: %v", len(all), all)
	}
	first := all[0]
	if first.LoggerName != "etcd" || first.Message != "one" || first.Level != zapcore.InfoLevel || first.Time.Year() != 2026 || len(first.Context) != 4 {
		t.Errorf("first entry %+v", first)
	}
	if all[1].Level != zapcore.ErrorLevel || all[1].ContextMap()["etcd-level"] != "fatal" || all[2].Level != zapcore.ErrorLevel {
		t.Errorf("fatal and panic lines arrive as %v and %v, want error", all[1], all[2])
	}
	if got, want := p.lastLog.String(), "panic: runtime error: boom"; got != want {
		t.Errorf("last words %q, want %q", got, want)
	}
	p.lastLog.abort = ""
	p.relay([]byte(`{"level":"error","msg":"six","error":"gone"}`))
	if got, want := p.lastLog.String(), "six: gone"; got != want {
		t.Errorf("last words %q, want %q", got, want)
	}
}

// TestMainByHand: started without a parent it explains itself.
func TestMainByHand(t *testing.T) {
	cmd := exec.Command(selfExecutable, "run-member")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(string(out), "etcd-dns: hint: ") {
		t.Errorf("exit %d (%v), output %q; want exit %d and a hint", cmd.ProcessState.ExitCode(), err, out, exitUsage)
	}
}
