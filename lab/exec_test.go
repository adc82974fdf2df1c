//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// runLimit bounds every command of Run.
const runLimit = 30 * time.Second

// Result is what a command did.
type Result struct {
	// Args is the command as it was typed.
	Args []string
	// Stdout and Stderr are all that it printed.
	Stdout, Stderr string
	// Code is its exit status, -1 if it was killed, by the lab's time limit for one.
	Code int
}

func (r Result) String() string {
	return fmt.Sprintf("$ %s\n%s%sexit %d", strings.Join(r.Args, " "), r.Stdout, r.Stderr, r.Code)
}

// Err is nil if the command succeeded.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return errors.New(r.String())
}

// Run runs a command on a host and waits for its end, at most 30 seconds.
func (l *Lab) Run(hostName, name string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	h := l.host(hostName)
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.ns, name}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Dir, cmd.Env = h.dir, environment(h)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	r := Result{Args: append([]string{name}, args...), Stdout: stdout.String(), Stderr: stderr.String(), Code: -1}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil {
		r.Stderr += fmt.Sprintf("lab: killed after %v\n", runLimit)
	} else if r.Code == -1 {
		r.Stderr += fmt.Sprintf("lab: %v\n", err)
	}
	return r
}

// Must runs a command on a host and fails the test unless it succeeds. It returns what the command printed.
func (l *Lab) Must(hostName, name string, args ...string) string {
	l.t.Helper()
	r := l.Run(hostName, name, args...)
	if r.Code != 0 {
		l.t.Fatalf("on %s: %v", hostName, r)
	}
	return r.Stdout
}

// environment is what a fresh machine would give a service: no proxies, no settings of the developer's own.
func environment(h *host) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.dir, "ETCDCTL_API=3"}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env = append(env, "GOCOVERDIR="+dir)
	}
	if h.clock {
		env = append(env, clockVariable+"="+h.clockFile())
	}
	return env
}

// process is a command that keeps running on a host.
type process struct {
	cmd *exec.Cmd
	// done is closed when it has ended; err then says how.
	done chan struct{}
	err  error
}

// spawn starts argv on the host with what it prints appended to the file called log. The process dies with the test
// process, whatever ends that.
func spawn(h *host, log string, argv []string, env ...string) (*process, error) {
	out, err := os.OpenFile(filepath.Join(h.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.ns}, argv...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, h.dir
	cmd.Env = append(environment(h), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", argv[0], h.name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended waits for the process, and says whether it ended in time.
func (p *process) ended(within time.Duration) bool {
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-p.done:
		return true
	case <-limit.C:
		return !p.running()
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}
