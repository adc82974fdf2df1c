package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/etcd-dns/etcd-dns/parent"
)

// scrapeTimeout bounds how long a scrape waits for the member process.
const scrapeTimeout = 2 * time.Second

// collector is the one source of the node's /metrics: its own, those that CoreDNS, certmagic and the rest of this
// process registered, and those of the member process. It is unchecked, because only they know what they measure.
type collector struct {
	node *Node
	rest prometheus.Gatherer
}

// registerMetrics puts the collector in the place of the default registry, where CoreDNS's prometheus plugin takes
// its metrics from (plugin/metrics, New). It may be called once in a process, before CoreDNS starts.
func registerMetrics(n *Node) error {
	merged := prometheus.NewRegistry()
	if err := merged.Register(collector{node: n, rest: prometheus.DefaultGatherer}); err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	prometheus.DefaultRegisterer, prometheus.DefaultGatherer = merged, merged
	return nil
}

// transferCount is in the default registry, whose metrics the collector passes on.
var transferCount = promauto.NewCounterVec(prometheus.CounterOpts{Name: "etcd_dns_transfers_total",
	Help: "Requests for a zone transfer, by type and result."}, []string{"type", "result"})

var (
	memberUp = prometheus.NewDesc("etcd_dns_member_up", "1 if the etcd member process runs, 0 if it does not.", nil, nil)
	serving  = prometheus.NewDesc("etcd_dns_member_serving", "1 if the member answered a linearizable read within the last two seconds.", nil, nil)
	deaths   = prometheus.NewDesc("etcd_dns_member_deaths", "Ends of the member process that this run remembers.", nil, nil)
	planRow  = prometheus.NewDesc("etcd_dns_plan_row", "The row of the decision table in force; the label names the action.", []string{"action"}, nil)
	notAfter = prometheus.NewDesc("etcd_dns_certificate_not_after_seconds", "When a certificate ends, as a Unix time.", []string{"slot"}, nil)
	hasZone  = prometheus.NewDesc("etcd_dns_secondary_serial", "The last serial of a zone that a secondary acknowledged, or was seen to have.", []string{"zone", "secondary", "state"}, nil)
	behind   = prometheus.NewDesc("etcd_dns_secondary_behind_seconds", "How long a secondary has not been seen to have the newest serial; 0 when it has.", []string{"zone", "secondary"}, nil)
	agrees   = prometheus.NewDesc("coredns_etcdsrv_parent_agrees", "1 if the parent zone delegates as it should, 0 if it differs; absent while that is not known.", []string{"zone"}, nil)
	expires  = prometheus.NewDesc("etcd_dns_zone_signatures_expire_seconds", "When the zone's signatures end, as a Unix time; absent while it is not signed.", nil, nil)
	badFile  = prometheus.NewDesc("etcd_dns_corefile_error", "1 if the Corefile on disk is not the one that serves.", nil, nil)
)

// Describe sends nothing: the collector is unchecked.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the node's metrics and the member's.
func (c collector) Collect(out chan<- prometheus.Metric) {
	n := c.node
	rep := n.boot.Report()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	m := rep.State.Member
	gauge(memberUp, flag01(m != nil))
	gauge(serving, flag01(m != nil && m.Serving))
	gauge(deaths, float64(len(rep.Deaths)))
	gauge(planRow, float64(rep.Plan.Row), string(rep.Plan.Action))
	gauge(badFile, flag01(n.corefileError() != ""))
	if p := n.parent.last.Load(); p != nil && p.Verdict != string(parent.Unknown) {
		gauge(agrees, flag01(p.Verdict == string(parent.Agrees)), n.options().Domain)
	}
	for _, s := range n.certs.Status() {
		gauge(notAfter, float64(s.NotAfter.Unix()), s.Slot)
	}
	for _, s := range n.transfers.notifier.Status() {
		for state, serial := range map[string]*uint32{"acknowledged": s.Acked, "pulled": s.Pulled} {
			if serial != nil {
				gauge(hasZone, float64(*serial), s.Zone, s.Address, state)
			}
		}
		gauge(behind, s.Lag(time.Now()).Seconds(), s.Zone, s.Address)
	}
	if e := n.dnssec.status().Epoch; e != nil {
		gauge(expires, float64(e.Expiration.Unix()))
	}
	n.fronts.collect(out) // before CoreDNS's are gathered
	c.passOn(out)
}

// passOn sends what this process's other parts measure, and what the member does. Both processes are one binary, so
// each has the other's metrics at zero; only the real ones are sent.
func (c collector) passOn(out chan<- prometheus.Metric) {
	own, err := c.rest.Gather()
	if err != nil {
		c.node.log.Warn("some of this process's metrics are missing", zap.Error(err))
	}
	for _, f := range own {
		if !ofEtcd(f.GetName()) {
			forward(out, f, nil)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	families, err := c.node.launcher.Metrics(ctx)
	if err != nil {
		return // member_up says so
	}
	for _, f := range families {
		switch {
		case ofEtcd(f.GetName()):
			forward(out, f, nil)
		case strings.HasPrefix(f.GetName(), "go_"), strings.HasPrefix(f.GetName(), "process_"):
			forward(out, f, ofMember)
		}
	}
}

// ofEtcd reports whether a metric is the etcd server's.
func ofEtcd(name string) bool {
	for _, prefix := range []string{"etcd_", "grpc_", "os_fd_"} {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, "etcd_dns_") {
			return true
		}
	}
	return false
}

func forward(out chan<- prometheus.Metric, f *dto.MetricFamily, extra *dto.LabelPair) {
	for _, m := range f.GetMetric() {
		if extra != nil {
			m.Label = append(m.Label, extra)
		}
		var names []string
		for _, l := range m.GetLabel() {
			names = append(names, l.GetName())
		}
		out <- foreignMetric{desc: prometheus.NewDesc(f.GetName(), f.GetHelp(), names, nil), metric: m}
	}
}

func flag01(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// foreignMetric is a metric that was gathered elsewhere, passed on as it is.
type foreignMetric struct {
	desc   *prometheus.Desc
	metric *dto.Metric
}

func (f foreignMetric) Desc() *prometheus.Desc { return f.desc }

func (f foreignMetric) Write(out *dto.Metric) error {
	out.Reset()
	out.Label = f.metric.Label
	out.Gauge, out.Counter, out.Summary, out.Untyped, out.Histogram = f.metric.Gauge, f.metric.Counter, f.metric.Summary, f.metric.Untyped, f.metric.Histogram
	out.TimestampMs = f.metric.TimestampMs
	return nil
}

// ofMember tells the member's go_* and process_* metrics from this process's.
var ofMember = &dto.LabelPair{Name: proto.String("process"), Value: proto.String("member")}
