//go:build linux

package lab

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	dnsnode "github.com/etcd-dns/etcd-dns/node"
)

// TestCrashLeavesSRV: a node that loses power or its cable leaves the client records of every other node, and comes back.
// How soon is logged: the machine may be busy. A node that gossip misses is gone after some 1.2 s; without gossip its
// answers would have to go stale first.
func TestCrashLeavesSRV(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	var took []time.Duration
	for _, way := range crashes {
		for _, victim := range l.Names() {
			took = append(took, l.crash(way, victim)...)
		}
	}
	t.Logf("%d answers without the crashed node: %v", len(took), spread(took))
}

// aCrash is a way for a node to be gone.
type aCrash struct {
	name       string
	down, back func(*Lab, string)
}

var crashes = []aCrash{
	{"kill -9", func(l *Lab, n string) { l.Kill(n) }, (*Lab).Start},
	{"cut", (*Lab).CutNode, (*Lab).HealNode},
}

// crash takes a node away until no other node has it in its client records, and lets it come back. It returns how long
// each of them took.
func (l *Lab) crash(way aCrash, victim string) (took []time.Duration) {
	l.t.Helper()
	q := Question{l.service("client"), dns.TypeSRV}
	rest := slices.DeleteFunc(l.Names(), func(n string) bool { return n == victim })
	l.Wait("all are in the answers", healthyLimit, func() error { return l.allSay(l.Names(), q, l.complete("client")) })
	l.Wait("all have met", healthyLimit, l.Gossips) // after a cut that takes longer than to be well
	w := l.Ask100(clientHost, q)
	defer w.Stop()
	began := time.Now()
	way.down(l, victim)
	took = l.answered(w, began, rest, q, func(answer string) bool {
		return !strings.Contains(answer, victim) && strings.Contains(answer, l.Domain)
	})
	l.Wait("the others are in the answers", healthyLimit, func() error { return l.allSay(rest, q, l.targets("client", rest...)) })
	way.back(l, victim)
	l.WaitHealthy()
	return took
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

// TestOneLinkCut: one link between two of three nodes is down, and the third, which both reach, leads. All members serve, and every node
// says so all the time: one client set, one serial.
func TestOneLinkCut(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	leader := l.StatusText("infra0", "leader")
	ends := slices.DeleteFunc(l.Names(), func(n string) bool { return n == leader })
	clients, soa := Question{l.service("client"), dns.TypeSRV}, Question{l.Domain, dns.TypeSOA}
	l.oneZone(l.Names())
	w := l.Ask100(clientHost, clients, soa)
	l.Cut(ends[0], ends[1])
	l.WaitStatus(ends[0], "problems", ends[1]+" does not answer")
	l.WaitStatus(ends[1], "problems", ends[0]+" does not answer")
	for _, n := range l.Names() {
		if r := l.At(n, "put", "at", n); r.Code != 0 {
			t.Errorf("a write at %s: %v", n, r)
		}
	}
	l.oneZone(l.Names())
	steady := func() error { return l.steady(w, clients, soa) }
	l.Holds("one client set and one serial", 2*time.Second, steady)
	l.Heal(ends[0], ends[1])
	l.WaitHealthy()
	w.Stop()
	if err := steady(); err != nil {
		t.Error(err)
	}
}

// steady checks that each node has given one answer to each question all the time.
func (l *Lab) steady(w *Watcher, questions ...Question) error {
	for _, n := range l.Names() {
		for _, q := range questions {
			if seq := w.Sequence(n, q); len(seq) != 1 {
				return errorf("%s, asked for %s %s:\n%s", n, q.Name, dns.TypeToString[q.Type], story(seq))
			}
		}
	}
	return nil
}

// TestRestartBesideDeadNode: a node starts again while another one has long been dead. It asks the third whom it publishes, and does not
// bring the dead one back: neither for the ten seconds that a node waits for all members, nor at the third.
func TestRestartBesideDeadNode(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	q := Question{l.service("client"), dns.TypeSRV}
	l.Kill("infra0")
	l.Wait("infra0 is out", healthyLimit, func() error {
		return l.allSay([]string{"infra1", "infra2"}, q, l.targets("client", "infra1", "infra2"))
	})
	l.Kill("infra1")
	w := l.Ask100(clientHost, q)
	began := time.Now()
	l.Start("infra1")
	l.Wait("both serve", healthyLimit, func() error {
		return l.allSay([]string{"infra1", "infra2"}, q, l.targets("client", "infra1", "infra2"))
	})
	l.oneZone([]string{"infra1", "infra2"})
	w.Stop()
	for node, limit := range map[string]time.Duration{"infra1": 5 * time.Second, "infra2": 0} {
		for _, s := range w.Sequence(node, q) {
			if strings.Contains(s.Answer, "infra0") && s.Last.Sub(began) > limit {
				t.Errorf("%s names infra0 until %v after the start of infra1: %s", node, s.Last.Sub(began), s.Answer)
			}
		}
		t.Logf("%s:\n%s", node, story(w.Sequence(node, q)))
	}
}

// TestMemberFlaps: a member that is killed each time when it serves again leaves and enters the client set once or twice, and not as
// often as it dies; all nodes agree; status says that it is held out; and it comes back.
func TestMemberFlaps(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	q := Question{l.service("client"), dns.TypeSRV}
	l.oneZone(l.Names())
	w := l.Ask100(clientHost, q)
	const kills = 4
	for range kills {
		pid := l.KillMember("infra2")
		l.Wait("another member runs on infra2", healthyLimit, func() error {
			if now := l.MemberPID("infra2"); now == 0 || now == pid {
				return errorf("its process is %d", now)
			}
			return nil
		})
		l.WaitHealthy("infra2") // it serves by its own word, held out or not
		t.Log("killed, and well again")
	}
	l.WaitStatus("infra2", "warnings", "it is left out of the client records")
	l.Wait("all have all in their answers again", healthyLimit, func() error { return l.allSay(l.Names(), q, l.complete("client")) })
	l.oneZone(l.Names())
	w.Stop()
	for _, n := range l.Names() {
		changes, listed := 0, true
		for _, seen := range w.Sequence(n, q) {
			if now := strings.Contains(seen.Answer, "infra2"); now != listed {
				changes, listed = changes+1, now
			}
		}
		t.Logf("%s: infra2 left or came %d times", n, changes)
		if changes > 6 {
			t.Errorf("%d kills, and infra2 left or came to %s %d times, want 6 at most:\n%s", kills, n, changes, story(w.Sequence(n, q)))
		}
	}
}

// TestGossipBlocked: a firewall keeps gossip apart and nothing else. Nodes that go on answering stay in the client records of all, each
// tells its operator, and a crash is found all the same.
func TestGossipBlocked(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	clients := Question{l.service("client"), dns.TypeSRV}
	l.blockGossip(true)
	for _, n := range l.Names() {
		l.WaitStatus(n, "warnings", "gossip does not reach it")
	}
	l.Holds("all are in the answers", 5*time.Second, func() error { return l.allSay(l.Names(), clients, l.complete("client")) })
	l.Kill("infra2")
	l.Wait("infra2 is out", healthyLimit, func() error {
		return l.allSay([]string{"infra0", "infra1"}, clients, l.targets("client", "infra0", "infra1"))
	})
	l.blockGossip(false)
	l.Start("infra2")
	l.WaitHealthy()
	l.Wait("gossip meets again", healthyLimit, l.Gossips)
}

// blockGossip loses what is sent to the port of gossip.
func (l *Lab) blockGossip(dead bool) {
	l.t.Helper()
	for _, n := range l.Names() {
		l.setBoth(n, dnsnode.DefaultGossipPort, dead)
	}
}
