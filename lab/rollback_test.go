//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memory is a part of what a node's disk remembers of another one, or of itself.
type memory struct {
	Life  uint64 `json:"life"`
	Index uint64 `json:"index"`
}

func (l *Lab) memory(at, of string) (s memory) {
	l.t.Helper()
	var seen struct {
		Nodes map[string]memory `json:"nodes"`
	}
	text, err := os.ReadFile(filepath.Join(l.node(at).data(), "seen.json"))
	if err != nil {
		return s
	}
	if err := json.Unmarshal(text, &seen); err != nil {
		l.t.Fatalf("seen.json of %s: %v", at, err)
	}
	return seen.Nodes[of]
}

// idle reports a member that runs; its data may be there.
func (l *Lab) idle(name string) error {
	if pid := l.MemberPID(name); pid != 0 {
		return errorf("the member of %s runs as process %d", name, pid)
	}
	return nil
}

// image copies the disk of a stopped node, and returns what puts the copy back.
func (l *Lab) image(name string) (back func()) {
	l.t.Helper()
	data, copied := l.node(name).data(), filepath.Join(l.t.TempDir(), "image")
	const sparse = "--sparse=always" // etcd's log is 64 MB of zeros at first
	l.Must(clientHost, "cp", "-a", sparse, data, copied)
	return func() {
		l.t.Helper()
		l.Wipe(name)
		l.Must(clientHost, "cp", "-a", sparse, copied+"/.", data)
	}
}

// A disk is put back from an image that is one start older. It would have forgotten what its member acknowledged since; the
// others remember, and the node is replaced.
func TestOlderImage(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	before := l.memberIDs("infra0")
	l.Kill("infra2")
	back := l.image("infra2")
	l.Start("infra2")
	l.WaitHealthy()
	l.Put("written after the image", "1")
	l.Wait("infra1 remembers the latest life of infra2", healthyLimit, func() error {
		if s := l.memory("infra1", "infra2"); s.Life != 2 {
			return errorf("it remembers %+v", s)
		}
		return nil
	})
	l.Kill("infra2")
	back()
	l.Start("infra2")
	l.Wait("infra2 is replaced", healthyLimit, func() error {
		if id := l.memberIDs("infra0")["infra2"]; id == 0 || id == before["infra2"] {
			return errorf("its member is %x", id)
		}
		return nil
	})
	l.voters(l.Names()...)
	l.WaitHealthy()
	l.GetAt("infra2", "written after the image", "1")
	if aside, _ := filepath.Glob(filepath.Join(l.node("infra2").data(), "etcd.aside-*")); len(aside) != 1 {
		t.Errorf("its old data is at %v, want one place", aside)
	}
	// The new member has a memory of its own: the next start is no rollback, although the node's lives began anew.
	after := l.memberIDs("infra0")
	l.Kill("infra2")
	l.Start("infra2")
	l.voters(l.Names()...)
	l.WaitHealthy()
	if now := l.memberIDs("infra0"); now["infra2"] != after["infra2"] {
		t.Errorf("after one more start its member is %x, was %x", now["infra2"], after["infra2"])
	}
}

// Only etcd/ is put back, and the life goes on: the index tells. Nobody else runs that could know.
func TestOlderEtcdDirectory(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Kill("infra2")
	back := l.image("infra2")
	l.Start("infra2")
	l.WaitHealthy()
	index := func() uint64 {
		var id memory
		text, err := os.ReadFile(filepath.Join(l.node("infra2").data(), "identity.json"))
		if err != nil || json.Unmarshal(text, &id) != nil {
			t.Fatalf("identity.json of infra2: %v %q", err, text)
		}
		return id.Index
	}
	const writes = 20 // more than what an index is behind that is five seconds old
	old := index()
	for i := range writes {
		l.Put(fmt.Sprint("key", i), "1")
	}
	l.Wait("infra2 remembers a later index of its own", healthyLimit, func() error {
		if now := index(); now < old+writes {
			return errorf("it remembers %d, and %d before", now, old)
		}
		return nil
	})
	l.KillAll()
	identity := filepath.Join(l.node("infra2").data(), "identity.json")
	kept, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	back()
	if err := os.WriteFile(identity, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Start("infra2")
	l.WaitStatus("infra2", "waiting", "older")
	l.Holds("its member does not run", quiet, func() error { return l.idle("infra2") })
	l.Start("infra0")
	l.Start("infra1")
	l.voters(l.Names()...)
	l.WaitHealthy()
	l.GetAt("infra2", "key0", "1")
}

// A disk comes up in another machine. A majority has to be sure that the member does not run in the old one; alone it waits
// for a person.
func TestOtherMachine(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	before := l.memberIDs("infra0")
	moveTo := func(id string) {
		if err := l.host("infra2").etc("machine-id", id+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	l.Kill("infra2")
	moveTo("0123456789abcdef0123456789abcdef")
	l.Start("infra2")
	l.WaitStatus("infra2", "waiting", "machine")
	began := time.Now()
	l.voters(l.Names()...)
	l.WaitHealthy()
	t.Logf("it runs in the other machine after %v", time.Since(began).Round(10*time.Millisecond))
	if after := l.memberIDs("infra0"); after["infra2"] != before["infra2"] {
		t.Errorf("its member was %x and is %x, want the same", before["infra2"], after["infra2"])
	}
	l.KillAll()
	moveTo("fedcba9876543210fedcba9876543210")
	l.Start("infra2")
	l.WaitStatus("infra2", "plan.hint", "run --moved")
	l.Holds("alone it waits", 12*time.Second, func() error { return l.idle("infra2") })
	l.Start("infra0")
	l.Start("infra1")
	l.voters(l.Names()...)
}

// A member alone starts after ten seconds, since no quorum can be formed by it; a whole rack does not wait that long.
func TestRestartAfterPowerCut(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	l.KillAll()
	l.Start("infra1")
	l.WaitStatus("infra1", "waiting", "majority")
	l.Wait("infra1 starts alone", healthyLimit, func() error {
		if l.MemberPID("infra1") == 0 {
			return errorf("no member runs: %s", l.StatusText("infra1", "plan"))
		}
		return nil
	})
	l.KillAll()
	began := time.Now()
	l.StartAll()
	for _, n := range l.Names() {
		l.Wait(n+" has a member", healthyLimit, func() error {
			if pid := l.MemberPID(n); pid == 0 || unix.Kill(pid, 0) != nil {
				return errorf("no member runs: %s", l.StatusText(n, "plan"))
			}
			return nil
		})
	}
	t.Logf("all members run %v after the power came back", time.Since(began).Round(10*time.Millisecond))
	l.WaitHealthy()
	t.Logf("all is well %v after the power came back", time.Since(began).Round(10*time.Millisecond))
	for _, n := range l.Names() {
		l.GetAt(n, "kept", "1")
	}
}
