//go:build linux

package lab

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// crashRounds asks for more rounds of TestCrashLeavesSRV, whose figures are those of docs/benchmarks.md.
var crashRounds = flag.Int("crashes", 1, "TestCrashLeavesSRV: how often each node crashes in each way")

// TestCrashLeavesSRV: a node that loses power or its cable leaves the client records of every other node, and comes back.
// How soon is logged: the machine may be busy. A node that gossip misses is gone after some 1.2 s; without gossip its
// answers would have to go stale first.
func TestCrashLeavesSRV(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	q := Question{l.service("client"), dns.TypeSRV}
	var took []time.Duration
	for range *crashRounds {
		for _, way := range []struct {
			name       string
			down, back func(string)
		}{
			{"kill -9", func(n string) { l.Kill(n) }, l.Start},
			{"cut", l.CutNode, l.HealNode},
		} {
			for _, victim := range l.Names() {
				rest := slices.DeleteFunc(l.Names(), func(n string) bool { return n == victim })
				l.Wait("all are in the answers", healthyLimit, func() error { return l.allSay(l.Names(), q, l.complete("client")) })
				w := l.Ask100(clientHost, q)
				began := time.Now()
				way.down(victim)
				l.Wait(victim+" leaves the answers", 30*time.Second, func() error { return l.allSay(rest, q, l.targets("client", rest...)) })
				w.Stop()
				for _, n := range rest {
					for _, s := range w.Sequence(n, q) {
						if !strings.Contains(s.Answer, victim) {
							took = append(took, s.First.Sub(began))
							break
						}
					}
				}
				way.back(victim)
				l.WaitHealthy()
			}
		}
	}
	slices.Sort(took)
	t.Logf("%d answers without the crashed node: median %v, p99 %v, longest %v", len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// allSay checks that these nodes answer alike.
func (l *Lab) allSay(nodes []string, q Question, want string) error {
	for _, n := range nodes {
		if got := l.Ask(clientHost, l.Addr(n), q.Name, q.Type); got != want {
			return errorf("%s answers %s", n, got)
		}
	}
	return nil
}
