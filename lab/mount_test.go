//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that is not mounted is no lost disk. Where the empty mount point of etcd/ is seen, the marker knows better; where that of the
// whole data directory is seen, the node knows nothing, and is replaced like any blank one. When that disk is back it says so.
func TestMountMissing(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Edit: inMemory})
	n := l.node("infra2")
	data := l.disk(t, filepath.Join(n.dir, "disk0"), n.data(), "512m")
	data(true)
	etcd := l.disk(t, filepath.Join(n.dir, "disk1"), filepath.Join(n.data(), "etcd"), "512m")
	etcd(true)
	l.StartAll()
	l.WaitHealthy()
	l.Put("kept", "1")
	ids := l.memberIDs("infra0")
	t.Run("Etcd", func(t *testing.T) {
		l.Kill("infra2")
		etcd(false)
		l.Start("infra2")
		l.WaitStatus("infra2", "waiting", "is its disk mounted?")
		l.WaitStatus("infra2", "plan.hint", "run --disk-replaced")
		l.Holds("it waits", 2*time.Second, func() error { return l.NoMember("infra2") })
		l.Kill("infra2")
		etcd(true)
		l.Start("infra2")
		l.WaitHealthy()
		if now := l.memberIDs("infra0"); now["infra2"] != ids["infra2"] {
			t.Errorf("its member was %x and is %x", ids["infra2"], now["infra2"])
		}
		l.GetAt("infra2", "kept", "1")
	})
	t.Run("DataDirectory", func(t *testing.T) {
		l.Kill("infra2")
		etcd(false)
		data(false)
		l.Start("infra2")
		l.Wait("it is replaced", 2*healthyLimit, func() error {
			if now := l.memberIDs("infra0"); now["infra2"] == 0 || now["infra2"] == ids["infra2"] {
				return errorf("the members are %v", now)
			}
			return nil
		})
		l.voters(l.Names()...)
		l.GetAt("infra2", "kept", "1")
		l.Kill("infra2")
		data(true)
		etcd(true)
		l.Start("infra2")
		l.WaitStatus("infra2", "plan.hint", "etcd-dns member remove infra2, then etcd-dns member add infra2")
		l.Holds("its old member does not run", time.Second, func() error { return l.idle("infra2") })
		for _, op := range []string{"remove", "add"} {
			l.Wait("member "+op, healthyLimit, func() error { return l.Tool("infra2", "member", op, "infra2").Err() })
		}
		l.voters(l.Names()...)
		l.WaitHealthy()
		l.GetAt("infra2", "kept", "1")
	})
}

// inMemory has the Corefile of a node say that disks do not outlive a power cut.
func inMemory(_, corefile string) string {
	return strings.Replace(strings.Replace(corefile, "        ephemeral yes\n", "", 1), "etcdsrv {", "etcdsrv {\n        ephemeral yes", 1)
}

// disk makes a file system of a size and returns what mounts it at a directory, and unmounts it there again. What it holds stays.
func (l *Lab) disk(t *testing.T, source, at, size string) func(mounted bool) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(source, 0o700))
	must(unix.Mount("tmpfs", source, "tmpfs", 0, "size="+size))
	is := false
	t.Cleanup(func() {
		if is {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
		must(unix.Unmount(source, unix.MNT_DETACH))
	})
	return func(mounted bool) {
		t.Helper()
		if is = mounted; !mounted {
			must(unix.Unmount(at, 0))
			return
		}
		must(os.MkdirAll(at, 0o700))
		must(unix.Mount(source, at, "", unix.MS_BIND, ""))
	}
}
