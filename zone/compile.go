package zone

import (
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/sign"
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
	// soaSignedExpire is less than the nine days for which signatures are good at least: RFC 6781 §4.4.2 wants a
	// secondary that is cut off to fall silent before it serves expired ones.
	soaSignedExpire = 604800
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
	// Records are published beside what the roster gives: records of the types that RecordTypes lists, at names of
	// the domain that are nobody's. They belong to the compiler from then on.
	Records []dns.RR
	// Signer signs the zone; nil for a zone without DNSSEC.
	Signer sign.Signer
}

// equal reports whether two options give the same zone.
func (o Options) equal(p Options) bool {
	return o.Contact == p.Contact && o.TTL == p.TTL && o.Aliases == p.Aliases && signerID(o.Signer) == signerID(p.Signer) &&
		sameRecords(o.Records, p.Records)
}

func signerID(s sign.Signer) string {
	if s == nil {
		return ""
	}
	return s.ID()
}

// sameRecords compares records with their TTLs, in their order.
func sameRecords(a, b []dns.RR) bool {
	return slices.EqualFunc(a, b, func(a, b dns.RR) bool { return a.Header().Ttl == b.Header().Ttl && dns.IsDuplicate(a, b) })
}

// Compile makes the zone of a roster. It is pure: the same roster in any order, options and serial give the same
// snapshot. It refuses a roster that cannot be published in full, with an error for the operator; what is merely not
// known yet is compiled to SERVFAIL.
func Compile(r roster.Roster, o Options, serial uint32) (*Snapshot, error) {
	s, _, err := new(compiler).compile(r, o)
	if err != nil {
		return nil, err
	}
	return s.seal(serial)
}

// compiler compiles one roster after the other and does anew only what differs. What it makes is the same as if it
// had started from nothing. One goroutine owns it.
type compiler struct {
	// snapshot is the content of the roster and the options that were compiled last; nil before.
	snapshot *Snapshot
	roster   roster.Roster
	options  Options
	// fixed are the names of the zone that belong to no node and no cluster.
	fixed []string
	// users are the names of the clusters with a member on a node, by the node's name.
	users users
}

// users is an index from nodes to clusters.
type users map[string][]string

// change takes the members of a cluster as it was out and puts those of one as it is in.
func (u users) change(was, now roster.Cluster) {
	for _, m := range was.Members {
		for _, host := range hosts(m) {
			u[host] = slices.DeleteFunc(u[host], func(c string) bool { return c == was.Name })
		}
	}
	for _, m := range now.Members {
		for _, host := range hosts(m) {
			u[host] = append(u[host], now.Name)
		}
	}
}

// hosts are the nodes whose addresses a member's records hang on: usually one.
func hosts(m roster.Member) []string {
	client := m.ClientLabel()
	if (m.PeerHost == m.Node || m.PeerHost == m.Node+"-peer") && client == m.Node {
		return []string{m.Node}
	}
	return []string{m.Node, m.PeerHost, hostNode(m.PeerHost), client, hostNode(client)}
}

// compile returns the content, which is not to be asked before it is sealed, and the names in which it may differ from
// the last one. The compiler keeps r: its slices must not change any more. After an error it is as before.
func (c *compiler) compile(r roster.Roster, o Options) (*Snapshot, map[string]bool, error) {
	if err := checkDomain(r.Domain); err != nil {
		return nil, nil, err
	}
	o, err := o.check(r.Domain)
	if err != nil {
		return nil, nil, err
	}
	last := c
	if c.snapshot == nil || !c.options.equal(o) || c.roster.Domain != r.Domain {
		last = new(compiler) // everything may differ
	}
	d, ok, err := compare(last.roster, r)
	if !ok {
		r = r.Clone()
		d, _, err = compare(last.roster, r)
	}
	if err != nil {
		return nil, nil, err
	}
	if last.snapshot != nil && d.empty() && sameServers(last.roster, r) {
		c.roster = r
		return c.snapshot, nil, nil
	}
	b := &builder{roster: r, options: o, domain: r.Domain, entries: map[string]*entry{}, gone: map[string]bool{}}
	if err := b.build(last, d); err != nil {
		return nil, nil, err
	}
	snapshot, err := b.assemble()
	if err != nil {
		return nil, nil, err
	}
	touched := b.touched()
	if last != c && c.snapshot != nil {
		for e := range c.snapshot.all() {
			touched[e.name] = true
		}
	}
	c.users = last.users
	if c.users == nil {
		c.users = users{}
	}
	for _, was := range d.clusters {
		now, _ := cluster(r, was.Name)
		c.users.change(was, now)
	}
	c.snapshot, c.roster, c.options, c.fixed = snapshot, r, o, b.fixed
	return snapshot, touched, nil
}

func sameServers(a, b roster.Roster) bool {
	return slices.EqualFunc(a.NameServers, b.NameServers, func(x, y roster.NameServer) bool {
		return x.Name == y.Name && slices.Equal(x.Addrs, y.Addrs)
	})
}
