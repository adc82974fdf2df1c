package discovery

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are a handler's own, since a process may have several.
type metrics struct {
	registry            *prometheus.Registry
	created, registered prometheus.Counter
	refused             *prometheus.CounterVec
	waiting             prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		created:  prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_dns_discovery_tokens_created_total", Help: "Tokens made here."}),
		registered: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_dns_discovery_registrations_total",
			Help: "Members that registered here."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_dns_discovery_refused_total",
			Help: "Requests refused or failed, by HTTP status, or rate for the rate limit."}, []string{"reason"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "etcd_dns_discovery_waiting", Help: "Requests that wait for a member."}),
	}
	m.registry.MustRegister(m.created, m.registered, m.refused, m.waiting)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
