package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var (
	endpointsDesc = prometheus.NewDesc("etcd_dns_gateway_endpoints", "Endpoints that the sources name.", nil, nil)
	lookupsDesc   = prometheus.NewDesc("etcd_dns_gateway_lookup_failures_total", "Lookups that failed or found nothing, so that the endpoints stayed as they were.", nil, nil)
	openDesc      = prometheus.NewDesc("etcd_dns_gateway_connections", "Open connections by endpoint.", []string{"endpoint"}, nil)
	totalDesc     = prometheus.NewDesc("etcd_dns_gateway_connections_total", "Connections that an endpoint took.", []string{"endpoint"}, nil)
	upDesc        = prometheus.NewDesc("etcd_dns_gateway_endpoint_up", "1 if the endpoint may get connections: it took the last one and answered the last greeting in TLS, with a certificate that was verified if that is asked for.", []string{"endpoint"}, nil)
	leavingDesc   = prometheus.NewDesc("etcd_dns_gateway_endpoint_draining", "1 if the endpoint left the set and has connections left.", []string{"endpoint"}, nil)
	failuresDesc  = prometheus.NewDesc("etcd_dns_gateway_dial_failures_total", "Attempts to connect to the endpoint that failed, checks included.", []string{"endpoint"}, nil)
	refusedDesc   = prometheus.NewDesc("etcd_dns_gateway_refused_total", "Connections that were closed because there were too many, or no endpoint took them.", nil, nil)
	drainedDesc   = prometheus.NewDesc("etcd_dns_gateway_drained_total", "Connections that were closed because their endpoint had left.", nil, nil)
)

// Describe and Collect make the follower a source of metrics.
func (f *Follower) Describe(out chan<- *prometheus.Desc) {
	out <- endpointsDesc
	out <- lookupsDesc
}

// Collect sends the metrics.
func (f *Follower) Collect(out chan<- prometheus.Metric) {
	set, _ := f.Set()
	out <- prometheus.MustNewConstMetric(endpointsDesc, prometheus.GaugeValue, float64(len(set)))
	out <- prometheus.MustNewConstMetric(lookupsDesc, prometheus.CounterValue, float64(f.fails.Load()))
}

// Describe and Collect make the proxy a source of metrics. Those of an endpoint go with it.
func (p *Proxy) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, totalDesc, upDesc, leavingDesc, failuresDesc, refusedDesc, drainedDesc} {
		out <- d
	}
}

// Collect sends the metrics.
func (p *Proxy) Collect(out chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, r := range p.order {
		name := r.endpoint.Name()
		gauge(openDesc, len(r.links), name)
		gauge(upDesc, flag01(!r.down && !r.suspect), name)
		gauge(leavingDesc, flag01(!r.left.IsZero()), name)
		count(totalDesc, r.total, name)
		count(failuresDesc, r.failures, name)
	}
	count(refusedDesc, p.refused)
	count(drainedDesc, p.drained)
}

func flag01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ServeMetrics serves the metrics of the proxy, its follower and the process at /metrics until ctx ends. It closes the listener.
func (p *Proxy) ServeMetrics(ctx context.Context, l net.Listener) error {
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{p, p.follow, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
