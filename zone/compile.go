package zone

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Times to live, in seconds. What clients pick a member by is short, what elections of the zone's servers hang on is
// long, and nothing is 0, which some resolvers refuse to hand out twice.
const (
	ttlInfra   = 3600 // NS: configuration, so it changes only with the Corefile
	ttlDefault = 30   // N.D, _etcd-server*, SOA: changed by a person or by a replacement
	ttlFast    = 5    // _etcd-client*, apex addresses: changed by every crash
)

// SOA timers, in seconds. RFC 1912 §2.2 gives the ranges; NOTIFY makes refresh a fallback.
const (
	soaRefresh = 14400
	soaRetry   = 3600
	soaExpire  = 1209600
	// soaMinimum is the negative TTL (RFC 2308 §4): how long a client goes on to believe that a cluster is not born.
	soaMinimum = 5
)

// Options are the parts of the zone that are configured, not learnt.
type Options struct {
	// Contact is the SOA's RNAME as a domain name (RFC 1035 §3.3.13); default hostmaster.<domain>.
	Contact string
	// TTL replaces the 30 s of node addresses and _etcd-server*: whole seconds, 1 s to 1 h; 0 is the default.
	TTL time.Duration
	// Aliases publishes the client set of the default cluster under _etcd._tcp or _etcd-ssl._tcp, by its scheme, and
	// under _etcdv3._tcp, for clients that look there.
	Aliases bool
}

// Compile makes the zone of a roster. It is pure: the same roster in any order, options and serial give the same
// snapshot. It refuses a roster that cannot be published in full, with an error for the operator; what is merely not
// known yet is compiled to SERVFAIL.
func Compile(r roster.Roster, o Options, serial uint32) (*Snapshot, error) {
	s, err := compile(r, o)
	if err != nil {
		return nil, err
	}
	return s.seal(serial), nil
}

// compile makes the content, with serial 0.
func compile(r roster.Roster, o Options) (*Snapshot, error) {
	r = r.Clone()
	if err := check(r); err != nil {
		return nil, err
	}
	o, err := o.check(r.Domain)
	if err != nil {
		return nil, err
	}
	b := &builder{roster: r, options: o, domain: r.Domain, names: map[string]*entry{}}
	b.apex()
	b.hosts()
	b.nameServers()
	b.name("_tcp." + b.domain) // exists from the first snapshot on, so that no resolver cuts the services off (RFC 8020)
	for _, c := range r.Clusters {
		b.cluster(c)
	}
	b.apexAddresses()
	b.additional()
	if err := b.checkSizes(); err != nil {
		return nil, err
	}
	s := (&Snapshot{domain: b.domain, names: b.names}).seal(0)
	s.digest = s.sum()
	return s, nil
}

// builder holds a snapshot that is being compiled.
type builder struct {
	roster  roster.Roster
	options Options
	domain  string
	names   map[string]*entry
}

// name returns the entry of a name and makes it and the empty non-terminals above it.
func (b *builder) name(name string) *entry {
	e, ok := b.names[name]
	if !ok {
		e = &entry{sets: map[uint16]*rrset{}}
		b.names[name] = e
		if _, parent, below := strings.Cut(name, "."); below && name != b.domain {
			b.name(parent)
		}
	}
	return e
}

func (b *builder) add(rr dns.RR) {
	e, t := b.name(rr.Header().Name), rr.Header().Rrtype
	if e.sets[t] == nil {
		e.sets[t] = &rrset{}
	}
	e.sets[t].rrs = append(e.sets[t].rrs, rr)
}

// unready marks sets that may not be served yet.
func (b *builder) unready(name, why string, types ...uint16) {
	e := b.name(name)
	for _, t := range types {
		if e.sets[t] == nil {
			e.sets[t] = &rrset{}
		}
		e.sets[t].unready = why
	}
}

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// apex adds SOA and NS.
func (b *builder) apex() {
	b.add(&dns.SOA{
		Hdr: header(b.domain, dns.TypeSOA, ttlDefault),
		// RFC 1996 §2.1: MNAME is the primary, and the one that secondaries do not notify.
		Ns: b.roster.NameServers[0].Name, Mbox: b.options.Contact,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: soaMinimum,
	})
	for _, ns := range b.roster.NameServers {
		b.add(&dns.NS{Hdr: header(b.domain, dns.TypeNS, ttlInfra), Ns: ns.Name})
	}
	if why, wait := unknown(b.roster); wait {
		b.unready(b.domain, why, dns.TypeSOA)
	}
}

