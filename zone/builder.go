package zone

import (
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

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
