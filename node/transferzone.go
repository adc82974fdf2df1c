package node

import (
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// journalVersions is how many versions a node remembers for IXFR.
const journalVersions = 32

// storeZone makes a zone.Store an xfr.Zone, from the text of its snapshots.
type storeZone struct {
	origin string
	store  *zone.Store
	log    *zap.Logger

	mu sync.Mutex
	// snap is the snapshot that the last version was made from; versions are oldest first. Guarded by mu.
	snap     *zone.Snapshot
	current  *zoneVersion
	versions []zoneContent
}

// Origin is the domain.
func (z *storeZone) Origin() string { return z.origin }

// Version is nil while a name of the zone is not known.
func (z *storeZone) Version() xfr.Version {
	z.mu.Lock()
	defer z.mu.Unlock()
	if s := z.store.Load(); s != z.snap {
		z.snap, z.current = s, z.read(s)
	}
	if z.current == nil {
		return nil
	}
	return z.current
}

func (z *storeZone) read(s *zone.Snapshot) *zoneVersion {
	var text strings.Builder
	if _, err := s.WriteTo(&text); err != nil || strings.Contains(text.String(), "; not ready") {
		return nil
	}
	v := zoneContent{}
	p := dns.NewZoneParser(strings.NewReader(text.String()), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if soa, is := rr.(*dns.SOA); is {
			v.soa = soa
		} else {
			v.records = append(v.records, rr)
		}
	}
	if err := p.Err(); err != nil || v.soa == nil {
		z.log.Error("the zone cannot be transferred", zap.Error(err))
		return nil
	}
	z.versions = append(z.versions, v)
	z.versions = slices.Clone(z.versions[max(0, len(z.versions)-journalVersions):])
	return &zoneVersion{zoneContent: v, journal: z.versions}
}

type zoneContent struct {
	soa     *dns.SOA
	records []dns.RR
}

type zoneVersion struct {
	zoneContent
	// journal are the versions up to this one.
	journal []zoneContent
}

func (v *zoneVersion) SOA() *dns.SOA             { return v.soa }
func (v *zoneVersion) Records() iter.Seq[dns.RR] { return slices.Values(v.records) }
func (v *zoneVersion) Len() int                  { return len(v.records) + 1 }

// Since condenses everything since a serial into one change (RFC 1995 §5).
func (v *zoneVersion) Since(serial uint32) ([]xfr.Delta, bool) {
	i := slices.IndexFunc(v.journal, func(o zoneContent) bool { return o.soa.Serial == serial })
	if i < 0 {
		return nil, false
	}
	old := v.journal[i]
	return []xfr.Delta{{From: old.soa, To: v.soa, Removed: without(old.records, v.records), Added: without(v.records, old.records)}}, true
}

// without returns the records of a that b lacks, TTL included.
func without(a, b []dns.RR) (out []dns.RR) {
	has := map[string]bool{}
	for _, rr := range b {
		has[rr.String()] = true
	}
	for _, rr := range a {
		if !has[rr.String()] {
			out = append(out, rr)
		}
	}
	return out
}
