package zone

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/etcd-dns/etcd-dns/roster"
)

func newPublisher(t *testing.T) (*Publisher, *Store) {
	t.Helper()
	store := NewStore()
	serials := NewSerials(filepath.Join(t.TempDir(), "serial.json"), 1, func() time.Time { return today })
	return NewPublisher(store, Options{}, serials), store
}

func publish(t *testing.T, p *Publisher, r roster.Roster, peers ...Published) bool {
	t.Helper()
	changed, err := p.Publish(r, peers)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestPublish(t *testing.T) {
	all := sources(t)
	p, store := newPublisher(t)
	if !publish(t, p, all["unknown"].Roster) {
		t.Error("the first snapshot is no change")
	}
	if got := store.Load().Serial(); got != 0 {
		t.Errorf("serial %d while SOA is not served, want 0", got)
	}
	if publish(t, p, all["unknown"].Roster) {
		t.Error("the same roster is a change")
	}
	publish(t, p, all["unborn"].Roster)
	first := store.Load().Serial()
	publish(t, p, all["born"].Roster)
	second := store.Load().Serial()
	if first != day(today)<<6|1 || !Later(second, first) {
		t.Errorf("serials %d, %d", first, second)
	}
	p.SetOptions(Options{TTL: time.Minute})
	if !publish(t, p, all["born"].Roster) || !Later(store.Load().Serial(), second) {
		t.Error("new options are no change")
	}
	// A restarted node knows nothing at first, and then serves what the others serve, under their serial.
	peer := Published{store.Load().Serial(), store.Load().Digest()}
	p2 := NewPublisher(NewStore(), Options{TTL: time.Minute}, restart(p.serials))
	publish(t, p2, all["unknown"].Roster, peer)
	publish(t, p2, all["born"].Roster, peer)
	if got := p2.store.Load(); got.Serial() != peer.Serial || got.Digest() != peer.Digest {
		t.Errorf("after a restart %d %s, want %v", got.Serial(), got.Digest(), peer)
	}
	// A peer that came to the same content with a later serial is followed.
	ahead := Published{peer.Serial + 64, peer.Digest}
	if !publish(t, p2, all["born"].Roster, ahead) || p2.store.Load().Serial() != ahead.Serial {
		t.Errorf("serial %d, want %d", p2.store.Load().Serial(), ahead.Serial)
	}
	soa := p2.store.Load().Lookup(apex, dns.TypeSOA, false).Answer[0].(*dns.SOA).Serial
	negative := p2.store.Load().Lookup("nosuch."+apex, dns.TypeA, false).Ns[0].(*dns.SOA).Serial
	if soa != ahead.Serial || negative != ahead.Serial {
		t.Errorf("SOA %d, negative SOA %d, want %d", soa, negative, ahead.Serial)
	}
}

func TestOldSnapshotKeepsServing(t *testing.T) {
	all := sources(t)
	p, store := newPublisher(t)
	publish(t, p, all["born"].Roster)
	old := store.Load()
	before := value(t, "coredns_etcdsrv_publishes_total", "rejected")
	bad := all["born"].Roster.Clone()
	bad.Clusters[0].Members = nil
	if changed, err := p.Publish(bad, nil); changed || err == nil || !strings.Contains(err.Error(), "has no members") {
		t.Errorf("Publish = %v, %v", changed, err)
	}
	if got := value(t, "coredns_etcdsrv_publishes_total", "rejected"); got != before+1 {
		t.Errorf("rejected: %v, want %v", got, before+1)
	}
	p.serials.file.write = func(string, []byte) error { return syscall.ENOSPC }
	p.serials.last.Reserved = p.serials.last.Serial >> slotBits
	before = value(t, "coredns_etcdsrv_publishes_total", "failed")
	if changed, err := p.Publish(all["unborn"].Roster, nil); changed || err == nil {
		t.Errorf("Publish without a serial = %v, %v", changed, err)
	}
	if got := value(t, "coredns_etcdsrv_publishes_total", "failed"); got != before+1 {
		t.Errorf("failed: %v, want %v", got, before+1)
	}
	if store.Load() != old {
		t.Error("another snapshot is served")
	}
}

func TestFullDiskWarnsAndPublishes(t *testing.T) {
	all := sources(t)
	p, store := newPublisher(t)
	publish(t, p, all["unborn"].Roster)
	p.serials.file.write = func(string, []byte) error { return syscall.ENOSPC }
	if !publish(t, p, all["born"].Roster) || !errors.Is(p.Unrecorded(), syscall.ENOSPC) || len(store.Load().Lookup(server, dns.TypeSRV, false).Answer) != 3 {
		t.Errorf("%v, want the new zone and a warning", p.Unrecorded())
	}
	// The warning lasts as long as its cause.
	if publish(t, p, all["born"].Roster) || !errors.Is(p.Unrecorded(), syscall.ENOSPC) {
		t.Errorf("without a change: %v", p.Unrecorded())
	}
	p.serials.file.write = writeRecord
	if publish(t, p, all["born"].Roster) || p.Unrecorded() != nil {
		t.Errorf("with room again: %v", p.Unrecorded())
	}
}

func TestMetrics(t *testing.T) {
	all := sources(t)
	p, store := newPublisher(t)
	publish(t, p, all["unknown"].Roster)
	if got := value(t, "coredns_etcdsrv_snapshot_names", apex, "unready"); got != 4 {
		t.Errorf("unready names: %v, want 4", got)
	}
	publish(t, p, all["born"].Roster)
	if got := value(t, "coredns_etcdsrv_zone_serial", apex); got != float64(store.Load().Serial()) {
		t.Errorf("serial metric %v, want %d", got, store.Load().Serial())
	}
	// The apex, _tcp, two services, three nodes.
	if got := value(t, "coredns_etcdsrv_snapshot_names", apex, "ready"); got != 7 {
		t.Errorf("ready names: %v, want 7", got)
	}
}

// value returns the metric of that name and label values; 0 if there is none yet.
func value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && hasLabels(m.GetLabel(), labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func hasLabels[P interface{ GetValue() string }](pairs []P, values []string) bool {
	return !slices.ContainsFunc(values, func(v string) bool {
		return !slices.ContainsFunc(pairs, func(p P) bool { return p.GetValue() == v })
	})
}
