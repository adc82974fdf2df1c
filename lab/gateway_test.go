//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// admit invites a node and starts it.
func (l *Lab) admit(name string) {
	l.t.Helper()
	l.invite(name)
	l.Start(name)
}

// invite gives a node its line in every Corefile, and tells the nodes that run.
func (l *Lab) invite(name string) {
	l.t.Helper()
	line := fmt.Sprintf("node %s %s", name, l.Addr(name))
	for _, n := range l.Names() {
		l.EditCorefile(n, func(text string) string {
			return strings.Replace(text, "node infra0 ", line+"\n        node infra0 ", 1)
		})
		if l.node(n).up() {
			l.Signal(n, syscall.SIGHUP)
		}
	}
}

// serviceGap is how long a client of the gateway or the gRPC proxy may be without an acknowledged write while the membership
// changes. The figures are logged; the bound is for a busy machine, and for the election when the leader is removed.
const serviceGap = 10 * time.Second

// TestGatewayFollows: the members are replaced one by one, 3 → 4 → 3, until none of the first three is left. Clients with standing
// connections through our gateway and gRPC proxy write all the time, and both know the new members alone then; stock etcd's
// gateway, which read SRV once, has no endpoint left.
func TestGatewayFollows(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 3})
	voters := []string{"infra0", "infra1", "infra2"}
	for _, n := range voters {
		l.Start(n)
	}
	l.WaitHealthy(voters...)
	gateway, proxy := l.proxies()
	l.onClient("stock", 23792, needProduct(t, stockEtcd), "gateway", "start", "--discovery-srv", l.Domain, "--retry-delay", "1s")
	urls := map[string]string{"gateway": gatewayURL, "grpc-proxy": proxyURL, "stock": stockURL}
	for name, url := range urls {
		l.Wait("a write through "+name, healthyLimit, func() error { return l.through(url, "put", "before", name).Err() })
	}
	writers := map[string]*writer{"gateway": l.writeThrough(gatewayURL, "gateway"), "grpc-proxy": l.writeThrough(proxyURL, "grpc-proxy")}
	for _, w := range writers {
		l.goesOn(w)
		w.longest()
	}
	for i := range 3 {
		added, removed := fmt.Sprintf("infra%d", 3+i), voters[0]
		l.admit(added)
		voters = append(voters, added)
		l.voters(voters...)
		voters = voters[1:]
		// etcd refuses while its members have been connected for less than five seconds.
		l.Wait("the removal of "+removed, healthyLimit, func() error { return l.Tool(added, "member", "remove", removed).Err() })
		l.voters(voters...)
		for name, w := range writers {
			l.goesOn(w)
			if gap := w.longest(); gap > serviceGap {
				t.Errorf("%s: %v without a write while %s replaced %s, want at most %v", name, gap, added, removed, serviceGap)
			} else {
				t.Logf("%s: at most %v without a write while %s replaced %s", name, gap.Round(time.Millisecond), added, removed)
			}
		}
	}
	for name, url := range urls {
		err := l.through(url, "put", "after", name).Err()
		if name == "stock" {
			if err == nil {
				t.Error("the control is none: stock etcd's gateway has an endpoint that is not of the first set")
			}
		} else if err != nil {
			t.Errorf("through %s: %v", name, err)
		}
	}
	for name, w := range writers {
		w.end()
		if r := l.Etcdctl("get", name, "--print-value-only"); isValue(r, fmt.Sprint(w.value)) != nil && isValue(r, fmt.Sprint(w.value+1)) != nil {
			t.Errorf("%s: the last acknowledged write is %d, and the cluster has %v", name, w.value, r)
		}
	}
	for name, p := range map[string]*process{"gateway": gateway, "grpc-proxy": proxy} {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !p.ended(stopLimit) || p.err != nil {
			t.Errorf("%s did not end in order within %v: %v", name, stopLimit, p.err)
		}
	}
}

// spread starts clients through the gateway and one through the proxy, until one of the gateway's is connected with the member of a node.
// It gives a new one to the member that has the fewest, so three will do; on a busy machine a member may be down for a moment, and all
// start again.
func (l *Lab) spread(round, node string) map[string]*writer {
	l.t.Helper()
	for again := range 5 {
		l.Wait("the gateway has all members", healthyLimit, func() error {
			for _, n := range l.Names() {
				if c := l.connections(n); c != 0 {
					return errorf("%s, with %d connections", n, c)
				}
			}
			return nil
		})
		writers := map[string]*writer{"grpc-proxy": l.writeThrough(proxyURL, fmt.Sprint("grpc-proxy", round, again))}
		for i := range l.Names() {
			name := fmt.Sprintf("gateway-%d", i)
			writers[name] = l.writeThrough(gatewayURL, fmt.Sprint(name, round, again))
			l.goesOn(writers[name])
		}
		if l.connections(node) > 0 {
			for _, w := range writers {
				l.goesOn(w)
				w.longest()
			}
			return writers
		}
		for _, w := range writers {
			w.end()
		}
	}
	l.t.Fatalf("none of three clients is connected with %s, five times", node)
	return nil
}

