package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// contender is a server of the comparison.
type contender struct {
	name, addr string
	// commands make the processes of a turn anew; the first is the one that is measured.
	commands func() ([]*exec.Cmd, error)
	// tree counts the children of the process too.
	tree bool
}

// cores says which processors the server and the load have; both are empty when nothing is pinned.
type cores struct{ server, load string }

// pinning gives the server the first processor that we may use, and the rest to the load.
func pinning(off bool) (cores, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || off || set.Count() < 2 {
		return cores{}, err
	}
	var all []string
	for i := 0; len(all) < set.Count(); i++ {
		if set.IsSet(i) {
			all = append(all, fmt.Sprint(i))
		}
	}
	return cores{all[0], strings.Join(all[1:], ",")}, nil
}

// pinned is the command on the given processors. taskset becomes the program, so the process stays the same.
func pinned(c *exec.Cmd, cpus string) *exec.Cmd {
	if cpus == "" {
		return c
	}
	p := exec.Command("taskset", append([]string{"-c", cpus, c.Path}, c.Args[1:]...)...)
	p.Env, p.Stdout, p.Stderr = c.Env, c.Stdout, c.Stderr
	return p
}

// turn is a contender that runs.
type turn struct {
	contender
	running []*exec.Cmd
}

// start runs a contender and waits until its answers are those of the zone.
func start(c contender, at cores, ready func() error) (*turn, error) {
	commands, err := c.commands()
	if err != nil {
		return nil, err
	}
	t := &turn{contender: c}
	for i, cmd := range commands {
		// The other nodes of our rack are other machines' in life, so they do not take the server's core.
		cpus := at.server
		if i > 0 {
			cpus = at.load
		}
		cmd = pinned(cmd, cpus)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, t.stop())
		}
		t.running = append(t.running, cmd)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil {
			return t, nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("the answers are not the zone's after 30 s: %w", err), t.stop(), lastWords(t.running[0]))
		}
	}
}

// used is the processor time of the server so far.
func (t *turn) used() (time.Duration, error) {
	return cpuTime(t.running[0].Process.Pid, t.tree)
}

// stop ends all processes and waits for them.
func (t *turn) stop() error {
	var failed []error
	for _, c := range t.running {
		failed = append(failed, c.Process.Signal(syscall.SIGTERM))
	}
	for _, c := range t.running {
		kill := time.AfterFunc(10*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait() // some end by the signal
		if !kill.Stop() {
			failed = append(failed, fmt.Errorf("%s did not end within ten seconds of SIGTERM", filepath.Base(c.Path)))
		}
	}
	return errors.Join(failed...)
}

// logged sends what a process says to a file beside its configuration.
func logged(b *testing.B, c *exec.Cmd, path string) *exec.Cmd {
	b.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	c.Stdout, c.Stderr = f, f
	return c
}

// lastWords is the end of what a logged process said.
func lastWords(c *exec.Cmd) error {
	f, ok := c.Stderr.(*os.File)
	if !ok {
		return nil
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return err
	}
	const most = 500
	return fmt.Errorf("the server's last words: %s", text[max(0, len(text)-most):])
}

// beside makes a contender of a neighbour; it fails in its turn if the program is missing.
func (n neighbour) beside(b *testing.B, s site, binary string) contender {
	b.Helper()
	s.dir = filepath.Join(b.TempDir(), n.program)
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		b.Fatal(err)
	}
	return contender{name: n.name, addr: s.addr, tree: true, commands: func() ([]*exec.Cmd, error) {
		args, err := n.config(s)
		if err != nil {
			return nil, err
		}
		return []*exec.Cmd{logged(b, exec.Command(binary, args...), filepath.Join(s.dir, "output"))}, nil
	}}
}
