package zone

import (
	"slices"
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
	s, err := new(compiler).compile(r, o)
	if err != nil {
		return nil, err
	}
	return s.seal(serial), nil
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
	if m.PeerHost == m.Node || m.PeerHost == m.Node+"-peer" {
		return []string{m.Node}
	}
	return []string{m.Node, m.PeerHost, hostNode(m.PeerHost)}
}

// compile returns the content, which is not to be asked before it is sealed. The compiler keeps r: its slices must not change any more. After an
// error it is as before.
func (c *compiler) compile(r roster.Roster, o Options) (*Snapshot, error) {
	if err := checkDomain(r.Domain); err != nil {
		return nil, err
	}
	o, err := o.check(r.Domain)
	if err != nil {
		return nil, err
	}
	last := c
	if c.snapshot == nil || c.options != o || c.roster.Domain != r.Domain {
		last = new(compiler) // everything may differ
	}
	d, ok, err := compare(last.roster, r)
	if !ok {
		r = r.Clone()
		d, _, err = compare(last.roster, r)
	}
	if err != nil {
		return nil, err
	}
	if last.snapshot != nil && d.empty() && sameServers(last.roster, r) {
		c.roster = r
		return c.snapshot, nil
	}
	b := &builder{roster: r, options: o, domain: r.Domain, entries: map[string]*entry{}, gone: map[string]bool{}}
	if err := b.build(last, d); err != nil {
		return nil, err
	}
	snapshot := b.assemble()
	if last != c {
		c.users = users{}
	}
	for _, was := range d.clusters {
		now, _ := cluster(r, was.Name)
		if last != c {
			was = roster.Cluster{}
		}
		c.users.change(was, now)
	}
	c.snapshot, c.roster, c.options, c.fixed = snapshot, r, o, b.fixed
	return snapshot, nil
}

func sameServers(a, b roster.Roster) bool {
	return slices.EqualFunc(a.NameServers, b.NameServers, func(x, y roster.NameServer) bool {
		return x.Name == y.Name && slices.Equal(x.Addrs, y.Addrs)
	})
}

// builder makes the entries in which one roster differs from another.
type builder struct {
	roster  roster.Roster
	options Options
	domain  string
	// base is what is built upon; nil when everything is made.
	base *Snapshot
	// entries are new or made anew; gone are those of the base that may have no successor.
	entries map[string]*entry
	gone    map[string]bool
	// fixed is the compiler's.
	fixed []string
	err   error
}

// build makes all entries that may differ from those of last.
func (b *builder) build(last *compiler, d difference) error {
	b.base = last.snapshot
	for _, name := range last.fixed {
		b.gone[name] = true
	}
	moved := map[string]bool{}
	for _, c := range d.clusters {
		moved[c.Name] = true
	}
	for _, n := range d.nodes {
		b.forget(n.Name + "." + b.domain)
		if len(n.PeerAddrs) > 0 {
			b.forget(n.PeerHost() + "." + b.domain)
		}
		for _, c := range last.users[n.Name] {
			moved[c] = true
		}
	}
	old := builder{roster: last.roster, options: last.options, domain: b.domain}
	for _, c := range d.clusters {
		for _, s := range old.services(c) {
			b.forget(s.owner + "._tcp." + b.domain)
		}
	}
	for _, n := range b.nodes(d) {
		b.host(n)
	}
	b.zone()
	for name := range moved {
		if c, ok := cluster(b.roster, name); ok {
			b.cluster(c)
		}
	}
	b.emptyNonTerminals()
	b.additional()
	return b.err
}

// forget says that a name of the base may be gone.
func (b *builder) forget(name string) {
	if b.base != nil {
		b.gone[name] = true
	}
}

// nodes returns the nodes that differ, as they are now.
func (b *builder) nodes(d difference) (out []roster.Node) {
	for _, n := range d.nodes {
		if now, ok := node(b.roster, n.Name); ok {
			out = append(out, now)
		}
	}
	return out
}

// name returns the entry of a name that is being made.
func (b *builder) name(name string) *entry {
	e, ok := b.entries[name]
	if !ok {
		if e, ok = newEntry(name, b.domain); !ok {
			b.err = tooLong(name)
		}
		b.entries[name] = e
	}
	return e
}

// find returns the entry of a name, made anew or of the base, nil if there is none.
func (b *builder) find(name string) *entry {
	if e, ok := b.entries[name]; ok {
		return e
	}
	if b.base == nil || b.gone[name] {
		return nil
	}
	return b.base.entry(name)
}

func (b *builder) add(rr dns.RR) { b.name(rr.Header().Name).add(rr) }

// unready marks sets that may not be served yet.
func (b *builder) unready(name, why string, types ...uint16) {
	e := b.name(name)
	for _, t := range types {
		e.make(t).unready = why
	}
}

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// assemble lays the entries over the base.
func (b *builder) assemble() *Snapshot {
	apex, _ := appendWire(nil, b.domain)
	p := newPacker()
	for _, e := range b.entries {
		p.pack(e)
	}
	s := &Snapshot{domain: b.domain, apex: apex, owner: hash(apex), top: b.entries[b.domain]}
	if b.base == nil {
		s.fill(b.entries, p)
	} else {
		s.change(b.base, b.entries, b.gone, p)
	}
	return s
}
