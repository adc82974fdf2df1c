package node

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/plugin/tsig"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// transferName is the directive; it stands in the place of CoreDNS's own plugin of that name.
const transferName = "transfer"

// transfers hands the zones to secondaries. It outlives the plugin instances, which bring the policy.
type transfers struct {
	log      *zap.Logger
	server   *xfr.Server
	notifier *xfr.Notifier
	key      xfr.Key
	zones    func() []xfr.Zone
	// options returns the Corefile that serves now; own this node's addresses.
	options func() *Options
	own     func() []netip.Addr
	// refusals and successes keep the log short.
	refusals, successes, changes sparing
	// blocks are the transfer directives of the instance that serves.
	blocks atomic.Pointer[[]transferBlock]
}

// Lines a minute in the log about transfers that were refused or broken, which anybody can ask for, and about others: as many again
// about changes, which the secondaries' are, so that whoever fetches the whole zone all the time does not hide them.
const (
	refusalLines = 10
	successLines = 60
)

func newTransfers(log *zap.Logger, key xfr.Key, options func() *Options, own func() []netip.Addr, zones func() []xfr.Zone) *transfers {
	t := &transfers{log: log, key: key, zones: zones, options: options, own: own,
		refusals: sparing{most: refusalLines}, successes: sparing{most: successLines}, changes: sparing{most: successLines}}
	t.server = xfr.NewServer(xfr.ServerOptions{Key: key, Done: t.done})
	t.notifier = xfr.NewNotifier(xfr.NotifierOptions{Key: key, Notices: t.notices})
	return t
}

// serving takes over the directives of the instance that now serves.
func (t *transfers) serving(blocks []transferBlock) {
	t.blocks.Store(&blocks)
	t.notifier.Changed()
}

// notices lists, for each zone with a transfer directive, the single addresses of its `to` lines and the name servers
// with addresses that are not nodes.
func (t *transfers) notices() (out []xfr.Notice) {
	blocks := t.blocks.Load()
	if blocks == nil {
		return nil
	}
	o := t.options()
	for _, z := range t.zones() {
		block := covering(*blocks, z.Origin())
		if block == nil || z.Origin() == "" { // it has no snapshot yet
			continue
		}
		to := append(slices.Clone(block.to), outside(o)...)
		out = append(out, xfr.Notice{Zone: z, To: to, Source: t.source(block.source), Unsigned: o.TransferInsecure})
	}
	return out
}

// outside lists the addresses of the name servers that are not nodes.
func outside(o *Options) (out []netip.AddrPort) {
	for _, s := range o.NameServers {
		for _, a := range s.Addrs {
			if !slices.ContainsFunc(o.Nodes, func(n NodeLine) bool { return slices.Contains(n.Addrs, a) || slices.Contains(n.Peers, a) }) {
				out = append(out, netip.AddrPortFrom(a, dnsPort))
			}
		}
	}
	return out
}

// source chooses the address that NOTIFY comes from: the `source` line, else the node's own, since secondaries know
// their primaries by address.
func (t *transfers) source(set netip.Addr) func(netip.Addr) netip.Addr {
	return func(to netip.Addr) netip.Addr {
		for _, a := range append([]netip.Addr{set}, t.own()...) {
			if a.IsValid() && a.Is4() == to.Is4() {
				return a
			}
		}
		return netip.Addr{} // the kernel's choice
	}
}

// done logs a request and tells the notifier what the secondary has.
func (t *transfers) done(e xfr.Event) {
	transferCount.WithLabelValues(dns.TypeToString[e.Type], string(e.Kind)).Inc()
	fields := []zap.Field{zap.String("zone", e.Origin), zap.Stringer("client", e.Client), zap.String("type", dns.TypeToString[e.Type]),
		zap.String("result", string(e.Kind))}
	switch e.Kind {
	case xfr.Refused, xfr.Broken:
		if left, ok := t.refusals.next(); ok {
			t.log.Warn("zone not transferred", append(fields, zap.Error(e.Err), leftOut(left))...)
		}
	case xfr.Full, xfr.Incremental, xfr.Current:
		t.notifier.Pulled(e.Origin, e.Client.Addr(), e.Serial)
		lines := &t.successes
		if e.Kind == xfr.Incremental {
			lines = &t.changes
		}
		if left, ok := lines.next(); ok {
			t.log.Info("zone transferred", append(fields, zap.Uint32("serial", e.Serial), zap.Int("records", e.Records),
				zap.Int("messages", e.Messages), zap.Duration("took", e.Took), leftOut(left))...)
		}
	case xfr.Retry:
		t.log.Debug("zone does not fit UDP", fields...)
	}
}

