package zone

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// assemble lays the new entries over the base: first their order, for NSEC records name their successors, then the
// signatures, then the packed answers, which hold all that.
func (b *builder) assemble() (*Snapshot, error) {
	apex, _ := appendWire(nil, b.domain)
	s := &Snapshot{domain: b.domain, apex: apex, owner: hash(apex), signer: b.options.Signer}
	if b.base == nil {
		b.base = &Snapshot{names: &table{}}
	}
	order := b.arrange()
	if s.signer != nil {
		b.chain(order)
	}
	b.additional() // points into the entries, so their sets are complete by now
	if s.signer != nil {
		if err := b.sign(s.signer); err != nil {
			return nil, err
		}
	}
	p := newPacker()
	for _, e := range b.entries {
		p.pack(e)
	}
	b.fill(s, order, p)
	return s, nil
}

// touched returns the names that were made anew or taken away.
func (b *builder) touched() map[string]bool {
	names := maps.Clone(b.gone)
	for name := range b.entries {
		names[name] = true
	}
	return names
}

// arrange returns the order of all names below the apex.
func (b *builder) arrange() *orderEdit {
	if b.base.top == nil {
		var below []*entry
		for _, e := range b.entries {
			if len(e.labels()) > 0 {
				below = append(below, e)
			}
		}
		return sorted(below)
	}
	order := b.base.order.edit()
	for name := range b.gone {
		if old := b.base.entry(name); old != nil && b.entries[name] == nil {
			order.remove(old.labels())
		}
	}
	for _, e := range b.entries {
		if len(e.labels()) > 0 {
			order.put(e)
		}
	}
	return order
}

// fill puts the entries into the snapshot's tables. What says the same as before stays, so that the next version
// shares it.
func (b *builder) fill(s *Snapshot, order *orderEdit, p *packer) {
	base := b.base
	s.content, s.unready, s.records = base.content, base.unready, base.records
	names := base.names.edit(base.names.count + len(b.entries))
	for name := range b.gone {
		if old := base.entry(name); old != nil && b.entries[name] == nil {
			names.remove(old.wire())
			s.count(old, -1, p)
		}
	}
	for _, e := range b.entries {
		old := base.find(e.wire())
		keep := old != nil && old.same(e, p.msg)
		switch {
		case keep:
			e = old
		case old != nil:
			s.count(old, -1, p)
			fallthrough
		default:
			s.count(e, 1, p)
		}
		if len(e.labels()) == 0 {
			s.top = e
			continue
		}
		order.put(e)
		if !keep {
			names.put(e)
		}
	}
	s.names, s.order = names.done(), order.done()
}

// chain gives each new entry, and each whose successor may be another now, its NSEC record (RFC 4034 §4).
func (b *builder) chain(order *orderEdit) {
	top := b.entries[b.domain]
	before := func(labels []byte) {
		p := order.owner(labels, top)
		if b.entries[p.name] == nil {
			p = p.clone()
			b.entries[p.name] = p
			order.put(p)
		}
	}
	if b.base.top != nil {
		for _, e := range slices.Collect(maps.Values(b.entries)) {
			before(e.labels())
		}
		for name := range b.gone {
			if old := b.base.entry(name); old != nil {
				before(old.labels())
			}
		}
	}
	for _, e := range b.entries {
		if e.empty() {
			continue // RFC 4035 §2.3: NSEC is never the only RRset of a name
		}
		next := order.next(e.labels(), top)
		set := e.make(dns.TypeNSEC)
		*set = rrset{rrtype: dns.TypeNSEC, rrs: []dns.RR{&dns.NSEC{
			// RFC 9077 §3: the smaller of the SOA's TTL and its MINIMUM.
			Hdr: header(e.name, dns.TypeNSEC, soaMinimum), NextDomain: next.name, TypeBitMap: e.types()}}}
	}
}

// types lists the types of the name for its NSEC record, in ascending order. What is not known yet is not denied: a
// resolver may answer from what NSEC records deny (RFC 8198).
func (e *entry) types() []uint16 {
	out := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	if e.unready != "" {
		out = append(out, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
	}
	for _, s := range e.sets {
		out = append(out, s.rrtype)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sign signs all new RRsets but the SOA record, which has no serial yet. Signatures of what is as it was are taken
// over: they would be the same octets.
func (b *builder) sign(signer sign.Signer) error {
	work := make(chan *entry)
	errs := make([]error, runtime.GOMAXPROCS(0))
	reuse := b.base.top != nil && signerID(b.base.signer) == signer.ID()
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			for e := range work {
				var old *entry
				if reuse {
					old = b.base.find(e.wire())
				}
				errs[i] = errors.Join(errs[i], e.sign(signer, old))
			}
		})
	}
	for _, e := range b.entries {
		work <- e
	}
	close(work)
	group.Wait()
	return errors.Join(errs...)
}

func (e *entry) sign(signer sign.Signer, old *entry) error {
	for i := range e.sets {
		s := &e.sets[i]
		if len(s.rrs) == 0 || len(s.sigs) > 0 || s.rrtype == dns.TypeSOA {
			continue
		}
		if old != nil {
			if was := old.set(s.rrtype); was != nil && sameRecords(was.rrs, s.rrs) {
				s.sigs = was.sigs
				continue
			}
		}
		if err := s.sign(signer); err != nil {
			return err
		}
	}
	return nil
}

func (s *rrset) sign(signer sign.Signer) error {
	sigs, err := signer.Sign(s.rrs)
	if err != nil {
		return fmt.Errorf("sign %s %s: %w", s.rrs[0].Header().Name, dns.Type(s.rrtype), err)
	}
	s.sigs = make([]dns.RR, len(sigs))
	for i, sig := range sigs {
		s.sigs[i] = sig
	}
	return nil
}
