package member

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// killAfter is when a child that was told to stop is killed: some time after its own stopBound, for a child that
	// cannot count because it is stopped by a signal or stuck in the kernel.
	killAfter = stopBound + time.Second
	// trailing is how long the parent reads what a dead child left in its pipes.
	trailing = time.Second
)

// Process is a member process. It implements srvboot.Member.
type Process struct {
	cmd           *exec.Cmd
	log           *zap.Logger
	specW         *os.File
	controlSocket string

	state   atomic.Pointer[dated]
	changed chan struct{}

	// done is closed by supervise, after err and before nothing else.
	done chan struct{}
	err  error

	stopOnce sync.Once
	// stopping says that the end is wanted.
	stopping atomic.Bool

	// Owned by the goroutines of supervise until done is closed.
	fatal   *report
	lastLog lastWords
}

var _ srvboot.Member = (*Process)(nil)

func newProcess(cmd *exec.Cmd, p pipes, log *zap.Logger) *Process {
	proc := &Process{
		cmd: cmd, log: log.Named("etcd"), specW: p.specW,
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	go proc.supervise(p.reportR, p.logR) // ends with the child
	return proc
}

// stopWith stops the child when ctx ends.
func (p *Process) stopWith(ctx context.Context) {
	unhook := context.AfterFunc(ctx, p.requestStop)
	go func() { // ends with the child
		<-p.done
		unhook()
	}()
}

// order gives the child its spec. It reports false when the child cannot take it.
func (p *Process) order(ctx context.Context, line []byte) bool {
	if ctx.Err() != nil || !p.alive() {
		return false
	}
	_ = p.specW.SetWriteDeadline(time.Now().Add(stopBound))
	if _, err := p.specW.Write(line); err != nil {
		p.kill()
		return false
	}
	return true
}

// alive says that the child can still be given work.
func (p *Process) alive() bool { return !p.ended() && !p.stopping.Load() }

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// supervise reads everything the child says until it is dead, and then says why.
func (p *Process) supervise(reports, logs *os.File) {
	var readers sync.WaitGroup
	readers.Go(func() { eachLine(reports, maxReport, p.take) })
	readers.Go(func() { eachLine(logs, maxLogLine, p.relay) })
	waitErr := p.cmd.Wait()
	// Its pipes end with it. Should anything else hold them open, that must not keep us.
	late := time.Now().Add(trailing)
	_ = reports.SetReadDeadline(late)
	_ = logs.SetReadDeadline(late)
	readers.Wait()
	reports.Close()
	logs.Close()
	wanted := p.stopping.Load()
	p.closeSpec()
	if !wanted {
		p.err = p.obituary(waitErr)
	}
	close(p.done)
}

// take handles one report.
func (p *Process) take(line []byte) {
	r, err := parseReport(line)
	if err != nil {
		p.log.Warn("ignored a line of the member process", zap.Error(err))
		return
	}
	switch r.Event {
	case eventState:
		r.State.PID = p.cmd.Process.Pid
		p.state.Store(&dated{MemberState: *r.State, at: time.Now()})
		select {
		case p.changed <- struct{}{}:
		default:
		}
	case eventFatal:
		p.fatal = &r
	default:
		p.log.Debug("the member process is "+string(r.Event), zap.Int("pid", p.cmd.Process.Pid))
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended: an *ExitError, or nil when it was told to or has not.
func (p *Process) Err() error {
	if !p.ended() {
		return nil
	}
	return p.err
}

// PID is the ID of the process, also after its end.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// State is the last report; ok is false before the first one. It outlives the process.
func (p *Process) State() (s srvboot.MemberState, ok bool) {
	last := p.state.Load()
	if last == nil {
		return srvboot.MemberState{}, false
	}
	s = last.MemberState
	if time.Since(last.at) > reportsLate && !p.ended() {
		s.Hung, s.Serving = true, false
	}
	return s, true
}

// reportsLate is when silence means that the process hangs: reports come every sampleEvery.
const reportsLate = 2 * time.Second

// dated is a report with its arrival.
type dated struct {
	srvboot.MemberState
	at time.Time
}

// Changed receives after a new report; it holds one signal.
func (p *Process) Changed() <-chan struct{} { return p.changed }

// Stop ends the member and returns when it has ended. When ctx ends first it kills the member, and returns an error
// that says so. It may be called more than once.
func (p *Process) Stop(ctx context.Context) error {
	p.requestStop()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.kill()
	<-p.done
	return fmt.Errorf("killed the member process %d, which did not stop in time: %w", p.PID(), ctx.Err())
}

// requestStop tells the child to stop, and sees to it.
func (p *Process) requestStop() {
	p.stopOnce.Do(func() {
		if p.ended() {
			return
		}
		p.stopping.Store(true)
		_ = p.specW.Close()
		killer := time.AfterFunc(killAfter, p.kill)
		go func() { // ends with the child
			<-p.done
			killer.Stop()
		}()
	})
}

// closeSpec frees the pipe of a child that died by itself.
func (p *Process) closeSpec() { _ = p.specW.Close() }

// kill is harmless when the process has ended.
func (p *Process) kill() { _ = p.cmd.Process.Signal(syscall.SIGKILL) }
