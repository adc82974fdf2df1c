package zone

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const subsystem = "etcdsrv"

// The metrics are the process's, as in every CoreDNS plugin: they outlive the instances of a Corefile.
var (
	zoneSerial = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "zone_serial",
		Help:      "Serial of the zone that is served; 0 while the zone has none, because its default cluster is not known yet.",
	}, []string{"zone"})

	snapshotNames = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "snapshot_names",
		Help:      "Names in the zone that is served, by whether they are answered or still SERVFAIL.",
	}, []string{"zone", "state"})

	publishes = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "publishes_total",
		Help:      "Rosters handed to the zone, by result: changed, unchanged, rejected (bad roster) or failed (no serial).",
	}, []string{"result"})
)

// observe sets the gauges for the snapshot that is served now.
func observe(old, now *Snapshot) {
	if old != nil && old.domain != now.domain {
		zoneSerial.DeleteLabelValues(old.domain)
		snapshotNames.DeletePartialMatch(prometheus.Labels{"zone": old.domain})
	}
	zoneSerial.WithLabelValues(now.domain).Set(float64(now.serial))
	snapshotNames.WithLabelValues(now.domain, "ready").Set(float64(1 + now.names.count - now.unready))
	snapshotNames.WithLabelValues(now.domain, "unready").Set(float64(now.unready))
}
