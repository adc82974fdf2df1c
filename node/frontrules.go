package node

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// doorRules are what a Corefile says of the fast path.
type doorRules struct {
	// bypass is the plugin that must see every query; empty for none.
	bypass string
	// zone is the first zone that the fast path serves, for metrics.
	zone string
	// nsid identifies this server (RFC 5001); nil without the nsid plugin.
	nsid []byte
	// prometheus says that CoreDNS's metrics are on, timeouts that there is such a line.
	prometheus, timeouts bool
}

// plan is what one instance wants of the fast path. It is in the instance's storage.
type plan struct {
	doors []netip.AddrPort
}

// planKey is the plan's key in caddy's storage of an instance.
type planKey struct{}

// harmless plugins do their work as well when they see only what the fast path leaves to CoreDNS. Those that are not
// in the list must see every query.
var harmless = []string{"reload", "nsid", "bind", "ready", "health", "prometheus", "errors", "chaos", "tls",
	"transfer", pluginName}

// readRules reads the rules from a Corefile that CoreDNS has accepted.
func readRules(path string, text []byte) (doorRules, error) {
	var r doorRules
	blocks, err := caddyfile.Parse(path, bytes.NewReader(text), Directives())
	if err != nil {
		return r, fmt.Errorf("read the fast path's rules: %w", err)
	}
	var ours []string
	for _, b := range blocks {
		if _, ok := b.Tokens[pluginName]; ok {
			ours = append(ours, zonesOf(b.Keys)...)
		}
	}
	if len(ours) > 0 {
		r.zone = ours[0]
	}
	for _, b := range blocks {
		zones := zonesOf(b.Keys)
		if _, ok := b.Tokens[pluginName]; !ok || len(zones) == 0 { // other transports have no fast path
			for _, z := range zones {
				if slices.ContainsFunc(ours, func(o string) bool { return dns.IsSubDomain(o, z) && o != z }) {
					r.bypass = "server block " + z // it is the closer one for its names
				}
			}
			continue
		}
		r.read(b)
	}
	return r, nil
}

// read reads a server block with our plugin.
func (r *doorRules) read(b caddyfile.ServerBlock) {
	for _, name := range Directives() {
		tokens, ok := b.Tokens[name]
		if !ok {
			continue
		}
		args := words(tokens)
		switch {
		case name == "prometheus":
			r.prometheus = true
		case name == "timeouts":
			r.timeouts = true
		case name == "nsid":
			r.nsid = nsidData(args)
		case name == "bufsize" && !smallBuffer(args), name == "tsig" && !requiresTSIG(args), slices.Contains(harmless, name):
		default:
			r.bypass = name
		}
	}
}

// words returns the tokens behind the directive's name.
func words(tokens []caddyfile.Token) (out []string) {
	for _, t := range tokens[1:] {
		out = append(out, t.Text)
	}
	return out
}

// nsidData is what CoreDNS's plugin takes (plugin/nsid, nsidParse).
func nsidData(args []string) []byte {
	if len(args) > 0 {
		return []byte(strings.Join(args, " "))
	}
	if host, err := os.Hostname(); err == nil {
		return []byte(host)
	}
	return []byte("localhost")
}

func smallBuffer(args []string) bool {
	if len(args) == 0 {
		return false // the plugin's default is what the fast path sends
	}
	n, err := strconv.Atoi(args[0])
	return err != nil || n < front.MaxUDPSize
}

// requiresTSIG reports whether a tsig block wants signatures on more than transfers, which CoreDNS always answers.
func requiresTSIG(args []string) bool {
	in := false
	for _, w := range args {
		switch w {
		case "require":
			in = true
		case "secret", "secrets", "require_opcode", "{", "}":
			in = false
		case "AXFR", "IXFR", "none":
		default:
			if in {
				return true
			}
		}
	}
	return false
}

// zonesOf returns the zones of a block's keys that have plain DNS doors.
func zonesOf(keys []string) (out []string) {
	for _, key := range keys {
		if tr, rest := parse.Transport(key); tr == transport.DNS {
			for _, z := range plugin.Host(rest).NormalizeExact() {
				out = append(out, dns.CanonicalName(z))
			}
		}
	}
	return out
}

// doorsOf returns the addresses on which a block is served over plain DNS. Link-local ones have no fast path: a zone in
// an address is rare, and CoreDNS answers there.
func doorsOf(cfg *dnsserver.Config, keys []string) (out []netip.AddrPort) {
	for _, key := range keys {
		if tr, _ := parse.Transport(key); tr != transport.DNS {
			continue
		}
		for _, host := range cfg.ListenHosts {
			at, ok := doorAddr(host, strconv.Itoa(int(portOf(key))))
			if ok && !slices.Contains(out, at) {
				out = append(out, at)
			}
		}
	}
	return out
}

// doorAddr returns the address of a door; no host is the wildcard.
func doorAddr(host, port string) (netip.AddrPort, bool) {
	if host == "" {
		host = "::"
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	return at, err == nil && at.Addr().Zone() == "" && at.Port() != 0
}

// plan opens the fast paths of a block before CoreDNS binds its addresses, and learns which servers are behind them.
func (s *nameServer) plan(c *caddy.Controller, cfg *dnsserver.Config) {
	p, ok := c.Get(planKey{}).(*plan)
	if !ok {
		p = &plan{}
		c.Set(planKey{}, p)
		c.OnRestartFailed(func() error { s.fronts.dropUnwanted(); return nil })
	}
	doors := doorsOf(cfg, c.ServerBlockKeys)
	p.doors = append(p.doors, doors...)
	c.OnStartup(func() error {
		for _, at := range doors {
			s.fronts.open(at)
		}
		return nil
	})
	before := cfg.UDPDecorateWriterFunc
	cfg.UDPDecorateWriterFunc = func(server *dnsserver.Server) dns.DecorateWriter {
		s.fronts.serve(server)
		var more dns.DecorateWriter
		if before != nil {
			more = before(server)
		}
		return func(w dns.Writer) dns.Writer {
			if w = (refusalWriter{w}); more != nil {
				w = more(w)
			}
			return w
		}
	}
}

// openDoors hands the doors of the instance that serves now to the fast path.
func (s *nameServer) openDoors(inst *caddy.Instance) error {
	inst.StorageMu.RLock()
	p, ok := inst.Storage[planKey{}].(*plan)
	inst.StorageMu.RUnlock()
	if !ok {
		p = &plan{}
	}
	in := inst.Caddyfile()
	r, err := readRules(in.Path(), in.Body())
	if err != nil {
		return err
	}
	s.fronts.take(p.doors, r)
	if r.timeouts {
		s.log.Warn("timeouts count for DNS over TLS, HTTPS and QUIC; DNS over TCP has times of its own, see docs/dns.md")
	}
	if err := ignorePathMTU(p.doors); err != nil {
		s.log.Warn("forged ICMP may have CoreDNS send its answers in fragments", zap.Error(err))
	}
	return nil
}
