//go:build linux

package lab

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The times that the product is held to, as benchmarks: real processes, each node in its own namespace, every node asked 100
// times a second. `make bench BENCH=Rack` runs 20 rounds of each; docs/benchmarks.md has the results.

// BenchmarkRackCrash: a node is killed, then cut off; each other node's client records without it.
func BenchmarkRackCrash(b *testing.B) {
	l := boot(b, Options{})
	took := map[string][]time.Duration{}
	round := 0
	for b.Loop() {
		for _, way := range crashes {
			took[way.name] = append(took[way.name], l.crash(way, l.Names()[round%3])...)
		}
		round++
	}
	for _, way := range crashes {
		b.Logf("%s: %d answers: %v", way.name, len(took[way.name]), spread(took[way.name]))
	}
	reportTimes(b, slices.Concat(took["kill -9"], took["cut"]))
}

// BenchmarkRackChange: a voter is removed by an etcd client, a learner added and removed again; each node's server records right,
// from before the request. Of the nodes, some have a member of the cluster, one is the removed voter's, and one is of another cluster.
func BenchmarkRackChange(b *testing.B) {
	l := New(b, Options{Nodes: 5, Foo: 1, Later: 1})
	const away, late = "infra3", "infra5"
	all := l.Names()[:5]
	for _, n := range all {
		l.Start(n)
	}
	l.WaitHealthy(all[:4]...)
	l.invite(late)
	c := l.newChanges(b)
	for b.Loop() {
		l.Wait(away+" follows", healthyLimit, func() error {
			if leader := l.StatusText("infra0", "leader"); leader == away {
				return errorf("it leads: %s", l.Tool("infra0", "member", "drain", away))
			}
			return nil
		})
		leaves := l.memberIDs("infra0")[away]
		c.change("a voter's removal", l.targets("server", all[:3]...), func(ctx context.Context) error {
			_, err := c.etcd.MemberRemove(ctx, leaves)
			return err
		})
		var id uint64
		c.change("a learner's addition", l.targets("server", "infra0", "infra1", "infra2", late), func(ctx context.Context) error {
			r, err := c.etcd.MemberAddAsLearner(ctx, []string{c.url(late+"."+l.Domain, "2380")})
			if err == nil {
				id = r.Member.ID
			}
			return err
		})
		c.change("a learner's removal", l.targets("server", all[:3]...), func(ctx context.Context) error {
			_, err := c.etcd.MemberRemove(ctx, id)
			return err
		})
		l.Wait(away+" is let in again", healthyLimit, func() error { return l.Tool("infra0", "member", "add", away).Err() })
		l.Wait(away+" serves again", healthyLimit, func() error { // a learner does not
			return l.allSay(all, Question{l.service("client"), dns.TypeSRV}, l.targets("client", all[:4]...))
		})
	}
	c.report(b)
}

// changes times how long each node takes to answer rightly after a change of the membership.
type changes struct {
	*clients
	etcd *clientv3.Client
	took map[string][]time.Duration // by change and nodes
}

func (l *Lab) newChanges(b *testing.B) *changes {
	c, err := l.newClients("infra0")
	if err != nil {
		b.Fatal(err)
	}
	etcd, err := c.connect(c.url(l.Addr("infra1"), "2379"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = etcd.Close() })
	return &changes{clients: c, etcd: etcd, took: map[string][]time.Duration{}}
}

func (c *changes) change(what, want string, do func(context.Context) error) {
	q := Question{c.service("server"), dns.TypeSRV}
	c.oneZone(c.Names()[:5]) // the change before is over
	c.Wait(what, healthyLimit, func() error {
		w := c.Ask100(clientHost, q)
		defer w.Stop()
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := do(ctx); err != nil { // etcd refuses while its members have been connected for less than five seconds
			return err
		}
		right := func(answer string) bool { return answer == want }
		for where, nodes := range map[string][]string{"voters": c.Names()[:3], "the removed one": {"infra3"}, "one of another cluster": {"infra4"}} {
			key := what + " at " + where
			c.took[key] = append(c.took[key], c.answered(w, began, nodes, q, right)...)
		}
		return nil
	})
}

func (c *changes) report(b *testing.B) {
	var all []time.Duration
	for _, n := range slices.Sorted(maps.Keys(c.took)) {
		b.Logf("%s: %d answers: %v", n, len(c.took[n]), spread(c.took[n]))
		all = append(all, c.took[n]...)
	}
	reportTimes(b, all)
}