// TestGatewayMemberDies: a member dies, of kill -9 or silently, or hangs while its kernel takes connections. Clients with standing
// connections through the gateway are with another one within two seconds of the first; of a silent death gossip, SRV and the gateway's
// own look tell before TCP would, and of one that hangs its node and the look. Without a resolver the gateway goes on with what it
// knows.
func TestGatewayMemberDies(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.proxies()
	// die makes a follower, to which a client is connected, die, and returns the longest time that a client of the gateway, and of the
	// proxy, was without an acknowledged write.
	die := func(round string, dies, back func(string)) (gateway, proxy time.Duration) {
		leader := l.StatusText("infra0", "leader")
		victim := l.Names()[(slices.Index(l.Names(), leader)+1)%3]
		writers := l.spread(round, victim)
		dies(victim)
		l.Wait("the gateway has moved the client of "+victim, healthyLimit, func() error {
			if c := l.connections(victim); c > 0 {
				return errorf("%s has %d connections", victim, c)
			}
			return nil
		})
		for name, w := range writers {
			l.goesOn(w)
			if gap := w.longest(); name == "grpc-proxy" {
				proxy = gap
			} else {
				gateway = max(gateway, gap)
			}
			w.end()
		}
		back(victim)
		l.WaitHealthy()
		return gateway, proxy
	}
	var gateway, proxy []time.Duration
	for i := range 3 {
		g, p := die(fmt.Sprint(" killed ", i), func(n string) { l.KillMember(n) }, func(string) {})
		gateway, proxy = append(gateway, g), append(proxy, p)
	}
	t.Logf("kill -9 of a follower: at most %v without a write through the gateway, %v through the proxy", gateway, proxy)
	slices.Sort(gateway)
	slices.Sort(proxy)
	if gateway[1] > 2*time.Second || proxy[1] > 2*time.Second {
		t.Errorf("in the median round %v and %v without a write, want at most 2 s", gateway[1], proxy[1])
	}
	g, p := die(" cut", l.CutNode, l.HealNode)
	t.Logf("a follower's cable pulled: at most %v without a write through the gateway, %v through the proxy", g, p)
	if g > 15*time.Second || p > 20*time.Second {
		t.Errorf("%v and %v without a write after a silent death, want at most 15 s and 20 s", g, p)
	}

	signal := func(s syscall.Signal) func(string) {
		return func(n string) {
			if err := syscall.Kill(l.MemberPID(n), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	g, p = die(" hung", signal(syscall.SIGSTOP), signal(syscall.SIGCONT))
	t.Logf("a follower hangs: at most %v without a write through the gateway, %v through the proxy", g, p)
	if g > 20*time.Second || p > 20*time.Second {
		t.Errorf("%v and %v without a write after a member began to hang, want at most 20 s", g, p)
	}

	// Ten seconds are two TTLs: whatever was cached is gone.
	l.Cut(clientHost, resolverHost)
	l.Holds("service without a resolver", 10*time.Second, func() error {
		return errors.Join(l.through(gatewayURL, "put", "deaf", "1").Err(), l.through(proxyURL, "put", "deaf", "2").Err())
	})
}

// TestGatewayFirstNodeDead: the first node of the Corefile is cut off, and the gateway and the gRPC proxy are started on another one
// without flags, where the first name server that they ask is the silent one.
func TestGatewayFirstNodeDead(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.CutNode("infra0")
	l.Wait("infra0 is out of SRV", healthyLimit, func() error {
		return l.allSay([]string{"infra1", "infra2"}, Question{l.service("client"), dns.TypeSRV}, l.targets("client", "infra1", "infra2"))
	})
	n := l.node("infra1")
	for program, at := range map[string]string{"gateway": "127.0.0.1:23790", "grpc-proxy": "127.0.0.1:23791"} {
		p, err := spawn(n.host, program+".log", slices.Concat([]string{l.bin(), program, "start", "--listen-addr", at}, place(n)))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l.Wait("a write through "+program, healthyLimit, func() error {
			if !p.running() {
				return fmt.Errorf("it has ended: %w", p.err)
			}
			return l.Run("infra1", "etcdctl", slices.Concat([]string{"--endpoints", "https://" + at, "--command-timeout", "3s"}, l.certFlags(), []string{"put", "key", program})...).Err()
		})
		t.Logf("%s: a write passes after %v", program, time.Since(began).Round(time.Millisecond))
	}
}