// unknown tells why the apex may not speak for the cluster yet: the default cluster is unknown or, where there is
// none, any is.
func unknown(r roster.Roster) (why string, ok bool) {
	if c, ok := r.Cluster(""); ok {
		return notKnown(c), c.Knowledge == roster.Unknown
	}
	for _, c := range r.Clusters {
		if c.Knowledge == roster.Unknown {
			return notKnown(c), true
		}
	}
	return "", false
}

func notKnown(c roster.Cluster) string {
	if c.Name == "" {
		return "not known yet whether the default cluster is born"
	}
	return "not known yet whether cluster " + c.Name + " is born"
}

// hosts adds the nodes' addresses, which no verdict about liveness withdraws.
func (b *builder) hosts() {
	for _, n := range b.roster.Nodes {
		// A node becomes the target of an SRV record by joining, and etcd compares what a target resolves to with one
		// URL, so that a node has one address a family throughout.
		name := n.Name + "." + b.domain
		if len(n.Addrs) == 0 {
			// The node exists and has an address that is not known here, so that NODATA would be a guess.
			b.name(name).unready = noAddress(name)
		}
		b.addresses(name, onePerFamily(n.Addrs), b.options.ttl())
		if len(n.PeerAddrs) > 0 {
			b.addresses(n.PeerHost()+"."+b.domain, onePerFamily(n.PeerAddrs), b.options.ttl())
		}
	}
}

func (o Options) ttl() uint32 {
	if o.TTL == 0 {
		return ttlDefault
	}
	return uint32(o.TTL / time.Second)
}

// addresses adds A and AAAA records.
func (b *builder) addresses(name string, addrs []netip.Addr, ttl uint32) {
	for _, a := range slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)) {
		if a.Is4() {
			b.add(&dns.A{Hdr: header(name, dns.TypeA, ttl), A: net.IP(a.AsSlice())})
		} else {
			b.add(&dns.AAAA{Hdr: header(name, dns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())})
		}
	}
}

// onePerFamily returns the first IPv4 and the first IPv6 address.
func onePerFamily(addrs []netip.Addr) (out []netip.Addr) {
	for _, want4 := range []bool{true, false} {
		if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == want4 }); i >= 0 {
			out = append(out, addrs[i])
		}
	}
	return out
}

// nameServers adds the addresses of name servers in the zone that are not nodes.
func (b *builder) nameServers() {
	for _, ns := range b.roster.NameServers {
		if len(ns.Addrs) > 0 {
			b.addresses(ns.Name, ns.Addrs, ttlInfra)
		}
	}
}

// apexAddresses adds the addresses of the default cluster's client-serving members, for clients that know no SRV.
func (b *builder) apexAddresses() {
	why, wait := unknown(b.roster)
	c, _ := b.roster.Cluster("")
	var addrs []netip.Addr
	for _, m := range clients(c) {
		n, _ := b.roster.Node(m.Node)
		if len(n.Addrs) == 0 {
			why, wait = noAddress(m.Node+"."+b.domain), true
		}
		addrs = append(addrs, onePerFamily(n.Addrs)...)
	}
	if wait {
		b.unready(b.domain, why, dns.TypeA, dns.TypeAAAA)
		return
	}
	b.addresses(b.domain, addrs, ttlFast)
}

func noAddress(name string) string { return fmt.Sprintf("no address of %s is known", name) }

// additional fills in the additional sections: the addresses of the names that SRV (RFC 2782) and NS records (RFC 1035
// §3.3.11) point to, which check has found to differ, and all IPv4 RRsets before the IPv6 ones, since what does not fit is cut from the end.
func (b *builder) additional() {
	for _, e := range b.names {
		for t, set := range e.sets {
			if t == dns.TypeSRV || t == dns.TypeNS {
				set.extra = b.glue(set.rrs)
			}
		}
	}
}

func (b *builder) glue(rrs []dns.RR) (extra []dns.RR) {
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range rrs {
			if e := b.names[target(rr)]; e != nil && e.sets[t] != nil {
				extra = append(extra, e.sets[t].rrs...)
			}
		}
	}
	return extra
}

func target(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.SRV:
		return rr.Target
	case *dns.NS:
		return rr.Ns
	}
	return ""
}
