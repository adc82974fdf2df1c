package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/etcd-dns/etcd-dns/node"
)

// demoNode is one node process of a demo.
type demoNode struct {
	name, log string
	cmd       *exec.Cmd
	options   *node.Options
	// done is closed when the process has ended; err is set before.
	done chan struct{}
	err  error
}

// boot starts the nodes and waits until each says that all is well.
func (d *demo) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	for i, n := range d.rack.Nodes {
		p, err := d.startNode(n.Name, d.network.addr(i).String())
		if err != nil {
			return err
		}
		d.running = append(d.running, p)
	}
	show := newProgress(d.cmd.ErrOrStderr())
	defer show.end()
	for {
		waiting, err := d.pending(ctx)
		if err != nil {
			return err
		}
		if waiting == "" {
			return nil
		}
		show.line(waiting)
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return exitCode(130) // as a shell does for SIGINT
			}
			return &usageErr{what: fmt.Sprintf("the cluster is not healthy after %s: %s", demoTimeout, waiting), hint: "look into " + filepath.Join(d.dir, "*.log")}
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// pending says what is still missing; a dead node is an error.
func (d *demo) pending(ctx context.Context) (string, error) {
	var parts []string
	for _, p := range d.running {
		select {
		case <-p.done:
			return "", p.death()
		default:
		}
		s, err := node.Fetch(ctx, p.options)
		switch {
		case err != nil:
			parts = append(parts, p.name+" starts")
		case s.Waiting != "":
			parts = append(parts, p.name+" "+s.Waiting)
		case !s.OK:
			parts = append(parts, p.name+" "+strings.Join(s.Problems, ", "))
		}
	}
	return strings.Join(parts, "; "), nil
}

// startNode runs `etcd-dns run`. The process has its own group, so that Ctrl-C reaches only the demo, which then
// stops the nodes in order; it gets SIGTERM from the kernel should the demo die.
func (d *demo) startNode(name, addr string) (*demoNode, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	o := *d.options
	if err := o.Override(name, d.dataDir(name)); err != nil {
		return nil, err
	}
	p := &demoNode{name: name, log: filepath.Join(d.dir, name+".log"), options: &o, done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(self, "run", "--corefile", o.Corefile, "--name", name, "--data", o.Data)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "ETCD_DNS_DEMO_ADDRESS="+addr)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() { // ends with the process
		// Pdeathsig counts the death of the thread that forked, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// death is the error of a node that ended by itself, with the last lines of its log.
func (p *demoNode) death() error {
	text, _ := os.ReadFile(p.log) // what cannot be read is not shown
	lines := strings.Split(strings.TrimSpace(string(bytes.ToValidUTF8(text, nil))), "\n")
	return &usageErr{what: fmt.Sprintf("%s ended: %v: %s", p.name, p.err, strings.Join(lines[max(0, len(lines)-3):], " | ")), hint: "look into " + p.log}
}

// stop ends the nodes together and kills what is left after demoGrace.
func (d *demo) stop() {
	for _, p := range d.running {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	}
	late := time.After(demoGrace)
	for _, p := range d.running {
		select {
		case <-p.done:
		case <-late:
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group: the node and its member
			<-p.done
		}
	}
}

// watch waits for Ctrl-C, or for a node to end by itself.
func (d *demo) watch(ctx context.Context) error {
	ended := make(chan *demoNode, len(d.running))
	for _, p := range d.running {
		go func() { // ends with the process, which stop sees to
			<-p.done
			ended <- p
		}()
	}
	select {
	case <-ctx.Done():
		say(d.cmd, "stopping")
		return nil
	case p := <-ended:
		return p.death()
	}
}
