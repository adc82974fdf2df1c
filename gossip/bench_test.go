package gossip

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// BenchmarkCrash kills a node, a process of its own, and measures the time until all others list it as dead.
//
//	go test -run '^$' -bench Crash -benchtime 100x ./gossip
func BenchmarkCrash(b *testing.B) {
	timing := Rack()
	timing.Forget = time.Millisecond // the dead of the rounds before must not be in the way
	for _, n := range []int{3, 5, 7} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := rack(b, n-1, func(o *Options) { o.Timing = timing })
			var took []time.Duration
			for i := range b.N {
				took = append(took, crashOnce(b, nodes, timing, i))
			}
			report(b, took)
		})
	}
}

func crashOnce(b *testing.B, nodes []*runNode, timing Timing, i int) time.Duration {
	o := options("victim")
	o.Timing = timing
	victim := spawn(b, o, nodes[i%len(nodes)].o.at())
	for _, n := range nodes {
		n.wait(victim.own, Alive)
	}
	began := time.Now()
	victim.signal(b, syscall.SIGKILL)
	for _, n := range nodes {
		n.wait(victim.own, Dead)
	}
	return time.Since(began)
}

// BenchmarkSay measures the time until all others have what a node says.
func BenchmarkSay(b *testing.B) {
	for _, n := range []int{3, 5, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := rack(b, n, nil)
			var took []time.Duration
			for i := range b.N {
				began := time.Now()
				nodes[i%n].Say(Record{Serial: uint32(i + 1)})
				for _, o := range nodes {
					if o != nodes[i%n] {
						wait(b, "the record is there", func() bool {
							p, _ := o.peer(nodes[i%n].own)
							return p.Serial == uint32(i+1)
						})
					}
				}
				took = append(took, time.Since(began))
			}
			report(b, took)
		})
	}
}

// BenchmarkPause stops one node of three for some time and reports how often that is taken for its death, and how long
// after the pause it is alive for all again.
func BenchmarkPause(b *testing.B) {
	for _, ms := range []int{500, 750, 1000, 1250, 1500, 2000, 5000} {
		b.Run(fmt.Sprintf("%dms", ms), func(b *testing.B) {
			nodes := rack(b, 2, nil)
			slow := spawn(b, options("slow"), nodes[0].o.at())
			deaths, back := 0, []time.Duration(nil)
			for range b.N {
				since := map[*runNode]time.Time{}
				for _, n := range nodes {
					since[n] = n.wait(slow.own, Alive).Since
				}
				slow.signal(b, syscall.SIGSTOP)
				<-time.After(time.Duration(ms) * time.Millisecond)
				began := time.Now()
				slow.signal(b, syscall.SIGCONT)
				missed := func() (missed bool) {
					for _, n := range nodes {
						missed = missed || !n.wait(slow.own, Alive).Since.Equal(since[n])
					}
					return missed
				}
				missed()
				back = append(back, time.Since(began))
				<-time.After(time.Second) // a verdict that was on its way
				if missed() {
					deaths++
				}
			}
			report(b, back)
			b.ReportMetric(100*float64(deaths)/float64(b.N), "deaths-%")
		})
	}
}

// BenchmarkJoin measures the time until a new node of n and all others know each other.
func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{3, 5, 9} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := rack(b, n-1, nil)
			var took []time.Duration
			for i := range b.N {
				o := options("new", nodes[i%len(nodes)].o.at())
				o.Boot = uuid.NewString()
				began := time.Now()
				node := start(b, o)
				meet(b, append(slices.Clone(nodes), node)...)
				took = append(took, time.Since(began))
				node.end()
			}
			report(b, took)
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1)+0.5)].Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
}
