package zone

import (
	"slices"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// service is one SRV name of a cluster.
type service struct {
	// owner is what stands before ._tcp.D.
	owner string
	ttl   uint32
	// plain says whether clusters with or without TLS publish it; the others deny it.
	plain bool
	// members are those it lists, each by host label and port.
	members func(roster.Cluster) []endpoint
}

// endpoint is a host label below the domain and a TCP port.
type endpoint struct {
	host string
	port uint16
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
		switch {
		case c.Knowledge == roster.Unknown:
			b.name(owner).unready = notKnown(c)
		case c.Knowledge == roster.Unborn || c.Plain != s.plain:
			// No entry, hence NXDOMAIN: etcd takes whichever of the two schemes it finds first.
		default:
			b.service(owner, s.ttl, s.members(c))
		}
	}
}

// service adds one SRV set, or none of it when a target has no address.
func (b *builder) service(owner string, ttl uint32, ends []endpoint) {
	e := b.name(owner)
	for _, end := range ends {
		if host := end.host + "." + b.domain; !b.reachable(host) {
			e.unready = noAddress(host)
			return
		}
	}
	for _, end := range ends {
		// Weight 0 throughout (RFC 2782: no selection to do): etcd's gateway draws wrong among equal weights above it.
		e.add(&dns.SRV{Hdr: header(e.name, dns.TypeSRV, ttl), Port: end.port, Target: b.find(end.host + "." + b.domain).name})
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
		out = append(out, endpoint{m.PeerHost, m.PeerPort})
	}
	return out
}

func clientEndpoints(c roster.Cluster) (out []endpoint) {
	for _, m := range clients(c) {
		out = append(out, endpoint{m.Node, m.ClientPort})
	}
	return out
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
