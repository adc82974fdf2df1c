package member

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// The exit codes of a child.
const (
	exitFine  = 0
	exitDied  = 1
	exitUsage = 2
)

const (
	// stopBound is when a child that was told to stop exits, whatever etcd is doing: etcd survives it, and a node
	// that is being shut down has 10 s for everything. It is less than the parent's patience (srvboot.Timing.StopMember), which
	// ends in an error: a leader waits 6 s for a hung machine to take over, and as long for its version.
	stopBound = 4 * time.Second
	// drainBound is how long clients may finish their requests; etcd itself would wait 7 s for open watches.
	drainBound = 2 * time.Second
	// processName is what ps shows; 15 octets are the kernel's limit.
	processName = "etcd-dns-member"
)

// child is one member process. Its fields are set before run and read-only from there.
type child struct {
	spec    Spec
	reports *reporter
	log     *zap.Logger
	// died receives the reason when etcd calls Fatal on its logger; one slot, the first counts.
	died chan error
	// streams hears what etcd logs.
	streams streams
}

// Main is the whole life of a member process, and returns its exit code. It reads its Spec from descriptor 3, and
// stops etcd cleanly when that descriptor ends, when SIGTERM arrives or when ctx ends; four seconds later it returns
// in any case. Interrupts from the terminal are the parent's business.
func Main(ctx context.Context) int {
	// SIGPIPE: the log must still be flushable when the parent is dead and nobody reads standard error.
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM)
	defer stop()
	_ = os.WriteFile("/proc/self/comm", []byte(processName), 0)

	orders, err := inherited(fdSpec, unix.S_IFIFO)
	if err != nil {
		return usage(err)
	}
	defer orders.Close()
	out, err := inherited(fdReports, unix.S_IFIFO)
	if err != nil {
		return usage(err)
	}
	reports := &reporter{w: out}
	context.AfterFunc(ctx, func() { _ = orders.SetReadDeadline(time.Now()) })
	lines := bufio.NewReader(orders)
	spec, err := readSpec(lines)
	switch {
	case errors.Is(err, errNoSpec):
		return exitFine
	case err != nil:
		reports.send(report{Event: eventFatal, Reason: err.Error()})
		return exitDied
	}
	// Nothing may have looked a name up before this.
	useParentResolver(spec.Resolver)
	go func() { // ends with the parent's end of the pipe, or with orders
		_, _ = io.Copy(io.Discard, lines)
		stop()
	}()
	return live(ctx, spec, reports)
}

func usage(err error) int {
	fmt.Fprintf(os.Stderr, "etcd-dns: error: member: %v\n", err)
	fmt.Fprintln(os.Stderr, "etcd-dns: hint: this command is started by `etcd-dns run`; for etcd itself use `etcd-dns etcd`")
	return exitUsage
}

// live runs the member and makes its outcome known.
func live(ctx context.Context, spec Spec, reports *reporter) int {
	c := &child{spec: spec, reports: reports, died: make(chan error, 1)}
	log, err := c.logger()
	if err == nil {
		c.log = log
		err = c.runBounded(ctx)
	}
	if err == nil {
		reports.send(report{Event: eventStopped})
		return exitFine
	}
	r := report{Event: eventFatal, Reason: err.Error()}
	var f *failure
	if errors.As(err, &f) {
		r.Cause, r.Hint = f.cause, f.hint
	}
	reports.send(r)
	return exitDied
}

// runBounded returns when run does, when etcd declares itself dead, or stopBound after ctx ends. Only in the first
// case is there nothing left running; the process exits in all.
func (c *child) runBounded(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	late := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(stopBound, func() { close(late) }) })
	select {
	case err := <-ended:
		return err
	case err := <-c.died:
		return err
	case <-late:
		return fmt.Errorf("etcd did not stop within %v", stopBound)
	}
}

// run is the life of etcd itself.
func (c *child) run(ctx context.Context) error {
	c.reports.send(report{Event: eventStarting})
	var parent control
	hangUp, err := parent.serve()
	if err != nil {
		return err
	}
	defer hangUp()
	cfg, err := c.spec.config(c.log)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("etcd refuses its configuration: %w", err)
	}
	if err := c.before(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	got := identity{cluster: hexID(uint64(e.Server.Cluster().ID())), member: hexID(uint64(e.Server.MemberID()))}
	if err := c.expect("the started member", got); err != nil {
		closeEtcd(e)
		return err
	}
	c.reports.send(report{Event: eventListening})
	parent.etcd.Store(e)
	err = newObserver(e, c.reports, c.log, &c.streams).watch(ctx)
	parent.etcd.Store(nil)
	closeEtcd(e)
	return err
}

// closeEtcd stops etcd: first it drains the clients, then it hands over leadership and closes log and database.
// When clients are slow to go it closes log and database without them. It returns when the data is safe.
func closeEtcd(e *embed.Etcd) {
	closed := make(chan struct{})
	go func() { // ends when etcd has closed everything, or with the process
		e.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(drainBound):
		e.Server.Stop()
	}
}
