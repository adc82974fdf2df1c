package member

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestActivePeers(t *testing.T) {
	r := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "etcd", Subsystem: "network", Name: "active_peers"}, []string{"Local", "Remote"})
	r.MustRegister(g)
	g.WithLabelValues("1", "fd422379fda50e48").Set(1)
	g.WithLabelValues("1", "ab").Set(1)
	g.WithLabelValues("1", "cd").Set(0)
	if got := activePeers(r); !slices.Equal(got, []string{"00000000000000ab", "fd422379fda50e48"}) {
		t.Errorf("%v", got)
	}
}
