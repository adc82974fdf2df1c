//go:build linux

package lab

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cuts is how many of the 300 moments TestPowerCut tries; all of them take half an hour.
var cuts = flag.Int("cuts", 6, "how many moments of a rack's first three seconds to cut the power at, up to 300")

// The power of all nodes fails at a moment of the first three seconds, in steps of 10 ms. When it is back, one cluster
// is there, whatever had been decided. The moments are always the same; what the nodes have come to by then is not.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 0))
	n := min(max(*cuts, 1), 300)
	l := New(t, Options{})
	for i := range n {
		// One moment of each n-th part of the three seconds.
		from, to := i*300/n, (i+1)*300/n
		after := time.Duration(from+random.IntN(to-from)) * 10 * time.Millisecond
		l.StartAll()
		<-time.After(after)
		l.KillAll()
		var phases []string
		for _, n := range l.Names() {
			phases = append(phases, l.phase(n))
		}
		t.Logf("power cut after %v: %q", after, phases)
		l.StartAll()
		l.WaitHealthy()
		l.OneCluster()
		l.Put("after", after.String())
		l.Get("after", after.String())
		l.KillAll()
		for _, n := range l.Names() {
			l.Wipe(n)
		}
	}
}

// C5 of safety.md: stock etcd that loses power between the creation of its write-ahead log and its first entry stays
// leaderless for ever, when that hits the only member or all three. Here it is well again.
func TestC5(t *testing.T) {
	t.Run("One", func(t *testing.T) { cutInFirstStart(t, Options{Nodes: 1}, "wal") })
	t.Run("Three", func(t *testing.T) { cutInFirstStart(t, Options{Nodes: 3}, "wal") })
}

// The same a moment earlier: etcd has made its database and no write-ahead log yet.
func TestCutBeforeLog(t *testing.T) {
	t.Run("One", func(t *testing.T) { cutInFirstStart(t, Options{Nodes: 1}, "snap/db") })
	t.Run("Three", func(t *testing.T) { cutInFirstStart(t, Options{Nodes: 3}, "snap/db") })
}

// cutInFirstStart kills each node when its member's first start has made a file, and all the rest then.
func cutInFirstStart(t *testing.T, o Options, file string) {
	t.Parallel()
	l := New(t, o)
	l.StartAll()
	var wg sync.WaitGroup
	for _, n := range l.Names() {
		wg.Go(func() { killAtFile(t, l, n, file) })
	}
	wg.Wait()
	l.KillAll()
	before := map[string]int{}
	for _, n := range l.Names() {
		before[n] = len(l.Log(n))
		_, err := os.Stat(filepath.Join(l.node(n).data(), "etcd", "member", "wal"))
		t.Logf("%s: it has a write-ahead log: %v, its phase is %q", n, err == nil, l.phase(n))
	}
	l.StartAll()
	l.WaitHealthy()
	l.OneCluster()
	l.Put("a", "b")
	for _, n := range l.Names() {
		l.GetAt(n, "a", "b")
		t.Logf("%s was hit before its first entry: %v", n, strings.Contains(l.Log(n)[before[n]:], `"new":true`))
	}
}

// killAtFile kills a node at the moment when a file of its member appears.
func killAtFile(t *testing.T, l *Lab, name, file string) {
	n := l.nodes[name]
	path := filepath.Join(n.data(), "etcd", "member", file)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(healthyLimit); time.Now().Before(end); <-tick.C {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		pids, err := pidsIn(n.ns)
		if err != nil {
			t.Error(err)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return
	}
	t.Errorf("%s never made %s", name, file)
}

// C1 of safety.md: stock etcd whose wal/ is gone while snap/db is left starts as new and acknowledges writes that it
// forgets. Here the directory is set aside and kept, the member is replaced, and no write is lost.
func TestC1(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	for i := range 5 {
		l.Put("old", string(rune('a'+i)))
	}
	l.Stop("infra0")
	data := l.node("infra0").data()
	db := inodeOf(t, filepath.Join(data, "etcd", "member", "snap", "db"))
	if err := os.RemoveAll(filepath.Join(data, "etcd", "member", "wal")); err != nil {
		t.Fatal(err)
	}
	before := l.memberIDs("infra1")["infra0"]
	l.Start("infra0")
	l.Wait("infra0 has another member", 2*healthyLimit, func() error {
		if id := l.memberIDs("infra1")["infra0"]; id == 0 || id == before {
			return errorf("it is %x, and was %x", id, before)
		}
		return nil
	})
	for i := range 5 {
		l.Put("new", string(rune('a'+i)))
	}
	l.Get("old", "e")
	l.Get("new", "e")
	l.GetAt("infra1", "new", "e")
	l.GetAt("infra2", "new", "e")
	if !kept(t, data, db) {
		t.Error("the database of infra0 is gone")
	}
}

// kept looks for a file by its inode anywhere below a directory.
func kept(t *testing.T, dir string, inode uint64) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && inodeOf(t, path) == inode {
			found = true
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}
