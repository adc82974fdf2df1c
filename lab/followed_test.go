//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// stock is a cluster of Debian's etcd that nobody but its own operator runs.
type stock struct {
	*Lab
	procs map[string]*process
}

func oldAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 3, byte(20 + i)}) }

func oldURL(i, port int) string { return fmt.Sprintf("http://%s:%d", oldAddr(i), port) }

func oldName(i int) string { return fmt.Sprintf("old%d", i) }

// start starts member i of the cluster with the members listed.
func (s *stock) start(i int, state string, members ...int) {
	s.t.Helper()
	var initial []string
	for _, m := range members {
		initial = append(initial, oldName(m)+"="+oldURL(m, 2380))
	}
	h := s.host(oldName(i))
	p, err := spawn(h, "log", []string{"etcd", "--name", oldName(i), "--data-dir", filepath.Join(h.dir, "etcd"),
		"--listen-peer-urls", oldURL(i, 2380), "--initial-advertise-peer-urls", oldURL(i, 2380),
		"--listen-client-urls", oldURL(i, 2379), "--advertise-client-urls", "http://localhost:2379," + oldURL(i, 2379),
		"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", state})
	if err != nil {
		s.t.Fatal(err)
	}
	s.procs[oldName(i)] = p
}

func (s *stock) kill(name string) {
	s.t.Helper()
	if err := killAll(s.host(name).ns); err != nil {
		s.t.Fatal(err)
	}
	if !s.procs[name].ended(stopLimit) {
		s.t.Fatalf("%s does not die", name)
	}
}

// ctl runs etcdctl against the first member until it does what it shall.
func (s *stock) ctl(args ...string) (out string) {
	s.t.Helper()
	s.Wait(strings.Join(args, " "), soon, func() error {
		r := s.Run(clientHost, "etcdctl", append([]string{"--endpoints", oldURL(0, 2379), "--command-timeout", "5s"}, args...)...)
		out = r.Stdout
		return r.Err()
	})
	return out
}

// id is the ID of a member by its peer URL.
func (s *stock) id(i int) string {
	s.t.Helper()
	for line := range strings.Lines(s.ctl("member", "list")) {
		if strings.Contains(line, oldURL(i, 2380)) {
			id, _, _ := strings.Cut(line, ",")
			return fmt.Sprintf("%016s", id)
		}
	}
	s.t.Fatalf("no member is at %s", oldURL(i, 2380))
	return ""
}

// published are the answers when these hosts are the members and those the ones that serve clients.
func (s *stock) published(members, clients []string) map[string]string {
	return map[string]string{"_etcd-server-legacy": s.targets("server", members...), "_etcd-client-legacy": s.targets("client", clients...),
		"_etcd-server-ssl-legacy": "NXDOMAIN", "_etcd-client-ssl-legacy": "NXDOMAIN"}
}

// follows waits as everyoneSays does, and returns how long it took from the change on.
func (s *stock) follows(what string, members, clients []string) {
	s.t.Helper()
	begin := time.Now()
	s.everyoneSays(what, s.names, s.published(members, clients))
	s.t.Logf("%s: %v", what, time.Since(begin).Round(10*time.Millisecond))
}

// A stock etcd cluster beside the rack's own: every node publishes its member list, which follows each change and is
// never taken back.
func TestFollowedCluster(t *testing.T) {
	t.Parallel()
	block := fmt.Sprintf("etcdsrv {\n        cluster legacy {\n            endpoints %s %s\n        }", oldURL(0, 2379), oldURL(1, 2379))
	s := &stock{Lab: New(t, Options{Edit: func(_, text string) string { return strings.Replace(text, "etcdsrv {", block, 1) }}), procs: map[string]*process{}}
	var olds []string
	for i := range 4 {
		olds = append(olds, oldName(i))
		s.addHost(oldName(i), oldAddr(i))
	}
	w := s.Ask100(clientHost, Question{s.srv("_etcd-server-legacy"), dns.TypeSRV})
	s.StartAll()
	s.everyoneSays("the own cluster is published, the other neither published nor denied", s.names, map[string]string{
		"_etcd-server-ssl": s.complete("server"), "_etcd-server-legacy": "SERVFAIL", "_etcd-client-legacy": "SERVFAIL", "_etcd-server-ssl-legacy": "SERVFAIL"})
	s.WaitStatus("infra0", "problems", "cannot answer for cluster legacy, no member list of it was ever seen")

	for i := range 3 {
		s.start(i, "new", 0, 1, 2)
	}
	s.everyoneSays("its three members", s.names, s.published(olds[:3], olds[:3]))
	s.WaitHealthy()
	s.oneZone(s.names)
	if got := s.Ask(clientHost, s.Addr("infra0"), "old1."+s.Domain, dns.TypeA); got != oldAddr(1).String() {
		t.Errorf("old1 is at %q", got)
	}
	// Anybody's etcdctl finds it.
	s.Wait("a put by SRV", soon, func() error {
		return s.Run(clientHost, "etcdctl", "--discovery-srv", s.Domain, "--discovery-srv-name", "legacy", "--command-timeout", "5s", "put", "a", "b").Err()
	})

	s.ctl("member", "add", "old3", "--peer-urls", oldURL(3, 2380))
	unnamed := "m" + s.id(3) // it has no name before it starts
	four := []string{unnamed, "old0", "old1", "old2"}
	s.follows("a member added", four, olds[:3])
	s.start(3, "existing", 0, 1, 2, 3)
	s.follows("it started", olds, olds)

	s.ctl("member", "remove", s.id(1))
	s.follows("a member removed", []string{"old0", "old2", "old3"}, []string{"old0", "old2", "old3"})
	s.kill("old2")
	s.follows("a member down", []string{"old0", "old2", "old3"}, []string{"old0", "old3"})
	s.WaitStatus("infra1", "other_clusters", "connection refused") // why it does not serve

	// A node without a way to it learns from the others.
	for _, o := range olds {
		s.Cut("infra0", o)
	}
	s.ctl("member", "remove", s.id(2))
	s.follows("a member removed, behind a cut", []string{"old0", "old3"}, []string{"old0", "old3"})
	s.WaitStatus("infra0", "warnings", "the member list of cluster legacy may be old")
	s.oneZone(s.names)

	// Nobody of it is left, and a node starts.
	s.kill("old0")
	s.kill("old3")
	s.WaitStatus("infra1", "warnings", "the member list of cluster legacy may be old")
	s.Stop("infra1")
	s.Start("infra1")
	s.everyoneSays("the last good list", s.names, map[string]string{"_etcd-server-legacy": s.targets("server", "old0", "old3")})
	s.oneZone(s.names)
	s.WaitHealthy()

	w.Stop()
	known := []string{s.targets("server", olds[:3]...), s.targets("server", four...), s.targets("server", olds...),
		s.targets("server", "old0", "old2", "old3"), s.targets("server", "old0", "old3")}
	for _, n := range s.names {
		last := -1
		for _, seen := range w.Sequence(n, Question{s.srv("_etcd-server-legacy"), dns.TypeSRV}) {
			at := slices.Index(known, seen.Answer)
			if seen.Answer != "SERVFAIL" && at < 0 || at < last {
				t.Errorf("%s says %q after list %d", n, seen.Answer, last)
			}
			last = at
		}
	}
}
