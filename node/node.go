package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/srvboot/member"
	"github.com/etcd-dns/etcd-dns/zone"
)

// Config is what the command line gives a node.
type Config struct {
	// Corefile is the path of the configuration; Name and Data override it when they are not empty.
	Corefile, Name, Data string
	// Strict refuses a wrong Corefile at start instead of starting from the last good one.
	Strict bool
	// DiskReplaced is the operator's word that a missing or different etcd disk is meant.
	DiskReplaced bool
	// Moved is the operator's word that the data came from another machine, where nothing runs on it any more.
	Moved   bool
	Version string
	Log     *zap.Logger
	// Reload receives when the Corefile is to be read again; it is never closed.
	Reload <-chan struct{}
}

// Node is one running node. Its long-lived parts survive a Corefile reload; CoreDNS's plugin instances only borrow
// them.
type Node struct {
	config Config
	log    *zap.Logger
	bundle *certs.Bundle
	name   string
	line   NodeLine

	// opts is the Corefile that serves now; roster what the zone was last compiled from. Both are swapped whole.
	opts        atomic.Pointer[Options]
	roster      atomic.Pointer[roster.Roster]
	latest      atomic.Pointer[certs.Bundle] // the latest generation that was read; bundle is that of the start
	corefile    atomic.Pointer[string]       // why the newest Corefile does not serve; nil when it does
	launch      atomic.Pointer[srvboot.Launch]
	bundleFault atomic.Pointer[string] // why the bundle on disk is not used; nil when it is
	lifeless    atomic.Pointer[error]  // why this start is not on disk; nil when it is

	store     *zone.Store
	zones     *zone.Zones
	certs     *certs.Manager
	disk      *srvboot.Disk
	lock      *srvboot.NodeLock
	memLock   *srvboot.MemberLock
	resolver  *member.Resolver
	launcher  *member.Launcher
	peers     *peers
	boot      *srvboot.Boot
	onlooker  *srvboot.Onlooker
	followers *followers
	tokens    *tokenService
	dns       *nameServer
	fronts    *fronts
	publisher *publisher
	transfers *transfers
	parent    *parentWatch
	dnssec    *dnssec
	notify    *notifier
	rumor     *rumor
	numbering *numbering
	places    *places
	// rebinds says that the name server's own addresses changed, retakes that the members did.
	rebinds, retakes prompt
	// moving says that the Corefile was not taken because of where members are, or are remembered to be.
	moving atomic.Bool
}

// Run runs a node until ctx ends. It returns an error when the node cannot start or a part of it fails; a member that
// waits, refuses or dies is not an error: DNS keeps answering.
func Run(ctx context.Context, c Config) error {
	restore := redirectStandardLog(c.Log)
	defer restore()
	n, err := open(c)
	if err != nil {
		return err
	}
	defer n.lock.Close()
	err = n.run(ctx)
	n.log.Info("stopped")
	return err
}

// options returns the Corefile that serves now.
func (n *Node) options() *Options { return n.opts.Load() }

// run starts everything in order and stops it in the reverse one:
//
//  1. The zone is published from disk and DNS answers: nothing after this may take it away.
//  2. Certificates, the member's resolver and the publisher run.
//  3. The admin port opens, and the boot loop decides about the member.
//
// On the way down the member goes first, because it may need names and certificates to hand over its leadership; then
// the admin port and the rest; DNS is last.
func (n *Node) run(ctx context.Context) error {
	if err := n.awaitAddresses(ctx); err != nil {
		return ignoreCanceled(ctx, err)
	}
	if err := n.startDNS(); err != nil {
		return err
	}
	services, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, services := errgroup.WithContext(services)
	n.startServices(services, group)
	err := n.runMember(ctx, services)
	n.notify.stopping()
	stop()
	return errors.Join(ignoreCanceled(ctx, err), group.Wait(), n.dns.stop())
}

// ignoreCanceled drops the error that the end of ctx itself caused.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// awaitAddresses waits for the node's own addresses to come up, as a bond or DHCP may take its time.
func (n *Node) awaitAddresses(ctx context.Context) error {
	err := awaitAddrs(ctx, append(append([]netip.Addr{}, n.line.Addrs...), n.line.Peers...), func(missing []string) {
		n.log.Warn("waiting for addresses that are on no interface", zap.Strings("addresses", missing))
		n.notify.status(fmt.Sprintf("waiting for the address %v to come up", missing))
	})
	switch {
	case err != nil:
		return err
	case n.moves():
		return n.awaitOwnPlace(ctx)
	}
	n.places.moved(n.line.Addrs)
	return nil
}

// startDNS publishes what the disk knows and starts the name server.
func (n *Node) startDNS() error {
	o := n.options()
	if err := n.dnssec.load(); err != nil {
		return err
	}
	n.publisher.load()
	n.publisher.report(n.publisher.once(n.boot.Report().View))
	if err := registerMetrics(n); err != nil {
		return err
	}
	if err := n.dns.register(); err != nil {
		return err
	}
	if err := n.dns.start(); err != nil {
		return err
	}
	n.log.Info("DNS answers", zap.String("zone", o.Domain), zap.Uint16("port", o.DNSPort))
	n.notify.ready()
	return nil
}

