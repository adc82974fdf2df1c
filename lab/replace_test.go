//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// memberIDs are the members by node, as one node's etcd lists them; learners have a name that ends in "(learner)".
func (l *Lab) memberIDs(at string) map[string]uint64 {
	l.t.Helper()
	r := l.At(at, "member", "list", "-w", "json")
	var list struct {
		Members []struct {
			ID        uint64   `json:"ID"`
			PeerURLs  []string `json:"peerURLs"`
			IsLearner bool     `json:"isLearner"`
		} `json:"members"`
	}
	if r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &list) != nil {
		return nil
	}
	out := map[string]uint64{}
	for _, m := range list.Members {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(m.PeerURLs[0], "https://"), "http://"), ".")
		if m.IsLearner {
			name += " (learner)"
		}
		out[name] = m.ID
	}
	return out
}

// voters waits until these nodes and no others have voters, and every one of them lists it so in etcd and in SRV.
func (l *Lab) voters(names ...string) {
	l.t.Helper()
	want := l.targets("server", names...)
	l.Wait(fmt.Sprintf("the voters are %v", names), 2*healthyLimit, func() error {
		for _, at := range names {
			ids := l.memberIDs(at)
			if len(ids) != len(names) || slices.ContainsFunc(names, func(n string) bool { return ids[n] == 0 }) {
				return errorf("%s lists %v", at, ids)
			}
			if got := l.Ask(clientHost, l.Addr(at), l.service("server"), dns.TypeSRV); got != want {
				return errorf("%s answers %s, want %s", at, got, want)
			}
		}
		return nil
	})
}

// A machine comes back with a blank disk: it is replaced without a person, after a snapshot, and under a new member ID.
func TestEtcd5087BlankDisk(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	before := l.memberIDs("infra0")
	l.Kill("infra2")
	l.Start("infra2") // a second life of this disk, and then a third
	l.WaitHealthy()
	l.Kill("infra2")
	l.Wipe("infra2")
	l.Put("written while it was away", "2")
	w := l.watchDNS()
	w.excuse("infra2")
	w.forgets("infra2")
	w.starts("infra2")
	l.Start("infra2")
	began := time.Now()
	l.Wait("infra2 answers", healthyLimit, func() error { return w.heard("infra2") })
	l.voters("infra0", "infra1", "infra2")
	l.WaitHealthy()
	w.Stop()
	if err := w.judge(l.Names()); err != nil {
		t.Error(err)
	}
	t.Logf("a voter again, and all well, %v after its start", time.Since(began).Round(10*time.Millisecond))
	l.GetAt("infra2", "kept", "1")
	l.GetAt("infra2", "written while it was away", "2")
	after := l.memberIDs("infra0")
	if after["infra2"] == before["infra2"] || after["infra0"] != before["infra0"] || after["infra1"] != before["infra1"] {
		t.Errorf("member IDs %v became %v, want a new one for infra2 alone", before, after)
	}
	if n := l.snapshots(); n != 1 {
		t.Errorf("%d snapshots were taken before the removal, want 1", n)
	}
	// Its disk is the only one that its new member ever had. That the others remember more lives of the node than this disk had
	// says nothing.
	pid := l.KillMember("infra2")
	l.Wait("another process of the same member", healthyLimit, func() error {
		if now := l.MemberPID("infra2"); now == 0 || now == pid {
			return errorf("process %d", now)
		}
		return nil
	})
	l.WaitHealthy()
	if again := l.memberIDs("infra0"); again["infra2"] != after["infra2"] {
		t.Errorf("after a death member %x of infra2 became %x", after["infra2"], again["infra2"])
	}
}

// snapshots counts those that the nodes took by themselves, each of which etcdutl can read.
func (l *Lab) snapshots() (n int) {
	l.t.Helper()
	for _, name := range l.names {
		files, err := filepath.Glob(filepath.Join(l.node(name).data(), "snapshots", "*.db"))
		if err != nil {
			l.t.Fatal(err)
		}
		for _, f := range files {
			l.Must(name, l.bin(), "etcdutl", "snapshot", "status", f)
			n++
		}
	}
	return n
}

