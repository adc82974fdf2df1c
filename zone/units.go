package zone

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// zone makes the names that belong to no node and no cluster: the apex, _tcp, and name servers with addresses of
// their own.
func (b *builder) zone() {
	b.apex()
	b.apexAddresses()
	for _, ns := range b.roster.NameServers {
		if len(ns.Addrs) > 0 {
			b.addresses(ns.Name, ns.Addrs, ttlInfra)
			b.fixed = append(b.fixed, ns.Name)
		}
	}
	// _tcp exists from the first snapshot on, so that no resolver cuts the services off (RFC 8020). It owns a record,
	// because neither an NSEC chain (RFC 4035 §2.3) nor master format can tell of a name that has none and nothing below.
	b.add(&dns.TXT{Hdr: header("_tcp."+b.domain, dns.TypeTXT, b.options.ttl()), Txt: []string{"etcd-dns"}})
	b.fixed = append(b.fixed, b.domain, "_tcp."+b.domain)
	for _, rr := range b.options.Records {
		// The Corefile's checks know its own nodes; a node that only a member list still names has its name all the same.
		if _, taken := hostAddrs(b.roster, rr.Header().Name); taken {
			b.err = refuse("give the record another name", "the record %s stands at a name of a node", rr.Header().Name)
		}
		b.add(rr)
		b.fixed = append(b.fixed, rr.Header().Name)
	}
	if b.options.Signer != nil {
		b.signing()
	}
}

// signing adds what a signed zone's apex has besides: the keys, and word for the parent to keep its NS and glue as they
// are here (RFC 7477: flags immediate, and the serial does not matter).
func (b *builder) signing() {
	for _, rr := range b.options.Signer.Keys() {
		b.add(rr)
	}
	b.add(&dns.CSYNC{Hdr: header(b.domain, dns.TypeCSYNC, ttlInfra), Flags: 1, TypeBitMap: []uint16{dns.TypeA, dns.TypeNS, dns.TypeAAAA}})
}

// emptyNonTerminals makes the names between those that exist and the apex exist (RFC 8020 §2).
func (b *builder) emptyNonTerminals() {
	for _, name := range slices.Collect(maps.Keys(b.entries)) {
		for name != b.domain {
			_, name, _ = strings.Cut(name, ".")
			if b.find(name) == nil {
				b.name(name)
				b.fixed = append(b.fixed, name)
			}
		}
	}
}

// apex adds SOA and NS, and says when the zone has no version yet: while nothing is known of any cluster.
func (b *builder) apex() {
	b.authority()
	if cs := b.roster.Clusters; len(cs) > 0 && !slices.ContainsFunc(cs, func(c roster.Cluster) bool { return c.Knowledge != roster.Unknown }) {
		b.unready(b.domain, notKnown(cs[0]), dns.TypeSOA)
	}
}

// authority adds SOA and NS.
func (b *builder) authority() {
	expire := uint32(soaExpire)
	if b.options.Signer != nil {
		expire = soaSignedExpire
	}
	b.add(&dns.SOA{
		Hdr: header(b.domain, dns.TypeSOA, ttlDefault),
		// RFC 1996 §2.1: MNAME is the primary, and the one that secondaries do not notify.
		Ns: b.roster.NameServers[0].Name, Mbox: b.options.Contact,
		Refresh: soaRefresh, Retry: soaRetry, Expire: expire, Minttl: soaMinimum,
	})
	for _, ns := range b.roster.NameServers {
		b.add(&dns.NS{Hdr: header(b.domain, dns.TypeNS, ttlInfra), Ns: ns.Name})
	}
}

func notKnown(c roster.Cluster) string {
	if c.Outside {
		return "not known yet which members cluster " + c.Name + " has"
	}
	if c.Name == "" {
		return "not known yet whether the default cluster is born"
	}
	return "not known yet whether cluster " + c.Name + " is born"
}

// host adds a node's addresses, which no verdict about liveness withdraws.
func (b *builder) host(n roster.Node) {
	// A node becomes the target of an SRV record by joining, and etcd compares what a target resolves to with one
	// URL, so that a node has one address a family throughout.
	name := n.Name + "." + b.domain
	if e := b.name(name); len(n.Addrs) == 0 {
		// The node exists and has an address that is not known here, so that NODATA would be a guess.
		e.unready = noAddress(name)
	}
	b.addresses(name, roster.OnePerFamily(n.Addrs), b.options.ttl())
	if len(n.PeerAddrs) > 0 {
		b.addresses(n.PeerHost()+"."+b.domain, roster.OnePerFamily(n.PeerAddrs), b.options.ttl())
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
	e := b.name(name)
	for _, a := range slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)) {
		if a.Is4() {
			e.add(&dns.A{Hdr: header(e.name, dns.TypeA, ttl), A: net.IP(a.AsSlice())})
		} else {
			e.add(&dns.AAAA{Hdr: header(e.name, dns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())})
		}
	}
}

// apexAddresses adds the addresses of the default cluster's client-serving members, for clients that know no SRV.
func (b *builder) apexAddresses() {
	c, some := b.roster.Cluster("")
	why, wait := notKnown(c), some && c.Knowledge == roster.Unknown
	var addrs []netip.Addr
	for _, m := range clients(c) {
		n, _ := node(b.roster, m.Node)
		if len(n.Addrs) == 0 {
			why, wait = noAddress(m.Node+"."+b.domain), true
		}
		addrs = append(addrs, roster.OnePerFamily(n.Addrs)...)
	}
	if wait {
		b.unready(b.domain, why, dns.TypeA, dns.TypeAAAA)
		return
	}
	b.addresses(b.domain, addrs, ttlFast)
}

func noAddress(name string) string { return fmt.Sprintf("no address of %s is known", name) }

// additional fills in the additional sections: the addresses of the names that SRV (RFC 2782) and NS records (RFC 1035
// §3.3.11) point to, which the checks have found to differ, and all IPv4 RRsets before the IPv6 ones, since what does
// not fit is cut from the end.
func (b *builder) additional() {
	for _, e := range b.entries {
		for i := range e.sets {
			if s := &e.sets[i]; s.rrtype == dns.TypeSRV || s.rrtype == dns.TypeNS {
				s.extra = b.glue(s.rrs)
			}
		}
	}
}

func (b *builder) glue(rrs []dns.RR) (extra []*rrset) {
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range rrs {
			if e := b.find(target(rr)); e != nil && e.set(t) != nil {
				extra = append(extra, e.set(t))
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
