package node

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// dnsPort is where secondaries listen (RFC 1035 §4.2).
const dnsPort = 53

// transferBlock is one transfer directive.
type transferBlock struct {
	// zones are absolute, in lower case.
	zones []string
	// any and from say who may ask; to are the single addresses, which NOTIFY goes to.
	any  bool
	from []netip.Prefix
	to   []netip.AddrPort
	// source is the address that NOTIFY comes from; invalid for the node's own.
	source netip.Addr
}

// parseTransfer reads `transfer [ZONE…] { to ADDRESS[:PORT]|CIDR|* … }`, CoreDNS's syntax with networks.
func parseTransfer(d *caddyfile.Dispenser, path string, keys []string) (out []transferBlock, err error) {
	p := &stanza{Dispenser: d, path: path}
	for d.Next() {
		b := transferBlock{}
		for _, z := range plugin.OriginsFromArgsOrServerBlock(d.RemainingArgs(), keys) {
			b.zones = append(b.zones, dns.CanonicalName(z))
		}
		line := d.Line()
		for d.NextBlock() {
			if err := p.transferWord(&b); err != nil {
				return nil, err
			}
		}
		if !b.any && len(b.from) == 0 {
			return nil, p.errorAt(line, "write the secondaries' addresses, such as to 192.0.2.53", "transfer without a `to` line")
		}
		out = append(out, b)
	}
	return out, nil
}

func (p *stanza) transferWord(b *transferBlock) error {
	word, args := p.Val(), p.RemainingArgs()
	switch {
	case word == "to" && len(args) > 0:
		for _, a := range args {
			if err := p.transferTo(b, a); err != nil {
				return err
			}
		}
		return nil
	case word == "to":
		return p.errorf("`to` without an address", "write the secondaries' addresses, such as to 192.0.2.53")
	case word == "source" && len(args) == 1 && !b.source.IsValid():
		var err error
		b.source, err = p.unicast(args[0], "where NOTIFY comes from", "write an address of this node that the secondaries know")
		return err
	case word == "source":
		return p.errorf("expected one source with one address", "write the address of this node that NOTIFY shall come from")
	}
	return p.errorf("unknown property %q of transfer", didYouMean(word, []string{"source", "to"}), word)
}

// transferTo reads one word of a `to` line.
func (p *stanza) transferTo(b *transferBlock, s string) error {
	if s == "*" {
		b.any = true
		return nil
	}
	if strings.Contains(s, "/") {
		n, err := netip.ParsePrefix(s)
		if err != nil || n != n.Masked() || n.Addr().Is4In6() {
			return p.errorf("%q is not a network", "write a network address with its prefix length, such as 192.0.2.0/24 or 2001:db8::/64", s)
		}
		b.from = append(b.from, n)
		return nil
	}
	to, err := addrPort(s)
	if err != nil || to.Addr().Zone() != "" || to.Addr().IsUnspecified() || to.Addr().IsMulticast() || to.Addr().IsLinkLocalUnicast() {
		return p.errorf("%q is not an address of a secondary", "write an address, one with its port, a network, or *: 192.0.2.53, 192.0.2.53:5300, [2001:db8::53]:5300, 192.0.2.0/24", s)
	}
	b.to = append(b.to, to)
	b.from = append(b.from, netip.PrefixFrom(to.Addr(), to.Addr().BitLen()))
	return nil
}

// addrPort reads ADDRESS or ADDRESS:PORT.
func addrPort(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), dnsPort), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err == nil && ap.Port() == 0 {
		err = strconv.ErrRange
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), err
}
