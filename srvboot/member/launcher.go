package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// selfExecutable is this very binary, also after an upgrade replaced the file: parent and child speak one format.
const selfExecutable = "/proc/self/exe"

// Options are read-only once given.
type Options struct {
	// Executable and Args run the child; empty means this binary with the argument "run-member".
	Executable string
	Args       []string
	// Base returns the spec without what a launch determines; it is asked at each start, so a reload may change it.
	Base func() Spec
	// View returns what the member may know of its domain when it starts; nil keeps the view that Resolver has.
	View func(srvboot.Launch) (View, error)
	// Resolver answers the child; it must be running.
	Resolver *Resolver
	// Lock returns the member lock, which the child keeps until it dies; it is asked at each start. Nil means none.
	Lock func() *os.File
	// OnStart is told the child's process ID before the child may touch anything; an error ends the child. Nil means
	// that nobody wants to know.
	OnStart func(pid int) error
	// Log receives the child's log as entries of the logger "etcd".
	Log *zap.Logger
}

// Launcher starts member processes. It implements srvboot.Launcher. It runs one at a time: Start is an error
// until the member before has ended.
type Launcher struct {
	opts Options

	mu sync.Mutex
	// warm is a child that waits for its spec; last the one that got one. Guarded by mu.
	warm, last *Process
}

var _ srvboot.Launcher = (*Launcher)(nil)

// NewLauncher returns a launcher, which starts nothing yet.
func NewLauncher(o Options) *Launcher {
	if o.Executable == "" {
		o.Executable = selfExecutable
	}
	if o.Args == nil {
		o.Args = []string{"run-member"}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Launcher{opts: o}
}

// Prewarm executes a child that waits for its spec, so that the start of a big binary overlaps with whatever comes
// before Start. It ends when ctx does. A failure is not told here: Start will meet it again.
func (l *Launcher) Prewarm(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.warm != nil && l.warm.alive() {
		return
	}
	p, err := l.spawn(ctx)
	if err != nil {
		l.opts.Log.Debug("could not start a member process ahead of time", zap.Error(err))
		return
	}
	l.warm = p
}

// Close ends a child that still waits for its spec, and returns when it has ended. Members that were started end by
// their own Stop.
func (l *Launcher) Close(ctx context.Context) error {
	l.mu.Lock()
	p := l.warm
	l.warm = nil
	l.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Stop(ctx)
}

// Start returns once a child process has its spec. The member stops when ctx ends or its Stop is called.
func (l *Launcher) Start(ctx context.Context, launch srvboot.Launch) (srvboot.Member, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil && !l.last.ended() {
		// Two processes with one member ID would be two votes (safety.md P7).
		return nil, fmt.Errorf("the member process %d has not ended yet", l.last.PID())
	}
	if err := l.opts.Resolver.ready(ctx); err != nil {
		return nil, err
	}
	if l.opts.View != nil {
		v, err := l.opts.View(launch)
		if err != nil {
			return nil, fmt.Errorf("make the member's view of the domain: %w", err)
		}
		l.opts.Resolver.SetView(v)
	}
	line, err := l.spec(launch).encode()
	if err != nil {
		return nil, err
	}
	p := l.warm
	l.warm = nil
	if p == nil || !p.order(ctx, line) {
		if p, err = l.spawn(ctx); err != nil {
			return nil, err
		}
		if !p.order(ctx, line) {
			p.kill()
			<-p.Done()
			return nil, fmt.Errorf("hand the spec to the member process: %w", errors.Join(ctx.Err(), p.Err()))
		}
	}
	p.stopWith(ctx)
	l.last = p
	return p, nil
}

func (l *Launcher) spec(launch srvboot.Launch) Spec {
	s := l.opts.Base()
	s.New, s.Token = launch.New, launch.Token
	s.ExpectClusterID, s.ExpectMemberID = launch.ClusterID, launch.MemberID
	s.Resolver, s.Hosts = l.opts.Resolver.socket, l.opts.Resolver.targets()
	return s
}

// Metrics scrapes the running member; it is an error when none runs.
func (l *Launcher) Metrics(ctx context.Context) ([]*dto.MetricFamily, error) {
	l.mu.Lock()
	p := l.last
	l.mu.Unlock()
	if p == nil {
		return nil, errNotRunning
	}
	return p.Metrics(ctx)
}

// spawn executes a child, which waits for its spec.
func (l *Launcher) spawn(ctx context.Context) (p *Process, err error) {
	var pipes pipes
	defer func() {
		if err != nil {
			pipes.closeAll()
		}
	}()
	if err := pipes.open(); err != nil {
		return nil, err
	}
	socket := "etcd-dns-control-" + uuid.NewString()
	control, err := listenFile(socket)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	cmd := exec.Command(l.opts.Executable, l.opts.Args...)
	cmd.Args[0] = "etcd-dns" // what ps shows
	cmd.Env = childEnv(os.Environ())
	cmd.Stderr = pipes.logW
	cmd.ExtraFiles = []*os.File{pipes.specR, pipes.reportW, control}
	if l.opts.Lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, l.opts.Lock())
	}
	// Its own process group: a Ctrl-C on the terminal is for the parent, also while the child is still starting.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("execute the member process: %w", err)
	}
	pipes.closeChildEnds()
	p = newProcess(cmd, pipes, l.opts.Log)
	p.controlSocket = socket
	p.stopWith(ctx)
	if l.opts.OnStart == nil {
		return p, nil
	}
	if err := l.opts.OnStart(cmd.Process.Pid); err != nil {
		p.kill()
		<-p.Done()
		return nil, fmt.Errorf("record the member process %d: %w", cmd.Process.Pid, err)
	}
	return p, nil
}

// pipes are the two ends of each pipe between parent and child.
type pipes struct{ specR, specW, reportR, reportW, logR, logW *os.File }

func (p *pipes) open() error {
	var errs [3]error
	p.specR, p.specW, errs[0] = os.Pipe()
	p.reportR, p.reportW, errs[1] = os.Pipe()
	p.logR, p.logW, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("make the pipes of the member process: %w", err)
	}
	return nil
}

func (p *pipes) closeChildEnds() {
	p.specR.Close()
	p.reportW.Close()
	p.logW.Close()
}

// closeAll may meet pipes that were never opened; Close on a nil file is an error and nothing more.
func (p *pipes) closeAll() {
	p.closeChildEnds()
	p.specW.Close()
	p.reportR.Close()
	p.logR.Close()
}

// listenFile makes a listening abstract socket to hand to a child. Nobody can bind its name while a copy is open.
func listenFile(name string) (*os.File, error) {
	l, err := net.ListenUnix("unix", abstract(name))
	if err != nil {
		return nil, fmt.Errorf("make the member's control socket: %w", err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("make the member's control socket: %w", err)
	}
	return f, nil
}

// childEnv drops what would divert peer traffic to a proxy (etcd's peer transport honours it, client/pkg/transport
// NewTransport), and what belongs to the parent's service manager.
func childEnv(env []string) []string {
	dropped := map[string]bool{
		"HTTP_PROXY": true, "HTTPS_PROXY": true, "ALL_PROXY": true, "NO_PROXY": true,
		"NOTIFY_SOCKET": true, "WATCHDOG_PID": true, "WATCHDOG_USEC": true,
		"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true,
	}
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !dropped[strings.ToUpper(name)] {
			out = append(out, kv)
		}
	}
	return out
}
