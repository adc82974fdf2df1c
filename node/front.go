package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// fronts are the fast paths of the dns:// doors, one for each address. They survive reloads: CoreDNS's sockets do,
// and the kernel knows the sockets of an address by the order in which they were bound.
type fronts struct {
	log *zap.Logger
	// shared has the cookies, the rate limit and the clock that all doors and the slow path have in common.
	shared *front.Shared
	// limits returns the rate limit's settings as they are now.
	limits func() front.Settings
	// prompts say that doors or their settings changed.
	prompts prompt

	mu sync.Mutex
	// The rest is guarded by mu.
	doors map[netip.AddrPort]*door
	rules doorRules
}

// door is one address with its fast path.
type door struct {
	// front and shared are nil when the front did not open.
	front  *front.Front
	shared *front.Shared
	// server is CoreDNS's name for the address in metrics; empty until it serves.
	server string
	// wanted is false until the instance that opened it serves.
	wanted bool
	// end ends a front that runs, and ended is closed then; nil before.
	end   context.CancelFunc
	ended chan struct{}
	// off is why there is no fast path; empty while there is one.
	off string
}

// FrontStatus is the fast path of one address.
type FrontStatus struct {
	Address string `json:"address"`
	// State is serving, bypassed (CoreDNS answers because of a plugin) or off (because of the system).
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

func newFronts(log *zap.Logger, a front.Answerer, cookie, previous []byte, limits func() front.Settings) *fronts {
	shared := front.NewShared(a)
	if err := shared.Cookies.Set(cookie, previous); err != nil {
		log.Error("no DNS cookies", zap.Error(err))
	}
	return &fronts{log: log, shared: shared, limits: limits, prompts: newPrompt(), doors: map[netip.AddrPort]*door{}}
}

// open makes the fast path of an address, before CoreDNS binds it. One that fails leaves CoreDNS alone there, until
// the address goes: a later front would bind behind CoreDNS's socket.
func (f *fronts) open(at netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doors[at] != nil {
		return
	}
	d := &door{shared: f.shared.Sibling()}
	f.doors[at] = d
	d.front = front.New(front.Config{Address: at, Shared: d.shared, Accept: acceptUpdate})
	if err := d.front.Open(); err != nil {
		d.front, d.off = nil, err.Error()
		f.log.Warn("no fast path; CoreDNS answers every query itself", zap.Stringer("address", at), zap.Error(err))
	}
}

// acceptUpdate lets UPDATE through beside what CoreDNS takes, so that the zone can refuse it (RFC 2136 §3.3). It names one
// zone (§2.3), as CoreDNS's own listeners want it.
func acceptUpdate(h dns.Header) dns.MsgAcceptAction {
	const response, opcode = 1 << 15, 0xf
	switch {
	case h.Bits&response != 0 || int(h.Bits>>11)&opcode != dns.OpcodeUpdate:
		return dns.DefaultMsgAcceptFunc(h)
	case h.Qdcount != 1:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// serve makes s the server behind its address's front.
func (f *fronts) serve(s *dnsserver.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.Addr, transport.DNS+"://"))
	if err != nil {
		return // another transport's
	}
	at, _ := doorAddr(host, port)
	if d := f.doors[at]; d != nil && d.front != nil {
		d.server = s.Addr
		d.front.SetServer(liveServer{s}, s.TsigSecret)
	}
}

// take makes addrs the doors of the instance that serves now, under its rules.
func (f *fronts) take(addrs []netip.AddrPort, r doorRules) {
	f.mu.Lock()
	if r.bypass != "" && r.bypass != f.rules.bypass {
		f.log.Warn("no fast path: CoreDNS answers every query itself, as a plugin must see them", zap.String("plugin", r.bypass))
	}
	f.rules = r
	for _, d := range f.doors {
		d.wanted = false
	}
	for _, at := range addrs {
		if d := f.doors[at]; d != nil {
			d.wanted = true
		}
	}
	f.mu.Unlock()
	f.dropUnwanted()
	f.prompts.send()
}

// dropUnwanted ends the doors that no instance wants: after a reload those of the old one, after a reload that failed
// those that the new one had opened. It returns when their sockets are closed, as the address may come back, and the
// kernel's order of sockets must be ours.
func (f *fronts) dropUnwanted() {
	f.mu.Lock()
	var running []*door
	for at, d := range f.doors {
		if d.wanted {
			continue
		}
		delete(f.doors, at)
		switch {
		case d.end != nil:
			running = append(running, d)
		case d.front != nil:
			if err := d.front.Close(); err != nil {
				f.log.Error("close an unused fast path", zap.Error(err))
			}
		}
	}
	f.mu.Unlock()
	for _, d := range running {
		d.end()
		<-d.ended
	}
}

// run runs the fronts until ctx ends.
func (f *fronts) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			return errors.Join(group.Wait(), f.close())
		case <-f.prompts:
		}
		f.settle(ctx, group)
	}
}

// close closes what was opened and has not run.
func (f *fronts) close() (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.doors {
		if d.front != nil && d.end == nil {
			err = errors.Join(err, d.front.Close())
			d.front = nil
		}
	}
	return err
}

// settle gives every front the settings of now, and starts those that do not run.
func (f *fronts) settle(ctx context.Context, group *errgroup.Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.limits()
	set.NSID, set.Bypass = f.rules.nsid, f.rules.bypass
	f.shared.SetSettings(set) // the slow path keeps the limit where no door is open, too
	for at, d := range f.doors {
		if d.front == nil || !d.wanted {
			continue
		}
		d.shared.SetSettings(set)
		if d.end == nil {
			own, end := context.WithCancel(ctx)
			d.end, d.ended = end, make(chan struct{})
			group.Go(func() error {
				defer close(d.ended)
				defer end()
				f.runDoor(own, at, d)
				return nil
			})
		}
		if err := d.front.Steer(set.Bypass == ""); err != nil {
			d.off = err.Error()
			d.end()
			f.log.Warn("the fast path ends; CoreDNS answers every query itself", zap.Stringer("address", at), zap.Error(err))
		}
	}
}

// runDoor runs one front. When it fails CoreDNS answers on alone.
func (f *fronts) runDoor(ctx context.Context, at netip.AddrPort, d *door) {
	err := d.front.Run(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flush(d)
	d.front = nil
	if err != nil && d.off == "" {
		d.off = err.Error()
		f.log.Warn("the fast path ended; CoreDNS answers every query itself", zap.Stringer("address", at), zap.Error(err))
	}
}

// status lists the doors by address.
func (f *fronts) status() (out []FrontStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, d := range f.doors {
		s := FrontStatus{Address: at.String(), State: "serving"}
		switch {
		case d.off != "":
			s.State, s.Why = "off", d.off
		case f.rules.bypass != "":
			s.State, s.Why = "bypassed", "plugin "+f.rules.bypass
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b FrontStatus) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// liveServer serves what the front does not have, as a packet from CoreDNS's own socket is served.
type liveServer struct{ *dnsserver.Server }

// ServeDNS puts the server into the context, where plugins look for it.
func (s liveServer) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) {
	ctx = context.WithValue(ctx, dnsserver.Key{}, s.Server)
	s.Server.ServeDNS(context.WithValue(ctx, dnsserver.LoopKey{}, 0), w, r)
}
