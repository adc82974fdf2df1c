//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// The tests of this file prove the lab itself, on stand-in nodes.

func newStandIn(t *testing.T, o Options) *Lab {
	t.Helper()
	need(t)
	o.Plain = true
	return build(t, o, standIn{})
}

// The delegation works as on the Internet: from root hints, through NSD's referral, to the nodes; and dig prints what
// the guide prints.
func TestHarnessDelegation(t *testing.T) {
	l := newStandIn(t, Options{})
	referral, err := l.Query(clientHost, l.Addr(parentHost), "_etcd-server._tcp.rack1.example.com", dns.TypeSRV)
	if err != nil {
		t.Fatal(err)
	}
	if referral.Authoritative || len(referral.Answer) != 0 || len(referral.Ns) != 3 || len(referral.Extra) < 3 {
		t.Errorf("the parent does not refer to three nodes with glue:\n%v", referral)
	}
	l.StartAll()
	l.waitComplete()
	l.Flush()
	want := []string{
		"_etcd-server._tcp.rack1.example.com. 30 IN SRV 0 0 2380 infra0.rack1.example.com.",
		"_etcd-server._tcp.rack1.example.com. 30 IN SRV 0 0 2380 infra1.rack1.example.com.",
		"_etcd-server._tcp.rack1.example.com. 30 IN SRV 0 0 2380 infra2.rack1.example.com.",
	}
	if diff := cmp.Diff(want, l.Dig(clientHost, "SRV", "_etcd-server._tcp.rack1.example.com")); diff != "" {
		t.Errorf("through the resolver (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, l.Dig(clientHost, "@"+l.Addr("infra1"), "+tcp", "SRV", "_etcd-server._tcp.rack1.example.com")); diff != "" {
		t.Errorf("at infra1 over TCP (-want +got):\n%s", diff)
	}
	if !strings.Contains(l.ResolverLog(), "_etcd-server._tcp.rack1.example.com. SRV IN") {
		t.Errorf("the resolver's log lacks the query:\n%s", tail(l.ResolverLog(), 20))
	}
	if got := l.Must("infra1", "cat", "/etc/resolv.conf"); got != "nameserver 10.0.0.2\n" {
		t.Errorf("resolv.conf of infra1 is %q", got)
	}
}

func (l *Lab) waitComplete() {
	l.t.Helper()
	for _, n := range l.names {
		l.Wait(n+" serves the complete set", 30*time.Second, func() error {
			if got := l.Ask(clientHost, l.Addr(n), l.service("server"), dns.TypeSRV); got != l.complete("server") {
				return errors.New(got)
			}
			return nil
		})
	}
}

// A cut loses packets in exactly the directions asked for, silently, and healing undoes it.
func TestHarnessCut(t *testing.T) {
	l := newStandIn(t, Options{})
	l.StartAll()
	l.waitComplete()
	heard := func(from, to string) bool {
		_, err := l.Query(from, l.Addr(to), l.Domain, dns.TypeNS)
		var timeout net.Error
		if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			t.Errorf("%s → %s fails with %v, want silence", from, to, err)
		}
		return err == nil
	}
	check := func(what string, want map[[2]string]bool) {
		t.Helper()
		for _, pair := range slices.Collect(pairs(l.names)) {
			expect, special := want[pair]
			if got := heard(pair[0], pair[1]); got != (expect || !special) {
				t.Errorf("%s: %s hears from %s = %v, want %v", what, pair[0], pair[1], got, !got)
			}
		}
	}
	check("at first", nil)
	l.Cut("infra0", "infra1")
	check("cut", map[[2]string]bool{{"infra0", "infra1"}: false, {"infra1", "infra0"}: false})
	l.Heal("infra0", "infra1")
	check("healed", nil)
	l.CutNode("infra2")
	check("infra2's cable pulled", map[[2]string]bool{
		{"infra0", "infra2"}: false, {"infra2", "infra0"}: false, {"infra1", "infra2"}: false, {"infra2", "infra1"}: false})
	l.HealNode("infra2")
	check("plugged in", nil)
	// Cuts that overlap are cut and healed each by itself.
	l.CutFrom("infra0", "infra1")
	l.CutNode("infra0")
	l.Heal("infra0", "infra1")
	check("a link healed of a node without its cable", map[[2]string]bool{
		{"infra0", "infra1"}: false, {"infra1", "infra0"}: false, {"infra0", "infra2"}: false, {"infra2", "infra0"}: false})
	l.HealNode("infra0")
	check("all healed", nil)
	l.BlockDNS("infra1")
	check("no DNS to infra1", map[[2]string]bool{{"infra0", "infra1"}: false, {"infra2", "infra1"}: false})
	if !delivered(t, l, "infra0", "infra1") {
		t.Error("without DNS nothing else arrives either")
	}
	l.UnblockDNS("infra1")
	check("DNS again", nil)
}