// BenchmarkRackReplace: a machine comes back with a blank disk while the cluster holds 100 MB; from its start until it is a
// voter again and in the server records of every node.
func BenchmarkRackReplace(b *testing.B) {
	l := boot(b, Options{})
	l.fill(b, 100<<20)
	var took []time.Duration
	round := 0
	for b.Loop() {
		victim, other := l.Names()[round%3], l.Names()[(round+1)%3]
		round++
		l.unchanged(b)
		lost := l.memberIDs(other)[victim]
		l.Kill(victim)
		l.Wipe(victim)
		began := time.Now()
		l.Start(victim)
		l.Wait(victim+" votes and is in SRV", healthyLimit, func() error {
			// A living node is asked for the members: the new one refuses as a learner, and etcdctl tries for seconds.
			if ids := l.memberIDs(other); len(ids) != 3 || ids[victim] == 0 || ids[victim] == lost {
				return errorf("%s lists %v", other, ids)
			}
			return l.allSay(l.Names(), Question{l.service("server"), dns.TypeSRV}, l.complete("server"))
		})
		took = append(took, time.Since(began))
		l.WaitHealthy()
	}
	reportTimes(b, took)
}

// unchanged waits until the membership has not changed for the ten seconds that a replacement asks for (R10): disks are not lost
// sooner one after the other, or a person looks.
func (l *Lab) unchanged(b *testing.B) {
	b.Helper()
	list, since := "", time.Time{}
	l.Wait("the membership has settled", healthyLimit, func() error {
		if now := fmt.Sprint(l.memberIDs("infra0")); now != list {
			list, since = now, time.Now()
		}
		if d := time.Since(since); d < 10*time.Second {
			return errorf("it has been the same for %v", d)
		}
		return nil
	})
}

// fill puts that many octets into the cluster, as values of 256 KiB that no compression makes smaller.
func (l *Lab) fill(b *testing.B, octets int) {
	b.Helper()
	c, err := l.newClients("infra0")
	if err != nil {
		b.Fatal(err)
	}
	etcd, err := c.connect(c.url(l.Addr("infra0"), "2379"))
	if err != nil {
		b.Fatal(err)
	}
	defer etcd.Close()
	random := rand.NewChaCha8([32]byte{})
	value := make([]byte, 256<<10)
	for n := 0; n*len(value) < octets; n++ {
		_, _ = random.Read(value)
		if _, err := etcd.Put(b.Context(), fmt.Sprint("bulk/", n), string(value)); err != nil {
			b.Fatal(err)
		}
	}
}

// starvation is how long a round of BenchmarkRackStarved lasts.
const starvation = 30 * time.Second

// BenchmarkRackStarved: five nodes on a machine whose cores are taken by processes of a higher priority. Nobody is removed,
// no node's server or client records miss anybody, and all is well afterwards. Twenty rounds are ten minutes.
func BenchmarkRackStarved(b *testing.B) {
	l := boot(b, Options{Nodes: 5})
	before := l.memberIDs("infra0")
	sets := map[string]Question{"server": {l.service("server"), dns.TypeSRV}, "client": {l.service("client"), dns.TypeSRV}}
	w := l.Ask100(clientHost, sets["server"], sets["client"])
	var share []float64
	end := starve(b)
	for b.Loop() {
		used := l.processorTime(b)
		l.Holds("nobody is removed", starvation, func() error { return nil })
		share = append(share, (l.processorTime(b)-used).Seconds()/starvation.Seconds())
	}
	end()
	l.WaitHealthy()
	w.Stop()
	for _, n := range l.Names() {
		for what, q := range sets {
			for _, s := range w.Sequence(n, q) {
				if s.Answer != l.complete(what) {
					b.Errorf("%s answered %s from %v to %v", n, s.Answer, s.First, s.Last)
				}
			}
			b.Logf("%s: %d questions for %s unanswered", n, w.Silent(n, q), q.Name)
		}
		if after := l.memberIDs(n); fmt.Sprint(after) != fmt.Sprint(before) {
			b.Errorf("%s lists %x, it was %x", n, after, before)
		}
	}
	slices.Sort(share)
	b.ReportMetric(100*share[len(share)/2], "%-of-a-core")
	b.ReportMetric(0, "ns/op")
}

// starve takes the cores, until end or the end of the benchmark.
func starve(b *testing.B) (end func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	for range 4 * runtime.NumCPU() {
		hog := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		hog.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := hog.Start(); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, hog.Process.Pid, -10); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = hog.Wait() })
	}
	return cancel
}

// processorTime is what all processes of the nodes have used.
func (l *Lab) processorTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, n := range l.Names() {
		for _, pid := range []int{l.PID(n), l.MemberPID(n)} {
			u, err := usageOf(pid)
			if err != nil {
				b.Fatal(err)
			}
			sum += u.cpu
		}
	}
	return sum
}

// spread tells of times.
func spread(took []time.Duration) string {
	slices.Sort(took)
	return fmt.Sprintf("median %v, p99 %v, longest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

func reportTimes(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // a round's time is mostly the rack's way back
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "longest-ms")
	b.ReportMetric(float64(len(took)), "times")
}
