package zone

import (
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// Zones are all zones that a node is authoritative for: its domain and, if configured, reverse zones. The zero value
// has none. It is safe for concurrent use.
type Zones struct{ stores atomic.Pointer[[]*Store] }

// Set replaces the stores. The first is the domain's.
func (z *Zones) Set(stores ...*Store) {
	stores = slices.Clone(stores)
	z.stores.Store(&stores)
}

// All returns the stores in the order of Set. The slice is shared: it is not to be changed.
func (z *Zones) All() []*Store {
	if p := z.stores.Load(); p != nil {
		return *p
	}
	return nil
}

// Transferable returns the zones for package xfr.
func (z *Zones) Transferable() (out []xfr.Zone) {
	for _, s := range z.All() {
		out = append(out, s)
	}
	return out
}

// Answer implements front.Answerer. A name is looked up in the closest zone above it.
func (z *Zones) Answer(q *front.Question, msg []byte, n, limit int) front.Result {
	if snap := z.find(q.Name); snap != nil {
		return snap.Answer(q, msg, n, limit)
	}
	return front.Result{}
}

// find returns the snapshot of the closest zone at or above a wire name, nil if there is none.
func (z *Zones) find(wire []byte) (best *Snapshot) {
	for _, store := range z.All() {
		snap := store.Load()
		if snap == nil || best != nil && len(best.apex) >= len(snap.apex) {
			continue
		}
		if _, below := prefix(wire, snap.apex); below {
			best = snap
		}
	}
	return best
}

// lookup is find for a name in any letter case.
func (z *Zones) lookup(name string) *Snapshot {
	var scratch [maxWire]byte
	if wire, ok := appendWire(scratch[:0], name); ok {
		return z.find(wire)
	}
	return nil
}

// empty reports whether a zone has no snapshot yet, so that nobody knows what its names are.
func (z *Zones) empty() bool {
	stores := z.All()
	return len(stores) == 0 || slices.ContainsFunc(stores, func(s *Store) bool { return s.Load() == nil })
}

// owner identifies a name for rate limiting, as front.Result.Owner does; ok is false for what is no name.
func owner(name string) (id uint64, ok bool) {
	var scratch [maxWire]byte
	wire, ok := appendWire(scratch[:0], dns.Fqdn(name))
	return hash(wire), ok
}
