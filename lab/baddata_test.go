//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What may become of a node's data, one thing after the other in one rack, none of which costs an acknowledged write.
func TestBadData(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	born := l.clusterIDs()
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, l *Lab)
	}{
		{"MarkerLost", markerLost},
		{"MemoryDamaged", memoryDamaged},
		{"MarkersLost", markersLost},
		{"AnothersData", anothersData},
		{"LogCorrupt", logCorrupt},
		{"AllEtcdLost", allEtcdLost},
	} {
		if !t.Run(tt.name, func(t *testing.T) { tt.run(t, l) }) {
			return
		}
		if tt.name != "AllEtcdLost" {
			l.WaitHealthy()
			l.Get("kept", "1")
			if now := l.clusterIDs(); now != born {
				t.Fatalf("after %s the cluster is %s and was %s", tt.name, now, born)
			}
		}
	}
}

// clusterIDs are the distinct cluster IDs that the nodes' members are in. A marker that was made anew from the log has the ID and
// not the genesis.
func (l *Lab) clusterIDs() string {
	var ids []string
	for _, n := range l.names {
		ids = append(ids, l.StatusText(n, "cluster_id"))
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

// marker is where a node keeps its part in the birth.
func (l *Lab) marker(name string) string { return filepath.Join(l.node(name).data(), "genesis.json") }

// markerLost: genesis.json alone is gone. The log says whose it is, and the member restarts under its ID.
func markerLost(t *testing.T, l *Lab) {
	before := l.memberIDs("infra0")
	l.Kill("infra2")
	if err := os.Remove(l.marker("infra2")); err != nil {
		t.Fatal(err)
	}
	l.Start("infra2")
	l.WaitHealthy()
	if after := l.memberIDs("infra0"); after["infra2"] != before["infra2"] {
		t.Errorf("its member was %x and is %x", before["infra2"], after["infra2"])
	}
}

// memoryDamaged: one of the files of a node's memory is cut short. The node answers, starts nothing, and says what leads out: the file is moved away. Only
// without identity.json may it become another member.
func memoryDamaged(t *testing.T, l *Lab) {
	for _, file := range []string{"genesis.json", "seen.json", "identity.json"} {
		before := l.memberIDs("infra0")
		path := filepath.Join(l.node("infra2").data(), file)
		l.Kill("infra2")
		if err := os.Truncate(path, 10); err != nil {
			t.Fatal(err)
		}
		l.Start("infra2")
		l.WaitStatus("infra2", "plan.reason", path)
		l.WaitStatus("infra2", "plan.hint", "move the damaged file away")
		cut, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Holds("it starts no member and leaves the file as it is", 3*time.Second, func() error {
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, cut) {
				return errorf("%s was %q and is %q, %v", path, cut, now, err)
			}
			return l.idle("infra2")
		})
		l.Wait("it answers", soon, func() error {
			return l.allSay([]string{"infra2"}, Question{l.service("server"), dns.TypeSRV}, l.complete("server"))
		})
		l.Stop("infra2")
		if err := os.Rename(path, path+".damaged"); err != nil {
			t.Fatal(err)
		}
		l.Start("infra2")
		l.voters(l.Names()...)
		l.WaitHealthy()
		if after := l.memberIDs("infra0"); after["infra2"] != before["infra2"] && file != "identity.json" {
			t.Errorf("after %s its member was %x and is %x", file, before["infra2"], after["infra2"])
		}
	}
}

// markersLost: it is gone on all nodes at once. The lists of before, which the nodes keep on disk, do not count for more than those of now.
func markersLost(t *testing.T, l *Lab) {
	l.KillAll()
	for _, n := range l.Names() {
		if err := os.Remove(l.marker(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.StartAll()
	l.WaitHealthy()
	q := Question{l.service("server"), dns.TypeSRV}
	l.Wait("infra2 is removed", healthyLimit, func() error { return l.Tool("infra0", "member", "remove", "infra2").Err() })
	l.Wait("all publish two members", soon, func() error { return l.allSay(l.Names(), q, l.targets("server", "infra0", "infra1")) })
	l.Wait("infra2 is let in", healthyLimit, func() error { return l.Tool("infra0", "member", "add", "infra2").Err() })
	l.Wait("all publish three", healthyLimit, func() error { return l.allSay(l.Names(), q, l.complete("server")) })
}

// anothersData: infra1 finds a copy of infra0's data, on a disk that is blank but for that, and beside its own marker. It starts no member with
// it and says whose it is.
func anothersData(t *testing.T, l *Lab) {
	l.Kill("infra0", "infra1")
	own, err := os.ReadFile(l.marker("infra1"))
	if err != nil {
		t.Fatal(err)
	}
	l.Wipe("infra1")
	l.Must("infra1", "mkdir", l.node("infra1").data())
	l.Must("infra1", "cp", "-a", filepath.Join(l.node("infra0").data(), "etcd"), filepath.Join(l.node("infra1").data(), "etcd"))
	l.Start("infra0")
	l.Start("infra1")
	l.WaitStatus("infra1", "plan.reason", "which is the member of infra0")
	l.Holds("no member runs on another's data and without a marker", time.Second, func() error { return l.idle("infra1") })
	l.Kill("infra1")
	if err := os.WriteFile(l.marker("infra1"), own, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Start("infra1")
	l.WaitStatus("infra1", "plan.action", "refuse")
	l.Holds("no member runs on another's data", quiet, func() error {
		if pid := l.MemberPID("infra1"); pid != 0 {
			return errorf("process %d", pid)
		}
		return nil
	})
	l.Put("meanwhile", "2")
	if why := l.StatusText("infra1", "plan.reason"); !strings.Contains(why, fmt.Sprintf("that of member %016x of", l.memberIDs("infra0")["infra0"])) {
		t.Errorf("it does not say whose data it is: %s", why)
	}
	// The way out: away with it; then infra1 is a node that lost its disk.
	l.Kill("infra1")
	l.WipeEtcd("infra1")
	l.Start("infra1")
	l.WaitHealthy()
	l.GetAt("infra1", "meanwhile", "2")
}

// logCorrupt: the middle of a write-ahead log is damaged. The data is kept aside, and the member replaced.
func logCorrupt(t *testing.T, l *Lab) {
	// Damage that looks like the end of the log is told by the index that the node remembers to have reached, some seconds late.
	const writes = 20
	for i := range writes {
		l.Put(fmt.Sprintf("before the damage %d", i), "1")
	}
	l.Wait("infra1 remembers how far it came", healthyLimit, func() error {
		var id struct{ Index uint64 }
		text, err := os.ReadFile(filepath.Join(l.node("infra1").data(), "identity.json"))
		if err == nil {
			err = json.Unmarshal(text, &id)
		}
		if err != nil || id.Index <= writes {
			return errorf("index %d, %v", id.Index, err)
		}
		return nil
	})
	l.Kill("infra1")
	dir := filepath.Join(l.node("infra1").data(), "etcd", "member")
	logs, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	db := inodeOf(t, filepath.Join(dir, "snap", "db"))
	f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	damage := make([]byte, 64)
	if _, err := f.ReadAt(damage, 512); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	for i := range damage {
		damage[i] ^= 0xff
	}
	if _, err := f.WriteAt(damage, 512); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := l.memberIDs("infra0")["infra1"]
	l.Start("infra1")
	l.Wait("infra1 has another member", 2*healthyLimit, func() error {
		if now := l.memberIDs("infra0")["infra1"]; now == before || now == 0 {
			return errorf("it is %x; %s", now, l.StatusText("infra1", "plan"))
		}
		return nil
	})
	if !kept(t, l.node("infra1").data(), db) {
		t.Error("the damaged data is gone")
	}
}

// allEtcdLost: etcd/ is gone on every node. The nodes remember that they had a cluster: they wait for a person, and no empty one
// takes its name.
func allEtcdLost(t *testing.T, l *Lab) {
	l.KillAll()
	for _, n := range l.Names() {
		l.WipeEtcd(n)
	}
	l.StartAll()
	for _, n := range l.Names() {
		l.WaitStatus(n, "plan.hint", "etcd-dns ")
	}
	l.Holds("nobody is born again", quiet, l.NoMembers)
}
