package member

import (
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// BenchmarkStart measures Start to the first linearizable read of a one-member cluster over TLS, with a child that
// was executed ahead of time and without.
func BenchmarkStart(b *testing.B) {
	for name, warm := range map[string]bool{"cold": false, "warm": true} {
		b.Run(name, func(b *testing.B) {
			var total time.Duration
			for range b.N {
				total += startOnce(b, warm)
			}
			b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/start")
		})
	}
}

func startOnce(b *testing.B, warm bool) time.Duration {
	r := newRack(b, rackOptions{nodes: 1})
	n := r.nodes[0]
	l := r.launcher(n)
	if warm {
		l.Prewarm(b.Context())
		<-time.After(300 * time.Millisecond) // what the child has time for while a genesis is agreed
	}
	began := time.Now()
	p := r.start(l, r.launch(n))
	r.await(p, "serving", func(s srvboot.MemberState) bool { return s.Serving })
	took := time.Since(began)
	stopNow(b, p)
	return took
}