// With replace manual the node waits, serves DNS and says why.
func TestReplaceManual(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{Edit: func(_, text string) string {
		return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        replace manual", 1)
	}})
	l.Kill("infra2")
	l.Wipe("infra2")
	l.Start("infra2")
	l.WaitStatus("infra2", "waiting", "replace manual")
	l.Holds("infra2", quiet, func() error { return l.NoMember("infra2") })
	l.order("replace", "infra2")
	l.WaitHealthy()
	l.voters(l.Names()...)
}

// Two nodes join one after the other, by lines in the Corefile, while a client writes; the zone follows, and the last one
// has every write.
func TestEtcd3206Join(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 2})
	old := []string{"infra0", "infra1", "infra2"}
	for _, n := range old {
		l.Start(n)
	}
	l.WaitHealthy(old...)
	l.Put("kept", "1")
	w := l.keepWriting()
	for i, name := range []string{"infra3", "infra4"} {
		line := fmt.Sprintf("node %s %s", name, l.Addr(name))
		for _, n := range l.Names() {
			l.EditCorefile(n, func(text string) string {
				return strings.Replace(text, "node infra0 ", line+"\n        node infra0 ", 1)
			})
		}
		running := l.Names()[:3+i]
		for _, n := range running {
			l.Signal(n, syscall.SIGHUP)
		}
		l.Start(name)
		l.voters(l.Names()[:4+i]...)
	}
	l.WaitHealthy()
	w.check("infra4")
	if w.n == 0 {
		t.Error("nothing was written meanwhile")
	}
	l.GetAt("infra4", "kept", "1")
	l.Put("after", "2")
	l.GetAt("infra3", "after", "2")
	// The newcomers restart like everybody else.
	l.KillAll()
	l.StartAll()
	l.WaitHealthy()
	l.Get("after", "2")
	l.voters(l.Names()...)
	numbers := map[string]string{}
	for _, n := range []string{"infra3", "infra4"} {
		text, err := os.ReadFile(filepath.Join(l.node(n).data(), "slot.json"))
		if other := numbers[string(text)]; err != nil || other != "" {
			t.Errorf("%s has the number %s, as %q has: %v", n, text, other, err)
		}
		numbers[string(text)] = n
	}
	if _, err := os.Stat(filepath.Join(l.node("infra0").data(), "snapshots")); err == nil {
		t.Error("a snapshot was taken, though nothing was removed")
	}
	t.Run("FirstMembersLostLaterOnesSurvive", func(t *testing.T) { grownSurvive(t, l) })
}

// grownSurvive: the three first members lose their disks at once, within the time of its permission for birth. They
// would agree on a birth; those that joined later have seen another one. Nobody is born again, and the data that is left is kept.
func grownSurvive(t *testing.T, l *Lab) {
	l.KillAll()
	database := func(n string) string { return filepath.Join(l.node(n).data(), "etcd", "member", "snap", "db") }
	db := map[string]uint64{}
	for _, n := range l.Names()[3:] {
		db[n] = inodeOf(t, database(n))
	}
	for _, n := range l.Names()[:3] {
		l.Wipe(n)
	}
	l.StartAll()
	w := l.Ask100(clientHost, Question{l.service("server"), dns.TypeSRV})
	for _, n := range l.Names()[:3] {
		l.WaitStatus(n, "plan.action", "wait")
		l.WaitStatus(n, "plan.hint", "etcd-dns ")
	}
	l.Holds("nobody is born again", quiet, func() error {
		var all error
		for _, n := range l.Names()[:3] {
			all = errors.Join(all, l.NoMember(n))
		}
		return all
	})
	// Without a quorum etcd lets nobody read, so it is the files that count.
	for n, inode := range db {
		if now := inodeOf(t, database(n)); now != inode {
			t.Errorf("the database of %s is another file", n)
		}
	}
	w.Stop()
	for _, n := range l.Names() {
		for _, s := range w.Sequence(n, Question{l.service("server"), dns.TypeSRV}) {
			if s.Answer != "SERVFAIL" && s.Answer != l.complete("server") {
				t.Errorf("%s answers %s", n, s.Answer)
			}
		}
	}
}

