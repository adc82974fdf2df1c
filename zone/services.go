package zone

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// service is one SRV name of a cluster.
type service struct {
	// owner is what stands before ._tcp.D.
	owner string
	ttl   uint32
	// plain says whether members with or without TLS are listed. A service that lists none is denied.
	plain bool
	// members are those that may be listed.
	members func(roster.Cluster) []endpoint
}

// endpoint is a host, in the form of roster.Member.PeerHost, and a TCP port; 0 for none that can be published.
type endpoint struct {
	host  string
	port  uint16
	plain bool
	// serving endpoints are listed, all if there is none: an empty answer would say that the service does not exist.
	serving bool
}

// target returns the host's absolute name, and whether it lies outside of the zone.
func (b *builder) target(e endpoint) (name string, outside bool) {
	if strings.HasSuffix(e.host, ".") {
		return e.host, true
	}
	return e.host + "." + b.domain, false
}

// services returns every SRV name that is the cluster's to publish, deny or keep silent of. The names are those that
// etcd asks for: client/pkg/srv/srv.go GetCluster and GetClient.
func (b *builder) services(c roster.Cluster) []service {
	suffix := ""
	if c.Name != "" {
		suffix = "-" + c.Name
	}
	out := []service{
		{"_etcd-server-ssl" + suffix, b.options.ttl(), false, servers},
		{"_etcd-server" + suffix, b.options.ttl(), true, servers},
		{"_etcd-client-ssl" + suffix, ttlFast, false, clientEndpoints},
		{"_etcd-client" + suffix, ttlFast, true, clientEndpoints},
	}
	if b.options.Aliases && c.Name == "" {
		out = append(out,
			service{"_etcd-ssl", ttlFast, false, clientEndpoints},
			service{"_etcd", ttlFast, true, clientEndpoints},
			service{"_etcdv3", ttlFast, c.Plain, clientEndpoints})
	}
	return out
}

// cluster adds a cluster's SRV sets: complete, or absent for certain, or not ready.
func (b *builder) cluster(c roster.Cluster) {
	for _, s := range b.services(c) {
		owner := s.owner + "._tcp." + b.domain
		switch c.Knowledge {
		case roster.Unknown:
			b.name(owner).unready = notKnown(c)
		case roster.Unborn: // no entry, hence NXDOMAIN
		default:
			b.service(owner, s, c)
		}
	}
}

// service adds one SRV set: none of it when no member has its scheme, since etcd takes whichever of the two it finds
// first; not ready when there is a member of which nothing can be published, or a target has no address.
func (b *builder) service(owner string, s service, c roster.Cluster) {
	ends := s.members(c)
	if len(ends) == 0 || slices.ContainsFunc(ends, func(e endpoint) bool { return e.port == 0 }) {
		b.name(owner).unready = "the URLs that the members of cluster " + c.Name + " advertise cannot be published"
		return
	}
	ends = slices.DeleteFunc(ends, func(e endpoint) bool { return e.plain != s.plain })
	if slices.ContainsFunc(ends, func(e endpoint) bool { return e.serving }) {
		ends = slices.DeleteFunc(ends, func(e endpoint) bool { return !e.serving })
	}
	for _, end := range ends {
		if host, outside := b.target(end); !outside && !b.reachable(host) {
			b.name(owner).unready = noAddress(host)
			return
		}
	}
	for i, end := range ends {
		if slices.ContainsFunc(ends[:i], func(e endpoint) bool { return e.host == end.host && e.port == end.port }) {
			continue // members behind one address; RFC 2181 §5: no record twice
		}
		host, outside := b.target(end)
		if !outside {
			host = b.find(host).name
		}
		e := b.name(owner)
		// Weight 0 throughout (RFC 2782: no selection to do): etcd's gateway draws wrong among equal weights above it.
		e.add(&dns.SRV{Hdr: header(e.name, dns.TypeSRV, s.ttl), Port: end.port, Target: host})
	}
}

// reachable reports whether a name has an address.
func (b *builder) reachable(name string) bool {
	e := b.find(name)
	return e != nil && (e.served(dns.TypeA) || e.served(dns.TypeAAAA))
}

// servers returns every member: voters, learners and those not started yet.
func servers(c roster.Cluster) (out []endpoint) {
	for _, m := range c.Members {
		out = append(out, endpoint{m.PeerHost, m.PeerPort, plain(c, m.PlainPeer), true})
	}
	return out
}

// clientEndpoints returns every member but those of outside clusters that advertise nothing for clients.
func clientEndpoints(c roster.Cluster) (out []endpoint) {
	for _, m := range c.Members {
		if !c.Outside || m.ClientPort != 0 {
			out = append(out, endpoint{m.ClientLabel(), m.ClientPort, plain(c, m.PlainClient), m.Serving})
		}
	}
	return out
}

// plain says whether a URL of a member is without TLS.
func plain(c roster.Cluster, own bool) bool {
	if c.Outside {
		return own
	}
	return c.Plain
}

// clients returns the members of a born cluster that serve clients, all of them when none does: an empty answer would
// say that the service does not exist.
func clients(c roster.Cluster) []roster.Member {
	if c.Knowledge != roster.Born {
		return nil
	}
	serving := slices.DeleteFunc(slices.Clone(c.Members), func(m roster.Member) bool { return !m.Serving })
	if len(serving) == 0 {
		return c.Members
	}
	return serving
}
