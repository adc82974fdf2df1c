package zone

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Reverse is a zone of PTR records for the nodes' addresses (RFC 1035 §3.5, RFC 3596 §2.5).
type Reverse struct {
	// Zone is the apex: absolute, lower case, below in-addr.arpa or ip6.arpa.
	Zone string
	// Prefix holds the addresses that belong to it. Where its length is no whole number of labels (RFC 2317), the
	// names of addresses are their last octet before the apex.
	Prefix netip.Prefix
}

// name returns the owner of an address's PTR record.
func (v Reverse) name(addr netip.Addr) (name string, ok bool) {
	if !v.Prefix.Contains(addr) {
		return "", false
	}
	full, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return "", false
	}
	if dns.IsSubDomain(v.Zone, full) {
		return full, true
	}
	last, _, _ := strings.Cut(full, ".")
	return last + "." + v.Zone, true // RFC 2317 §4
}

// CompileReverse makes a reverse zone of a roster, as Compile makes its domain's zone.
func CompileReverse(v Reverse, r roster.Roster, o Options, serial uint32) (*Snapshot, error) {
	s, _, err := (&reverseCompiler{zone: v}).compile(r, o)
	if err != nil {
		return nil, err
	}
	return s.seal(serial)
}

// reverseCompiler compiles a reverse zone anew whenever a node or a name server differs. What is the same is kept.
type reverseCompiler struct {
	zone     Reverse
	snapshot *Snapshot
	roster   roster.Roster
	options  Options
}

func (c *reverseCompiler) compile(r roster.Roster, o Options) (*Snapshot, map[string]bool, error) {
	if err := checkDomain(r.Domain); err != nil {
		return nil, nil, err
	}
	o, err := o.check(r.Domain)
	if err != nil {
		return nil, nil, err
	}
	d, ok, err := compare(c.roster, r)
	if !ok {
		r = r.Clone()
		d, _, err = compare(c.roster, r)
	}
	if err != nil {
		return nil, nil, err
	}
	if c.snapshot != nil && len(d.nodes) == 0 && c.options.equal(o) && sameServers(c.roster, r) {
		c.roster = r
		return c.snapshot, nil, nil
	}
	b := &builder{roster: r, options: o, domain: c.zone.Zone, base: c.snapshot, entries: map[string]*entry{}, gone: map[string]bool{}}
	if c.snapshot != nil {
		for e := range c.snapshot.order.all() {
			b.gone[e.name] = true
		}
	}
	b.reverse(c.zone)
	b.emptyNonTerminals()
	if b.err != nil {
		return nil, nil, b.err
	}
	s, err := b.assemble()
	if err != nil {
		return nil, nil, err
	}
	c.snapshot, c.roster, c.options = s, r, o
	return s, b.touched(), nil
}

// reverse adds SOA, NS and a PTR record for each address that is published.
func (b *builder) reverse(v Reverse) {
	b.authority()
	for _, n := range b.roster.Nodes {
		b.pointers(v, roster.OnePerFamily(n.Addrs), n.Name)
		b.pointers(v, roster.OnePerFamily(n.PeerAddrs), n.PeerHost())
	}
	if b.options.Signer != nil {
		b.signing()
	}
}

func (b *builder) pointers(v Reverse, addrs []netip.Addr, host string) {
	for _, a := range addrs {
		if name, ok := v.name(a); ok {
			b.add(&dns.PTR{Hdr: header(name, dns.TypePTR, b.options.ttl()), Ptr: host + "." + b.roster.Domain})
		}
	}
}
