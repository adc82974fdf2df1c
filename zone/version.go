package zone

import (
	"iter"
	"slices"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// maxJournal is how many changes a node can hand out one by one. A secondary that missed more gets the whole zone.
const maxJournal = 100

// Origin implements xfr.Zone; it is empty before the first snapshot.
func (s *Store) Origin() string {
	if snap := s.Load(); snap != nil {
		return snap.domain
	}
	return ""
}

// Version implements xfr.Zone: nil while any name of the zone is not known yet. A secondary denies what it did not
// get, and would deny it for as long as it takes to hear of the next version.
func (s *Store) Version() xfr.Version {
	if snap := s.Load(); snap != nil && snap.serial != 0 && snap.complete() {
		return snap
	}
	return nil
}

// SOA implements xfr.Version.
func (s *Snapshot) SOA() *dns.SOA { return s.top.set(dns.TypeSOA).rrs[0].(*dns.SOA) }

// Records implements xfr.Version.
func (s *Snapshot) Records() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for e := range s.all() {
			for rr := range e.records() {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// records yields all of the entry's records but the SOA.
func (e *entry) records() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for _, set := range e.sets {
			rrs := set.rrs
			if set.rrtype == dns.TypeSOA {
				rrs = nil
			}
			for _, rr := range slices.Concat(rrs, set.sigs) {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// Len implements xfr.Version.
func (s *Snapshot) Len() int { return s.records }

// Since implements xfr.Version. RFC 1995 §4: a full zone is sent instead of differences that are longer.
func (s *Snapshot) Since(serial uint32) (changes []xfr.Delta, ok bool) {
	i := slices.IndexFunc(s.journal, func(d xfr.Delta) bool { return d.From.Serial == serial })
	if i < 0 {
		return nil, false
	}
	total := 0
	for _, d := range s.journal[i:] {
		total += len(d.Removed) + len(d.Added) + 2
	}
	return s.journal[i:], total <= s.records
}

// follow records how s differs from the version before it, by the names that may differ. Versions that cannot be
// transferred have no part in it, and the journal begins anew after them.
func (s *Snapshot) follow(last *Snapshot, names map[string]bool) {
	if last == nil || last.serial == 0 || s.serial == 0 || !last.complete() || !s.complete() || last.domain != s.domain {
		return
	}
	d := xfr.Delta{From: last.SOA(), To: s.SOA()}
	if len(names) > s.records {
		return // not worth it
	}
	compare := func(was, now *entry) {
		if was != now {
			d.Removed = append(d.Removed, missing(was, now)...)
			d.Added = append(d.Added, missing(now, was)...)
		}
	}
	compare(last.top, s.top) // a serial alone changes the signature of the SOA record
	for name := range names {
		if name != s.domain {
			compare(last.entry(name), s.entry(name))
		}
	}
	kept := last.journal[max(0, len(last.journal)+1-maxJournal):]
	s.journal = append(slices.Clip(kept), d)
}

// missing returns the records of one entry that another lacks, or has with another TTL. Both may be nil.
func missing(a, b *entry) (out []dns.RR) {
	if a == nil {
		return nil
	}
	for rr := range a.records() {
		if !b.has(rr) {
			out = append(out, rr)
		}
	}
	return out
}

func (e *entry) has(rr dns.RR) bool {
	if e == nil {
		return false
	}
	for o := range e.records() {
		if o == rr || o.Header().Ttl == rr.Header().Ttl && dns.IsDuplicate(o, rr) {
			return true
		}
	}
	return false
}