// One direction of a cut: what infra0 sends to infra1 is lost, what infra1 sends arrives.
func TestHarnessCutFrom(t *testing.T) {
	l := newStandIn(t, Options{})
	l.CutFrom("infra0", "infra1")
	if got := delivered(t, l, "infra1", "infra0"); !got {
		t.Error("nothing arrives at infra0 from infra1, though only the other direction is cut")
	}
	if got := delivered(t, l, "infra0", "infra1"); got {
		t.Error("a packet from infra0 arrives at infra1 over a cut wire")
	}
}

// delivered sends packets from one host to another until one arrives, for half a second.
func delivered(t *testing.T, l *Lab, from, to string) bool {
	t.Helper()
	var in net.PacketConn
	var out net.Conn
	err := inNetns(l.host(to).ns, func() (err error) {
		in, err = net.ListenPacket("udp", net.JoinHostPort(l.Addr(to), "9"))
		return err
	})
	if err == nil {
		err = inNetns(l.host(from).ns, func() (err error) {
			out, err = net.Dial("udp", net.JoinHostPort(l.Addr(to), "9"))
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), out.Close() }()
	return poll(500*time.Millisecond, func() error {
		if _, err := out.Write([]byte("x")); err != nil {
			return err
		}
		if err := in.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return err
		}
		_, _, err := in.ReadFrom(make([]byte, 8))
		return err
	}) == nil
}

func pairs(names []string) func(yield func([2]string) bool) {
	return func(yield func([2]string) bool) {
		for _, a := range names {
			for _, b := range names {
				if a != b && !yield([2]string{a, b}) {
					return
				}
			}
		}
	}
}

// The watcher asks from before the first boot, sees every change in order, and asks about 100 times a second.
func TestHarnessAsk100(t *testing.T) {
	l := newStandIn(t, Options{})
	q := Question{"_etcd-server._tcp.rack1.example.com", dns.TypeSRV}
	w := l.Ask100(clientHost, q)
	l.StartAll()
	l.waitComplete()
	l.Wait("two seconds of answers", 20*time.Second, func() error {
		for _, n := range l.names {
			if seq := w.Sequence(n, q); len(seq) == 0 || seq[len(seq)-1].Count < 200 {
				return fmt.Errorf("%s: %s", n, story(seq))
			}
		}
		return nil
	})
	w.Stop()
	for _, n := range l.names {
		seq := w.Sequence(n, q)
		if err := firstAnswers(seq, l.complete("server")); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		if len(seq) != 3 {
			t.Errorf("%s: want SERVFAIL, NXDOMAIN and the set:\n%s", n, story(seq))
		}
		total := 0
		for _, s := range seq {
			total += s.Count
		}
		took := seq[len(seq)-1].Last.Sub(seq[0].First)
		if rate := float64(total) / took.Seconds(); rate < 50 || rate > 120 {
			t.Errorf("%s was asked %.0f times a second", n, rate)
		}
	}
}

