//go:build linux

package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Obstacles to birth, each of which a rack meets on its first day: while it lasts nobody forms a cluster, status names
// it, and once it is gone one cluster is born without a command.
func TestBirthObstacles(t *testing.T) {
	for _, tt := range []struct {
		name string
		// raise makes the obstacle before the first start and returns what removes it.
		raise func(t *testing.T, l *Lab) (remove func())
		// at is the node whose status shows it, says what it has to say.
		at, says string
	}{
		{"AsymmetricCut", asymmetricCut, "infra0", "infra1"},
		{"TwoBundles", twoBundles, "infra0", "infra2"},
		{"DisjointCorefiles", disjointCorefiles, "infra0", "infra1"},
		{"PortTaken", portTaken, "infra0", "lab.test"},
		{"Etcd10643HostsFileShadows", hostsFileShadows, "infra0", "infra1.rack1.example.com"},
		{"Etcd15062LateName", lateName, "infra2", "infra0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := New(t, Options{})
			remove := tt.raise(t, l)
			l.StartAll()
			l.WaitStatus(tt.at, "plan", tt.says)
			l.Holds("nobody forms a cluster", quiet, l.NoMembers)
			if hint := l.StatusText(tt.at, "plan.hint"); hint == "" {
				t.Errorf("%s gives no hint: %s", tt.at, l.StatusText(tt.at, "plan"))
			}
			remove()
			removed := time.Now()
			l.WaitHealthy()
			t.Logf("all is well %v later", time.Since(removed).Round(10*time.Millisecond))
			l.OneCluster()
			l.Put("a", "b")
			l.Get("a", "b")
		})
	}
}

// asymmetricCut lets infra0 hear infra1 and not the other way round.
func asymmetricCut(_ *testing.T, l *Lab) func() {
	l.CutFrom("infra0", "infra1")
	return func() { l.Heal("infra0", "infra1") }
}

// twoBundles gives infra2 the bundle of another init.
func twoBundles(_ *testing.T, l *Lab) func() {
	other := l.operator() + "-other"
	l.initRack(other)
	l.Install("infra2", other)
	return func() {
		l.Stop("infra2")
		l.Install("infra2", l.operator())
		l.Start("infra2")
	}
}

// disjointCorefiles lets infra0 know nobody else, and the others not know infra0. The bundle names all three.
func disjointCorefiles(_ *testing.T, l *Lab) func() {
	drop := func(names ...string) func(string) string {
		return func(s string) string {
			for _, n := range names {
				s = strings.Replace(s, "node "+n+" ", "# node "+n+" ", 1)
			}
			return s
		}
	}
	l.EditCorefile("infra0", drop("infra1", "infra2"))
	l.EditCorefile("infra1", drop("infra0"))
	l.EditCorefile("infra2", drop("infra0"))
	return func() {
		for _, n := range l.Names() {
			l.Install(n, l.operator())
			l.Stop(n)
			l.Start(n)
		}
	}
}

// portTaken holds the first member's peer port with a socket of the test.
func portTaken(_ *testing.T, l *Lab) func() {
	held := l.holdPort("infra0", "2380")
	return func() { _ = held.Close() }
}

// hostsFileShadows gives infra0 another address for infra1 than DNS does, so that of its peers' names half resolve.
func hostsFileShadows(t *testing.T, l *Lab) func() {
	h := l.host("infra0")
	path := filepath.Join("/etc/netns", h.ns, "hosts")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.etc("hosts", string(good)+"10.0.9.9 infra1."+l.Domain+"\n"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := h.etc("hosts", string(good)); err != nil { // the same file, which the node's mount shows
			t.Fatal(err)
		}
	}
}

// Two members that cannot hear each other, while the first hears both: birth waits or is complete, and nobody sees a part
// of it.
func TestBirthBesideACut(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	server := Question{l.service("server"), dns.TypeSRV}
	w := l.Ask100(clientHost, server)
	l.Cut("infra1", "infra2")
	l.StartAll()
	l.waitNodes(l.Names()...)
	l.Holds("all or nothing", 2*quiet, func() error {
		for _, n := range l.Names() {
			for _, s := range w.Sequence(n, server) {
				if s.Answer != "SERVFAIL" && s.Answer != "NXDOMAIN" && s.Answer != l.complete("server") {
					return errorf("%s answers %s", n, s.Answer)
				}
			}
		}
		return nil
	})
	l.Heal("infra1", "infra2")
	l.WaitHealthy()
	w.Stop()
	l.OneCluster()
	for _, n := range l.Names() {
		seq := w.Sequence(n, server)
		first := slices.IndexFunc(seq, func(s Seen) bool { return s.Answer == l.complete("server") })
		if first != len(seq)-1 {
			t.Errorf("%s goes back from the complete set:\n%s", n, story(seq))
		}
	}
}