// leftOut says how many lines like this one are not in the log.
func leftOut(n int) zap.Field {
	if n == 0 {
		return zap.Skip()
	}
	return zap.Int("left_out", n)
}

// transferPlugin is one instance of the directive.
type transferPlugin struct {
	*transfers
	// own are the directives of this server block.
	own []transferBlock
	// shared has the rate limit.
	shared *front.Shared
	next   plugin.Handler
}

// Name is the directive's.
func (p *transferPlugin) Name() string { return transferName }

// ServeDNS answers AXFR and IXFR for our zones and passes everything else on.
func (p *transferPlugin) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := r.Question[0]
	if r.Opcode != dns.OpcodeQuery || q.Qtype != dns.TypeAXFR && q.Qtype != dns.TypeIXFR || covering(p.own, dns.CanonicalName(q.Name)) == nil {
		return plugin.NextOrFailure(p.Name(), p.next, ctx, w, r)
	}
	if r = withTSIG(ctx, r, p.key); r.IsTsig() == nil {
		w = zone.Limited(w, r, p.shared)
	}
	find := p.find
	if !streams(ctx) {
		find = p.refuse
	}
	p.server.Serve(w, r, find)
	return dns.RcodeSuccess, nil
}

// streams reports whether the door that a request came in by can carry several messages for an answer: DNS (RFC 5936 §4)
// and DNS over TLS (RFC 9103). CoreDNS gives all keys of a block the plugins of the first, so only the request tells.
func streams(ctx context.Context) bool {
	server, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
	if !ok {
		return true
	}
	door, _ := parse.Transport(server.Addr)
	return door == transport.DNS || door == transport.TLS
}

// refuse is find for doors that carry one message for an answer: they give a zone to nobody.
func (p *transferPlugin) refuse(origin string) (xfr.Offer, bool) {
	offer, ok := p.find(origin)
	offer.Policy = xfr.Policy{}
	return offer, ok
}

// find returns our zone with that apex, and who may have it.
func (p *transferPlugin) find(origin string) (xfr.Offer, bool) {
	zones := p.zones()
	i := slices.IndexFunc(zones, func(z xfr.Zone) bool { return z.Origin() == origin })
	block := covering(p.own, origin)
	if i < 0 || block == nil {
		return xfr.Offer{}, false
	}
	policy := xfr.Policy{Any: block.any, From: block.from, Unsigned: p.options().TransferInsecure}
	return xfr.Offer{Zone: zones[i], Policy: policy}, true
}

// withTSIG gives a request its TSIG record back if CoreDNS's plugin tsig took it off after it had found it good. The writer
// of that plugin leaves answers alone that carry a TSIG.
func withTSIG(ctx context.Context, r *dns.Msg, key xfr.Key) *dns.Msg {
	name, ok := tsig.ValidatedKeyName(ctx)
	if !ok || r.IsTsig() != nil {
		return r
	}
	out := *r
	out.Extra = slices.Clone(r.Extra)
	return out.SetTsig(name, key.Algorithm, 300, 0)
}

// covering returns the block with the longest zone at or above a name.
func covering(blocks []transferBlock, name string) (best *transferBlock) {
	longest := -1
	for i := range blocks {
		for _, z := range blocks[i].zones {
			if n := dns.CountLabel(z); dns.IsSubDomain(z, name) && n > longest {
				best, longest = &blocks[i], n
			}
		}
	}
	return best
}
