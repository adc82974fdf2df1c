package member

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// activePeers are the IDs of the other members that this one is connected with by etcd's own account, which it publishes as a
// metric only (server/etcdserver/api/rafthttp/peer_status.go); sorted. A connection that leads nowhere ends after five
// seconds, see probeLinks.
func activePeers(metrics prometheus.Gatherer) (ids []string) {
	families, _ := metrics.Gather() // what it could gather is in it, beside an error
	for _, f := range families {
		if f.GetName() != "etcd_network_active_peers" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				id, err := strconv.ParseUint(l.GetValue(), 16, 64)
				if l.GetName() == "Remote" && err == nil && m.GetGauge().GetValue() > 0 {
					ids = append(ids, hexID(id))
				}
			}
		}
	}
	slices.Sort(ids)
	return ids
}