// startServices runs what lives as long as DNS does. Each ends with ctx.
func (n *Node) startServices(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error { return n.fronts.run(ctx) })
	group.Go(func() error { return n.certs.Run(ctx) })
	group.Go(func() error { return n.resolver.Run(ctx) })
	group.Go(func() error { return n.publisher.run(ctx, n.boot.Changed()) })
	group.Go(func() error { return n.transfers.notifier.Run(ctx) })
	group.Go(func() error { return n.dnssec.run(ctx) })
	group.Go(func() error { return n.serveAdmin(ctx) })
	group.Go(func() error { return n.onlook(ctx) })
	group.Go(func() error { return n.followers.run(ctx) })
	group.Go(func() error { return n.tokens.run(ctx) })
	group.Go(func() error { return n.reloads(ctx) })
	group.Go(func() error { return n.followAddresses(ctx) })
	group.Go(func() error { return n.parent.run(ctx) })
	group.Go(func() error { return n.rumor.run(ctx) })
	group.Go(func() error { return n.tellSystemd(ctx) })
}

// serveAdmin opens the admin socket at once, and the port as soon as there is a certificate for it.
func (n *Node) serveAdmin(ctx context.Context) error {
	o := n.options()
	a := &admin{bundle: n.bundle.ID(), tls: n.certs.AdminServerTLS(), boot: n.boot, hear: n.onlooker.Hear, status: n.Status,
		zone: n.zoneFile, zones: n.zoneNames, dnssec: n.dnssec, lines: func() []string { return n.options().Alike }, order: n.order, orderBirth: n.orderBirth, log: n.log.Named("admin")}
	socket, err := listenSocket(o.Socket())
	if err != nil {
		return err
	}
	defer os.Remove(o.Socket())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serveHTTP(ctx, socket, a.socketHandler()) })
	group.Go(func() error {
		select {
		case <-n.certs.Ready():
			return a.serve(ctx, n.line.Addrs, o.AdminPort)
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

// zoneFile returns a zone that this node serves, for `etcd-dns zone`.
func (n *Node) zoneFile(name string) (io.WriterTo, bool) {
	for _, store := range n.zones.All() {
		if snap := store.Load(); snap != nil && snap.Domain() == name {
			return snap, true
		}
	}
	return nil, false
}

// zoneNames are the zones that this node serves.
func (n *Node) zoneNames() (out []string) {
	for _, store := range n.zones.All() {
		if snap := store.Load(); snap != nil {
			out = append(out, snap.Domain())
		}
	}
	return out
}

// runMember runs the boot loop until ctx ends or a service fails.
func (n *Node) runMember(ctx, services context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(services, cancel)()
	if err := n.memLock.Acquire(ctx); err != nil {
		return err
	}
	select {
	case <-n.certs.Ready():
	case <-ctx.Done():
		return nil
	}
	defer n.peers.forget("")
	if n.awaitLife(ctx); ctx.Err() != nil {
		return nil
	}
	n.launcher.Prewarm(ctx)
	return errors.Join(n.boot.Run(ctx), n.closeLauncher())
}

// onlook watches the other clusters as soon as there is a certificate to ask with.
func (n *Node) onlook(ctx context.Context) error {
	select {
	case <-n.certs.Ready():
		return n.onlooker.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// launcherGrace is what an idle child process gets to end.
const launcherGrace = 2 * time.Second

func (n *Node) closeLauncher() error {
	ctx, cancel := context.WithTimeout(context.Background(), launcherGrace)
	defer cancel()
	return n.launcher.Close(ctx)
}

// reloads reads the Corefile again whenever it is asked to, and has the name server listen where this node is.
func (n *Node) reloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.rebinds:
			n.rebind(ctx)
		case <-n.retakes:
			if n.moving.Load() {
				n.reload()
			}
		case <-n.config.Reload:
			n.moving.Store(false)
			n.reload()
			n.takeBundle()
		}
	}
}

// reload takes the Corefile anew, or says why not.
func (n *Node) reload() {
	n.log.Info("reloading the Corefile")
	if err := n.dns.reload(); err != nil {
		n.refused(err)
		n.log.Error("the Corefile is not taken; the old one keeps serving", errorFields(err)...)
	}
}

// rebind has the name server listen at the addresses of now. When it cannot, it goes on where it listens, and is tried
// again.
func (n *Node) rebind(ctx context.Context) {
	err := n.dns.rebind()
	if err == nil {
		n.log.Info("DNS answers", zap.Stringers("addresses", n.addrs()))
		return
	}
	n.log.Error("DNS does not answer at this node's new address yet", append(errorFields(err), zap.Duration("retry_in", rebindRetry))...)
	time.AfterFunc(rebindRetry, func() {
		if ctx.Err() == nil {
			n.rebinds.send()
		}
	})
}

// rebindRetry is what whoever holds the port gets to leave.
const rebindRetry = time.Second

// errorFields gives an error's hint a field of its own.
func errorFields(err error) []zap.Field {
	out := []zap.Field{zap.Error(err)}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		out = append(out, zap.String("hint", h.Hint()))
	}
	return out
}

// tellSystemd keeps the unit's status line at what the member waits for.
func (n *Node) tellSystemd(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		rep := n.boot.Report()
		if m := rep.State.Member; m != nil && m.Serving {
			n.notify.status("the member serves; cluster " + m.ClusterID)
		} else {
			p := n.plan(rep)
			n.notify.status(string(p.Action) + ": " + p.Reason)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
