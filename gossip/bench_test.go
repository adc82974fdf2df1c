package gossip

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCrash kills nodes, processes of their own, and measures the time until all others list them as dead.
//
//	go test -run '^$' -bench Crash -benchtime 100x ./gossip
func BenchmarkCrash(b *testing.B) {
	for _, c := range []struct{ die, of int }{{1, 3}, {1, 5}, {1, 7}, {2, 3}, {2, 5}} {
		b.Run(fmt.Sprintf("%d-of-%d", c.die, c.of), func(b *testing.B) {
			// The dead of the rounds before must not be in the way.
			edit := func(o *Options) {
				quick(o)
				o.Timing.Forget = time.Millisecond
			}
			nodes := rack(b, c.of-c.die, edit)
			var took []time.Duration
			for range b.N {
				took = append(took, crash(b, nodes, c.die, edit))
			}
			report(b, took)
		})
	}
}

// crash lets that many nodes join, kills them at once and returns how long the others need to notice.
func crash(b *testing.B, nodes []*runNode, die int, edit func(*Options)) time.Duration {
	var victims []*child
	for i := range die {
		victims = append(victims, spawn(b, options(fmt.Sprintf("victim%d", i)).with(edit), nodes[0].o.at()))
	}
	all := func(status Status) {
		for _, n := range nodes {
			for _, v := range victims {
				n.wait(v.own, status)
			}
		}
	}
	all(Alive)
	// The probes of the round before end, and this round begins at any time between two.
	<-time.After(time.Second + rand.N(time.Second))
	began := time.Now()
	for _, v := range victims {
		v.signal(b, syscall.SIGKILL)
	}
	all(Dead)
	took := time.Since(began)
	for _, v := range victims {
		_ = v.cmd.Wait()
	}
	return took
}

// BenchmarkSay measures the time until all others have what a node says.
func BenchmarkSay(b *testing.B) {
	for _, n := range []int{3, 5, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := rack(b, n, quick)
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
			nodes := rack(b, 2, quick)
			slow := spawn(b, options("slow").with(quick), nodes[0].o.at())
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
			nodes := rack(b, n-1, quick)
			var took []time.Duration
			for i := range b.N {
				o := options("new", nodes[i%len(nodes)].o.at()).with(quick)
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
