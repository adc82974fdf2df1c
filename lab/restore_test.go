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
// "A cluster that lost its quorum", with a backup and then with the data of the member that is left.
func TestRestoreBackup(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("in the backup", "1")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if r := l.At("infra0", "snapshot", "save", backup); r.Code != 0 {
		t.Fatal(r)
	}
	l.Put("after the backup", "2")
	first := l.OneCluster()

	l.loseQuorum()
	l.restore(backup, "once")
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
	l.restore(left, "twice", "--skip-hash-check")
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

// restore gives every node a member of a new cluster, made of a database, in its data directory.
func (l *Lab) restore(db, token string, more ...string) {
	l.t.Helper()
	var initial []string
	for _, n := range l.Names() {
		initial = append(initial, n+"=https://"+n+"."+l.Domain+":2380")
	}
	for _, n := range l.Names() {
		data := l.node(n).data()
		if err := os.Rename(filepath.Join(data, "etcd"), filepath.Join(data, "etcd.aside-"+token)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.t.Fatal(err)
		}
		for _, f := range []string{"genesis.json", "identity.json", "seen.json", "roster.json"} {
			if err := os.Remove(filepath.Join(data, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.t.Fatal(err)
			}
		}
		args := append([]string{"etcdutl", "snapshot", "restore", db, "--name", n, "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", token,
			"--initial-advertise-peer-urls", "https://" + n + "." + l.Domain + ":2380", "--data-dir", filepath.Join(data, "etcd"),
			"--bump-revision", "1000000000", "--mark-compacted"}, more...)
		l.Must(n, l.bin(), args...)
	}
	l.StartAll()
	l.WaitHealthy()
}
