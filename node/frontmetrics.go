package node

import (
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

var (
	frontState   = prometheus.NewDesc("coredns_etcdsrv_front", "1 for the state that the fast path of an address is in: serving, bypassed or off.", []string{"address", "state"}, nil)
	frontMissed  = prometheus.NewDesc("coredns_etcdsrv_front_missed_total", "Queries that the fast path handed to CoreDNS.", []string{"address"}, nil)
	frontShed    = prometheus.NewDesc("coredns_etcdsrv_front_shed_total", "Queries for CoreDNS that were dropped because it had too many at a time.", []string{"address"}, nil)
	frontDropped = prometheus.NewDesc("coredns_etcdsrv_front_dropped_total", "Packets on the fast path that are no query.", []string{"address"}, nil)
	frontUnsent  = prometheus.NewDesc("coredns_etcdsrv_front_unsent_total", "Answers over UDP that the kernel did not take.", []string{"address"}, nil)
	frontLimited = prometheus.NewDesc("coredns_etcdsrv_front_limited_total", "Answers that the rate limit suppressed: dropped, or slipped as a truncated answer.", []string{"address", "how"}, nil)
)

// states are those of FrontStatus.
var states = []string{"serving", "bypassed", "off"}

// collect sends the fast path's own metrics, and brings CoreDNS's up to date with the queries that it did not see.
func (f *fronts) collect(out chan<- prometheus.Metric) {
	for _, s := range f.status() {
		for _, state := range states {
			out <- prometheus.MustNewConstMetric(frontState, prometheus.GaugeValue, flag01(s.State == state), s.Address, state)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, d := range f.doors {
		if d.front == nil {
			continue
		}
		f.flush(d)
		t := d.front.Totals()
		count := func(desc *prometheus.Desc, v uint64, labels ...string) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), append([]string{at.String()}, labels...)...)
		}
		count(frontMissed, t.Missed)
		count(frontShed, t.Shed)
		count(frontDropped, t.Dropped)
		count(frontUnsent, t.Unsent)
		count(frontLimited, t.Slipped, "slipped")
		count(frontLimited, t.Limited-t.Slipped, "dropped")
	}
}

// flush adds what a front answered to CoreDNS's counters, if its prometheus plugin is on. Sizes and durations are not
// measured on the fast path.
func (f *fronts) flush(d *door) {
	d.front.Flush(func(c front.Count, n uint64) {
		if !f.rules.prometheus || d.server == "" {
			return
		}
		vars.RequestCount.WithLabelValues(d.server, f.rules.zone, "", c.Proto, c.Family, c.Type).Add(float64(n))
		if c.DO {
			vars.RequestDo.WithLabelValues(d.server, f.rules.zone, "").Add(float64(n))
		}
		if c.Rcode != "" {
			vars.ResponseRcode.WithLabelValues(d.server, f.rules.zone, "", c.Rcode, pluginName).Add(float64(n))
		}
	})
}
