package srvboot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStampAndSetAside(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	device, err := d.Stamp("one")
	do(t, err)
	var st unix.Stat_t
	do(t, unix.Stat(d.EtcdDir(), &st))
	if device != uint64(st.Dev) || device == 0 {
		t.Errorf("device %d, want %d", device, st.Dev)
	}
	if st.Mode&0o777 != 0o700 {
		t.Errorf("mode %o, want 700", st.Mode&0o777)
	}
	if _, err = d.Stamp("two"); err != nil {
		t.Errorf("stamping again: %v", err)
	}
	if got, err := d.readStamp(); got != "two" || err != nil {
		t.Errorf("stamp %q, %v; want two", got, err)
	}
	for _, bad := range []string{"", " x", strings.Repeat("x", 300)} {
		if _, err := d.Stamp(bad); err == nil {
			t.Errorf("nonce %q was accepted", bad)
		}
	}
	do(t, os.Mkdir(d.EtcdDir()+"/member", 0o700), os.WriteFile(d.EtcdDir()+"/member/file", []byte("precious"), 0o600))
	if _, err := d.Stamp("three"); err == nil {
		t.Error("a directory with data was stamped")
	}

	var paths []string
	for range 3 {
		path, err := d.SetAside("Broken: no WAL!")
		do(t, err)
		paths = append(paths, path)
		do(t, os.Mkdir(d.EtcdDir(), 0o700))
	}
	if !strings.HasPrefix(paths[0], d.EtcdDir()+".aside-2") || !strings.HasSuffix(paths[0], "Z-broken--no-wal") {
		t.Errorf("set aside as %s", paths[0])
	}
	if data, err := os.ReadFile(paths[0] + "/member/file"); string(data) != "precious" || err != nil {
		t.Errorf("the data set aside: %q, %v", data, err)
	}
	if paths[0] == paths[1] || paths[1] == paths[2] {
		t.Errorf("the same name twice: %v", paths)
	}
	if f := mustFacts(t, dir); f.Data != None || len(f.Evidence) != 3 {
		t.Errorf("after: %s, evidence %q; want none and three", f.Data, f.Evidence)
	}
	do(t, os.Remove(d.EtcdDir()))
	if path, err := d.SetAside("x"); path != "" || err != nil {
		t.Errorf("without a directory: %q, %v", path, err)
	}
}

// TestSetAsideBehindLink: renaming the link would move nothing and lose the disk that it leads to.
func TestSetAsideBehindLink(t *testing.T) {
	dir, disk := t.TempDir(), t.TempDir()
	d := testDisk(dir)
	do(t, os.Symlink(disk, d.EtcdDir()))
	checkSetAsideInPlace(t, d, disk)
}

// TestSetAsideCutOff: whatever stops the moves, a stamp is never left alone, for it would say that no member ran.
func TestSetAsideCutOff(t *testing.T) {
	dir := t.TempDir()
	do(t, writeBelow(dir, stampFile, "nonce"), writeBelow(dir, memberDirName, ""))
	if _, err := setAsideWithin(dir, asidePrefix+"x", []string{memberDirName, stampFile, "missing"}); err == nil {
		t.Error("a missing entry was moved")
	}
	names, err := etcdEntries(dir)
	if err != nil || slices.Equal(names, []string{stampFile}) {
		t.Errorf("left: %v, %v", names, err)
	}
}

// TestSetAsideStart: what a first start of etcd left that was cut off before its log goes, and is kept; the stamp stays.
func TestSetAsideStart(t *testing.T) {
	for name, link := range map[string]bool{"directory": false, "link to another disk": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := testDisk(dir)
			if link {
				do(t, os.Symlink(t.TempDir(), d.EtcdDir()))
			}
			_, err := d.Stamp("nonce")
			do(t, err, d.SaveMarker(etcdMarker(t, Joining)))
			for range 2 { // in the same second
				cutOffStart(t, dir)
				if f := mustFacts(t, dir); f.Data != Stamped || !f.CutOff {
					t.Fatalf("after the start: %s, cut off: %v", f.Data, f.CutOff)
				}
				path, err := d.SetAsideStart("why")
				do(t, err)
				if _, err := os.Stat(filepath.Join(path, memberDirName, "snap", "db")); err != nil {
					t.Errorf("it was not kept: %v", err)
				}
				if f := mustFacts(t, dir); f.Data != Stamped || f.CutOff {
					t.Errorf("after: %s, cut off: %v", f.Data, f.CutOff)
				}
			}
		})
	}
}

func TestSetAsideInMount(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	do(t, os.Mkdir(d.EtcdDir(), 0o700))
	if err := unix.Mount("none", d.EtcdDir(), "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a file system here: %v", err)
	}
	t.Cleanup(func() { do(t, unix.Unmount(d.EtcdDir(), 0)) })
	checkSetAsideInPlace(t, d, d.EtcdDir())
	m := etcdMarker(t, Running)
	m.EtcdDevice = 1
	do(t, d.SaveMarker(m))
	f := mustFacts(t, dir)
	if f.Volatile != "tmpfs" || !f.DeviceChanged {
		t.Errorf("volatile %q, device changed %v; want tmpfs and true", f.Volatile, f.DeviceChanged)
	}
	m.EtcdDevice, _ = d.EtcdDevice()
	do(t, d.SaveMarker(m))
	if f := mustFacts(t, dir); f.DeviceChanged {
		t.Error("the device changed, it says, but did not")
	}
}

func checkSetAsideInPlace(t *testing.T, d *Disk, disk string) {
	t.Helper()
	_, err := d.Stamp("nonce")
	do(t, err, os.WriteFile(filepath.Join(disk, memberDirName), []byte("precious"), 0o600))
	path, err := d.SetAside("test")
	do(t, err)
	for name, want := range map[string]string{memberDirName: "precious", stampFile: "nonce\n"} {
		if data, err := os.ReadFile(filepath.Join(path, name)); string(data) != want || err != nil {
			t.Errorf("%s set aside: %q, %v", name, data, err)
		}
	}
	if filepath.Dir(path) != d.EtcdDir() {
		t.Errorf("set aside to %s, off its disk", path)
	}
	if c := d.classify(nil); c.data != None {
		t.Errorf("after: %s (%s), want none", c.data, c.why)
	}
	if e := d.asides(); len(e) != 1 || e[0] != path {
		t.Errorf("evidence %q, want %s", e, path)
	}
}