// A Corefile that is edited while birth waits never shrinks the list of those it waits for.
func TestCorefileEditedMidBirth(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	l.Start("infra0")
	l.Start("infra1")
	l.WaitStatus("infra0", "waiting", "infra2")
	for _, n := range []string{"infra0", "infra1"} {
		l.EditCorefile(n, func(s string) string { return strings.Replace(s, "node infra2 ", "# node infra2 ", 1) })
		l.Stop(n)
		l.Start(n)
	}
	l.WaitStatus("infra0", "plan", "infra2")
	l.Holds("two of three after the edit", quiet, l.NoMembers)
	l.Start("infra2")
	for _, n := range []string{"infra0", "infra1"} {
		l.Install(n, l.operator())
		l.Stop(n)
		l.Start(n)
	}
	l.WaitHealthy()
	l.OneCluster()
}

// A rack of blank nodes later than the bundle allows is not born: it may be one whose disks were all wiped.
func TestEightDays(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Init: []string{"--genesis-within", "1s"}})
	<-time.After(1100 * time.Millisecond)
	l.StartAll()
	for _, n := range l.Names() {
		l.WaitStatus(n, "plan", "snapshot restore")
		l.WaitStatus(n, "waiting", "permission")
	}
	l.Holds("nobody is born", quiet, l.NoMembers)
	for _, n := range l.Names() {
		if got := l.Ask(clientHost, l.Addr(n), l.service("server"), dns.TypeSRV); got != "NXDOMAIN" && got != "SERVFAIL" {
			t.Errorf("%s answers %s", n, got)
		}
	}
}

// All disks wiped at once, after birth was allowed no more.
func TestWipedRack(t *testing.T) {
	t.Parallel()
	const within = 30 * time.Second
	l := New(t, Options{Init: []string{"--genesis-within", within.String()}})
	end := time.Now().Add(within) // init was a moment ago
	l.StartAll()
	l.WaitHealthy()
	l.Put("lost", "1")
	l.KillAll()
	for _, n := range l.Names() {
		l.Wipe(n)
	}
	<-time.After(time.Until(end) + time.Second)
	l.StartAll()
	l.WaitStatus("infra1", "waiting", "permission")
	l.Holds("nobody is born again", quiet, l.NoMembers)
}

// Deaths in the middle of birth. A victim is killed as soon as a witness's disk shows a phase; wiped or not, it comes
// back. There is never more than one genesis, and whoever lost nothing takes part in it.
func TestDeathsInBirth(t *testing.T) {
	for _, tt := range []struct {
		name, victim, witness, phase string
		wipe                         bool
	}{
		{"MemberPromised", "infra2", "infra2", "promised", false},
		{"MemberAccepted", "infra2", "infra2", "accepted", false},
		{"ProposerAccepted", "infra0", "infra1", "accepted", false},
		{"ProposerWipedAfterOne", "infra0", "infra1", "accepted", true},
		{"ProposerWipedAfterTwo", "infra0", "infra2", "accepted", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := New(t, Options{})
			l.StartAll()
			seen := l.awaitPhase(tt.witness, tt.phase)
			l.Kill(tt.victim)
			t.Logf("killed %s when %s was %s; its own disk says %q", tt.victim, tt.witness, seen, l.phase(tt.victim))
			if tt.wipe {
				l.Wipe(tt.victim)
			}
			l.Start(tt.victim)
			if !tt.wipe {
				l.WaitHealthy()
				l.OneCluster()
			}
			l.settled(tt.victim)
		})
	}
}

// settled checks what has to be true after a death in birth: the cluster takes writes, all nodes that are members are
// so by one genesis, and only a wiped victim may be outside.
func (l *Lab) settled(victim string) {
	l.t.Helper()
	l.Put("a", "b")
	l.Get("a", "b")
	genesis := map[string]bool{}
	for _, n := range l.names {
		inside := func() error {
			if l.MemberPID(n) == 0 {
				return errorf("no member runs; the plan is %s", l.StatusText(n, "plan"))
			}
			return nil
		}
		if n != victim {
			l.Wait(n+" is a member", healthyLimit, inside)
		}
		if inside() == nil {
			genesis[l.Genesis(n)] = true
		}
	}
	if len(genesis) != 1 {
		l.t.Errorf("members of %d births: %v", len(genesis), genesis)
	}
}

// awaitPhase waits, as closely as it can, until the genesis.json of a node shows a phase or a later one.
func (l *Lab) awaitPhase(name, phase string) string {
	l.t.Helper()
	order := []string{"fresh", "promised", "accepted", "born", "running"}
	rank := map[string]int{}
	for i, p := range order {
		rank[p] = i
	}
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(healthyLimit); time.Now().Before(end); <-tick.C {
		if now := l.phase(name); rank[now] >= rank[phase] {
			return now
		}
	}
	l.t.Fatalf("%s is never %s", name, phase)
	return ""
}

// phase reads the phase from a node's disk; empty while there is none.
func (l *Lab) phase(name string) string {
	text, err := os.ReadFile(filepath.Join(l.nodes[name].data(), "genesis.json"))
	if err != nil {
		return ""
	}
	var marker struct {
		Phase string `json:"phase"`
	}
	if err := json.Unmarshal(text, &marker); err != nil {
		l.t.Errorf("genesis.json of %s: %v", name, err)
	}
	return marker.Phase
}
