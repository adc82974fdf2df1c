package node

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/parent"
	"github.com/etcd-dns/etcd-dns/roster"
)

// delegationTTL of the parent's NS and glue records: an hour, because the NS set is configuration.
const delegationTTL = 3600

// Delegation returns the records that the parent zone must hold: the NS set, and glue for every name server below the
// domain (RFC 1034 §4.2.1).
func (o *Options) Delegation() (out []dns.RR) {
	r := o.Roster(func(string) int { return 0 })
	var glue []dns.RR
	for _, s := range r.NameServers {
		out = append(out, &dns.NS{Hdr: header(o.Domain, dns.TypeNS), Ns: s.Name})
		addrs := s.Addrs
		if label, below := strings.CutSuffix(s.Name, "."+o.Domain); below {
			if n, ok := r.Node(label); ok {
				addrs = roster.OnePerFamily(n.Addrs)
			}
		}
		for _, a := range addrs {
			glue = append(glue, addressRecord(s.Name, a))
		}
	}
	return append(out, glue...)
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: delegationTTL}
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: net.IP(a.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())}
}

// ownAddrs are the addresses of the rack's name servers; what answers there is not the parent.
func (o *Options) ownAddrs() (out []netip.Addr) {
	for _, n := range o.Nodes {
		out = append(append(out, n.Addrs...), n.Peers...)
	}
	for _, s := range o.NameServers {
		out = append(out, s.Addrs...)
	}
	return out
}

// Asker asks the parent of the domain through this machine's resolvers.
func (o *Options) Asker() (parent.Asker, error) { return parent.System(o.ownAddrs()) }

// Wanted is what the parent should hold. apex are the zone's records at the domain itself, of which CDS and DNSKEY
// decide about DS; known is false when they could not be had.
func (o *Options) Wanted(apex []dns.RR, known bool) parent.Want {
	w := parent.Want{Domain: o.Domain, Records: o.Delegation(), DSKnown: known}
	requested := false
	for _, rr := range apex {
		if rr.Header().Name != o.Domain {
			continue
		}
		switch rr := rr.(type) {
		case *dns.CDS:
			requested = true
			if rr.Algorithm != 0 { // RFC 8078 §4: algorithm 0 asks for the removal of DS
				ds := rr.DS
				ds.Hdr.Rrtype = dns.TypeDS
				w.DS = append(w.DS, &ds)
			}
		case *dns.DNSKEY:
			if rr.Flags&dns.SEP != 0 {
				w.Keys = append(w.Keys, rr)
			}
		}
	}
	// A signed zone without CDS has not been signed for long enough: a DS now could break it for some caches.
	w.DSKnown = known && (requested || len(w.Keys) == 0)
	for _, ds := range w.DS {
		ds.Hdr.Ttl = delegationTTL
	}
	return w
}