// A member that is removed with etcdctl leaves the zone at once, keeps its data aside, serves DNS, and stays out.
func TestEtcd10238Removed(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	id := fmt.Sprintf("%x", l.memberIDs("infra0")["infra2"])
	// etcd refuses while its members have been connected for less than five seconds.
	l.Wait("the removal", healthyLimit, func() error { return l.Etcdctl("member", "remove", id).Err() })
	want := l.targets("server", "infra0", "infra1")
	for _, at := range l.Names() {
		l.Wait(at+" has two members in SRV", healthyLimit, func() error {
			if got := l.Ask(clientHost, l.Addr(at), l.service("server"), dns.TypeSRV); got != want {
				return errorf("%s", got)
			}
			return nil
		})
	}
	l.WaitStatus("infra2", "phase", "removed")
	l.Holds("infra2 stays out", quiet, func() error { return l.NoMember("infra2") })
	l.Stop("infra2")
	l.Start("infra2")
	l.WaitStatus("infra2", "waiting", "removed")
	l.Holds("infra2 stays out after a restart", quiet, func() error { return l.NoMember("infra2") })
	if aside, _ := filepath.Glob(filepath.Join(l.node("infra2").data(), "etcd.aside-*", "member", "snap", "db")); len(aside) != 1 {
		t.Errorf("its data was set aside at %v, want one place", aside)
	}
	l.Get("kept", "1")
	// A person lets it in again, on any node.
	if r := l.Tool("infra1", "member", "add", "infra2"); r.Code != 0 {
		t.Fatal(r)
	}
	l.voters(l.Names()...)
	l.GetAt("infra2", "kept", "1")
}

// Commands for the membership work on every node, the removed one included, and for the leader, which hands over first.
func TestMemberCommands(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	leader := l.StatusText("infra0", "leader")
	rest := slices.DeleteFunc(l.Names(), func(n string) bool { return n == leader })
	if r := l.Tool(rest[0], "member", "remove", "infra9"); r.Code != 1 || !strings.Contains(r.Stderr, "hint:") {
		t.Errorf("an unknown node: %v", r)
	}
	// etcd refuses while its members have been connected for less than five seconds.
	l.Wait("the removal of the leader", healthyLimit, func() error { return l.Tool(rest[0], "member", "remove", leader).Err() })
	l.voters(rest...)
	l.WaitStatus(leader, "phase", "removed")
	if r := l.Tool(rest[1], "member", "list"); r.Code != 0 || !strings.Contains(r.Stdout, leader+": member ") {
		t.Errorf("the list does not say why %s has no member: %v", leader, r)
	}
	// Its line is in every Corefile, and it is blank now: it stays out all the same.
	l.Stop(leader)
	l.Wipe(leader)
	l.Start(leader)
	l.WaitStatus(leader, "waiting", "removed")
	l.Holds(leader+" stays out", quiet, func() error { return l.NoMember(leader) })
	// One voter is a quorum of itself; none is not.
	l.Wait("a removal down to one", healthyLimit, func() error { return l.Tool(rest[0], "member", "remove", rest[1]).Err() })
	l.voters(rest[0])
	for _, force := range [][]string{nil, {"--force"}} {
		r := l.Tool(rest[0], append([]string{"member", "remove", rest[0]}, force...)...)
		if r.Code != 1 || !strings.Contains(r.Stderr, "last voter") || strings.Contains(r.Stderr, "--force") {
			t.Errorf("the last voter, %v: %v", force, r)
		}
	}
	l.Get("kept", "1")
	for _, n := range []string{leader, rest[1]} {
		if r := l.Tool(n, "member", "add", n); r.Code != 0 { // told on the very node that is out
			t.Fatal(r)
		}
	}
	l.voters(l.Names()...)
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.GetAt(n, "kept", "1")
	}
}