func TestHarnessFirstAnswers(t *testing.T) {
	const all = "0 0 2380 a., 0 0 2380 b."
	tests := []struct {
		answers []string
		ok      bool
	}{
		{[]string{"SERVFAIL", "NXDOMAIN", all}, true},
		{[]string{"SERVFAIL", all}, true},
		{[]string{all}, true},
		{[]string{"SERVFAIL", "NXDOMAIN"}, false},
		{[]string{"NXDOMAIN", "SERVFAIL", all}, false},
		{[]string{all, "SERVFAIL", all}, false},
		{[]string{all, "NXDOMAIN"}, false},
		{[]string{"SERVFAIL", "NODATA", all}, false},
		{[]string{"SERVFAIL", "0 0 2380 a.", all}, false},
		{nil, false},
	}
	for _, tt := range tests {
		var seq []Seen
		for _, a := range tt.answers {
			seq = append(seq, Seen{Answer: a, First: time.Now(), Last: time.Now(), Count: 1})
		}
		if err := firstAnswers(seq, all); (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.answers, err)
		}
	}
	some := []Seen{{Answer: "SERVFAIL"}, {Answer: all}, {Answer: "0 0 2380 b."}, {Answer: all}}
	if err := firstClients(some, all); err != nil {
		t.Error("clients may be some of the members:", err)
	}
	if err := firstClients([]Seen{{Answer: "SERVFAIL"}, {Answer: "0 0 2380 b."}, {Answer: all}}, all); err == nil {
		t.Error("the first clients may not be some of the members")
	}
	if err := firstClients(some[:3], all); err == nil {
		t.Error("the last clients may not be some of the members")
	}
	if err := firstClients(append(some, Seen{Answer: "0 0 2380 c."}), all); err == nil {
		t.Error("clients may not be strangers")
	}
	if err := firstClients(append(some, Seen{Answer: "NODATA"}), all); err == nil {
		t.Error("clients may not be nobody")
	}
}

// Kill, KillMember and Stop do what they say, and nothing survives them.
func TestHarnessProcesses(t *testing.T) {
	l := newStandIn(t, Options{})
	l.StartAll()
	l.waitComplete()
	parent, member := l.PID("infra0"), l.KillMember("infra0")
	l.Wait("another member", 5*time.Second, func() error {
		if pid := l.MemberPID("infra0"); pid == 0 || pid == member {
			return fmt.Errorf("pid %d", pid)
		}
		return nil
	})
	if l.PID("infra0") != parent {
		t.Error("the parent was hit as well")
	}
	l.Stop("infra0")
	l.Kill("infra1")
	if pids, err := pidsIn(l.host("infra1").ns); err != nil || len(pids) != 0 {
		t.Errorf("%v survive kill -9 (%v)", pids, err)
	}
	if err := os.MkdirAll(filepath.Join(l.nodes["infra1"].data(), "etcd"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.WipeEtcd("infra1")
	l.Wipe("infra1")
	l.Start("infra1")
	l.waitNodes("infra1", "infra2")
	r := l.Run(clientHost, "sh", "-c", "echo out; echo err >&2; exit 3")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 3 {
		t.Errorf("a command's result is %q", r)
	}
}

func (l *Lab) waitNodes(names ...string) {
	l.t.Helper()
	for _, n := range names {
		l.Wait(n+" answers", 10*time.Second, func() error {
			_, err := l.Query(clientHost, l.Addr(n), l.Domain, dns.TypeNS)
			return err
		})
	}
}

// A lab takes everything away again.
func TestHarnessCleanup(t *testing.T) {
	var prefix, dir string
	t.Run("lab", func(t *testing.T) {
		l := newStandIn(t, Options{})
		l.StartAll()
		prefix, dir = l.net.prefix, l.dir
	})
	if prefix == "" {
		t.Skip("SKIPPED: no lab")
	}
	nothingLeft(t, prefix, dir)
}

func nothingLeft(t *testing.T, prefix, dir string) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/", "/etc/netns/"} {
		if left, err := filepath.Glob(pattern + prefix + "-*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind (%v)", dir, err)
	}
}

// What a run left behind that was killed is removed by the next one; what a living run has is left alone.
func TestHarnessSweep(t *testing.T) {
	need(t)
	// A pid above the kernel's limit of 2^22, so that no run has it.
	const dead = namePrefix + "4999999"
	dir := filepath.Join(os.TempDir(), dead)
	lock := filepath.Join(lockDir, dead)
	for _, d := range []string{dir, filepath.Join("/etc/netns", dead+"-1-infra0")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ip("netns", "add", dead+"-1-infra0"); err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("ip", "netns", "exec", dead+"-1-infra0", "tail", "-f", "/dev/null")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	living := newStandIn(t, Options{Nodes: 1})

	fd, err := unix.Open(lock, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error("the sweep took a run whose lock is held:", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dead, dir)
	if err := orphan.Wait(); err == nil {
		t.Error("the orphan ended by itself, want it killed")
	}
	if _, err := os.Stat(living.dir); err != nil {
		t.Error("the sweep took this run's own lab:", err)
	}
}
