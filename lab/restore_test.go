//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestoreBackup: two of three disks are lost, and with them what was acknowledged. The operator does what docs/operations.md says under
// "A cluster that lost its quorum", with a backup and then with the data of the member that is left. That one has a disk of its own below etcd/.
func TestRestoreBackup(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Edit: inMemory})
	n := l.node("infra0")
	if err := os.Mkdir(n.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	l.disk(t, filepath.Join(n.dir, "disk"), filepath.Join(n.data(), "etcd"), "512m")(true)
	l.StartAll()
	l.WaitHealthy()
	l.Put("in the backup", "1")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if r := l.At("infra0", "snapshot", "save", backup); r.Code != 0 {
		t.Fatal(r)
	}
	l.Put("after the backup", "2")
	first := l.OneCluster()

	l.loseQuorum()
	l.restore(backup, "once", l.Names())
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.GetAt(n, "in the backup", "1")
	}
	if r := l.At("infra0", "get", "after the backup"); r.Code != 0 || strings.TrimSpace(r.Stdout) != "" {
		t.Errorf("what was written after the backup: %v", r)
	}
	second := l.OneCluster()
	if second == first {
		t.Errorf("it is cluster %s as before", first)
	}

	l.Put("before the second loss", "3")
	for i := range 20 { // a member has on disk that a write is committed when it writes later ones
		l.Put("after that", fmt.Sprint(i))
	}
	l.loseQuorum()
	left := filepath.Join(t.TempDir(), "left.db")
	db, err := os.ReadFile(filepath.Join(l.node("infra0").data(), "etcd", "member", "snap", "db"))
	if err == nil {
		err = os.WriteFile(left, db, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.restore(left, "twice", l.Names(), "--skip-hash-check")
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.GetAt(n, "in the backup", "1")
		l.GetAt(n, "before the second loss", "3")
	}
	if third := l.OneCluster(); third == second {
		t.Errorf("it is cluster %s as before", second)
	}
	// It is a cluster like any other: who loses its disk again is replaced.
	l.Kill("infra1")
	l.Wipe("infra1")
	l.Start("infra1")
	l.voters(l.Names()...)
	l.WaitHealthy()
}

// loseQuorum blanks two of the three machines, and waits until the nodes say what leads out. Then all are stopped.
func (l *Lab) loseQuorum() {
	l.t.Helper()
	l.KillAll()
	l.Wipe("infra1")
	l.Wipe("infra2")
	l.StartAll()
	for _, n := range []string{"infra1", "infra2"} {
		l.WaitStatus(n, "plan.hint", "docs/operations.md")
	}
	for _, n := range l.Names() {
		l.Stop(n)
	}
}

// TestRestoreWithoutOne: infra2 is down when the other two disks are lost and a backup is restored on them. When it comes back with its old data
// every node says so, and what the operator did on the others leads out for it as well.
func TestRestoreWithoutOne(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("in the backup", "1")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if r := l.At("infra0", "snapshot", "save", backup); r.Code != 0 {
		t.Fatal(r)
	}
	l.KillAll()
	rest := []string{"infra0", "infra1"}
	for _, n := range rest {
		l.Wipe(n)
	}
	l.restore(backup, "again", rest)
	l.Get("in the backup", "1")
	l.Start("infra2")
	for _, n := range l.Names() {
		l.WaitStatus(n, "problems", "is of another birth of this cluster")
	}
	l.GetAt("infra1", "in the backup", "1")
	l.Stop("infra2")
	l.forget("infra2", "again")
	l.Start("infra2")
	l.voters(l.Names()...)
	l.WaitHealthy()
	l.OneCluster()
	l.GetAt("infra2", "in the backup", "1")
}

// forget are the first steps of the operator's on a stopped node: what it held is set aside, and nothing tells of it any more.
func (l *Lab) forget(name, token string) {
	l.t.Helper()
	data := l.node(name).data()
	lost := filepath.Join(data, "etcd", "aside-"+token)
	all := os.MkdirAll(lost, 0o700)
	for _, f := range []string{"member", "stamp"} {
		all = errors.Join(all, rename(filepath.Join(data, "etcd", f), filepath.Join(lost, f)))
	}
	for _, f := range []string{"genesis.json", "identity.json", "seen.json", "roster.json"} {
		if err := os.Remove(filepath.Join(data, f)); !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	if all != nil {
		l.t.Fatal(all)
	}
}

// rename moves what is there.
func rename(from, to string) error {
	if err := os.Rename(from, to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restore gives the nodes members of a new cluster, made of a database, in their data directories, and starts them.
func (l *Lab) restore(db, token string, nodes []string, more ...string) {
	l.t.Helper()
	var initial []string
	for _, n := range nodes {
		initial = append(initial, n+"=https://"+n+"."+l.Domain+":2380")
	}
	for _, n := range nodes {
		l.forget(n, token)
		etcd := filepath.Join(l.node(n).data(), "etcd")
		args := append([]string{"etcdutl", "snapshot", "restore", db, "--name", n, "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", token,
			"--initial-advertise-peer-urls", "https://" + n + "." + l.Domain + ":2380", "--data-dir", filepath.Join(etcd, "aside-new"),
			"--bump-revision", "1000000000", "--mark-compacted"}, more...)
		l.Must(n, l.bin(), args...)
		if err := errors.Join(os.Rename(filepath.Join(etcd, "aside-new", "member"), filepath.Join(etcd, "member")), os.Remove(filepath.Join(etcd, "aside-new"))); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, n := range nodes {
		l.Start(n)
	}
}
