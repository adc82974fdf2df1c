package node

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// unicast reads an address that other machines can reach a host by, whatever network they are in. An IPv4-mapped one is
// taken as the IPv4 address that it stands for (RFC 4291 §2.5.5.2).
func (p *stanza) unicast(s, what, hint string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, p.errorf("%q is not an IP address", "write an IPv4 or IPv6 address without port or prefix length", s)
	}
	zone := a.Zone()
	// RFC 4007 §6: a zone has a meaning on its own machine alone, and a link-local address needs one.
	if a = a.Unmap(); zone != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return a, p.errorf("%s cannot be "+what, hint, s)
	}
	return a, nil
}

// addr reads an address of a node.
func (p *stanza) addr(s string) (netip.Addr, error) {
	a, err := p.unicast(s, "a node's address", "write the unicast address that the other machines reach it by")
	if err != nil {
		return a, err
	}
	for _, n := range p.o.Nodes {
		if slices.Contains(n.Addrs, a) || slices.Contains(n.Peers, a) {
			return a, p.errorf("address %s stands here and at node %s in line %d", "give each node its own address", a, n.Name, n.Line)
		}
	}
	return a, nil
}

// ns reads NAME [ADDRESS…]; a name without a dot is a node or lies below the domain.
func (p *stanza) ns(args []string) error {
	if len(args) == 0 {
		return p.errorf("ns without a name", "write ns NAME, such as ns infra0 or ns ns1.example.net")
	}
	s := roster.NameServer{Name: strings.ToLower(args[0])}
	if _, ok := dns.IsDomainName(s.Name); !ok {
		return p.errorf("%q is not a domain name", "write the name server's host name", args[0])
	}
	for _, a := range args[1:] {
		addr, err := p.unicast(a, "a name server's address", "write the unicast address that resolvers reach it by")
		if err != nil {
			return err
		}
		s.Addrs = append(s.Addrs, addr)
	}
	p.o.NameServers = append(p.o.NameServers, s)
	return nil
}
