package srvboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

func TestBlankDisk(t *testing.T) {
	for name, dir := range map[string]string{"empty": t.TempDir(), "missing": filepath.Join(t.TempDir(), "not", "there")} {
		f := mustFacts(t, dir)
		f.Volatile = "" // whatever the tests run on
		if diff := cmp.Diff(DiskFacts{Data: None}, f); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	do(t, os.WriteFile(file, nil, 0o600))
	if _, err := testDisk(file).Facts(); err == nil {
		t.Error("a file was accepted as the data directory")
	}
}

// TestUnreadable: what another user put here is not damage, which would be moved or set aside; the error says whose it has to be, and when it is it is read.
func TestUnreadable(t *testing.T) {
	wal := filepath.Join("etcd", "member", "wal", "0000000000000000-0000000000000000.wal")
	for _, path := range []string{"etcd", wal, markerFile, seenFile} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			do(t, errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)))
			if path == "etcd" {
				do(t, os.Mkdir(filepath.Join(dir, path), 0o755))
			} else {
				do(t, errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755), os.WriteFile(filepath.Join(dir, path), []byte("x"), 0o644)))
			}
			d := testDisk(dir)
			do(t, os.Chmod(filepath.Join(dir, path), 0))
			err := asNobody(t, func() error { _, err := d.Facts(); return err })
			h := hintError{}
			if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "find "+dir+" ! -user") {
				t.Errorf("got %v, hint %q", err, h.hint)
			}
			do(t, os.Chmod(filepath.Join(dir, path), 0o755))
			if err := asNobody(t, func() error { _, err := d.Facts(); return err }); err != nil {
				t.Errorf("then: %v", err)
			}
		})
	}
}

// asNobody runs f as a user who may read only what everybody may.
func asNobody(t *testing.T, f func() error) (err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it ends with this goroutine
		if os.Geteuid() == 0 {
			if err = unix.Setfsuid(65534); err != nil {
				return
			}
		}
		err = f()
	}()
	<-done
	return err
}

func TestSaveAndRead(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	m := etcdMarker(t, Accepted)
	m.Promised, m.Abandoned, m.Excused = Ballot{3, "n1"}, []string{"g0"}, []string{"n9"}
	seen := Seen{Format: Format, Nodes: map[string]Sighting{"n1": {MemberID: "1", Life: 2, Boot: "b", Machine: "m", Index: 5}}}
	do(t, d.SaveMarker(m), d.SaveSeen(seen))
	id, err := d.BeginLife(func() string { return "boot1" }, "machine")
	do(t, err, d.SaveIndex(7, 2))
	id.Index, id.Term = 7, 2

	f := mustFacts(t, dir)
	if diff := cmp.Diff(DiskFacts{Data: None, Marker: &m, Identity: id, Seen: seen, Volatile: f.Volatile}, f); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, name := range []string{markerFile, identityFile, seenFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		do(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("the directory holds %v, want the three files only", entries)
	}
}

func TestSaveMarkerRefuses(t *testing.T) {
	good := etcdMarker(t, Born)
	for name, change := range map[string]func(*Marker){
		"another node":       func(m *Marker) { m.Node = "n1" },
		"another bundle":     func(m *Marker) { m.Bundle = "c" },
		"another srv-name":   func(m *Marker) { m.SrvName = "foo" },
		"no phase":           func(m *Marker) { m.Phase = "" },
		"born of no genesis": func(m *Marker) { m.Accepted = nil },
	} {
		dir := t.TempDir()
		do(t, testDisk(dir).SaveMarker(good))
		before := fingerprint(t, dir)
		m := good
		change(&m)
		if err := testDisk(dir).SaveMarker(m); err == nil {
			t.Errorf("%s: saved", name)
		}
		if fingerprint(t, dir) != before {
			t.Errorf("%s: the file changed", name)
		}
	}
}

// What leads out of a file that is not damaged; for one that is, row 1 knows.
func TestMemoryHints(t *testing.T) {
	foreign := etcdMarker(t, Running)
	foreign.Node = "n7"
	for name, tc := range map[string]struct{ file, content, want string }{
		"another node's": {markerFile, string(mustJSON(t, foreign)), hintForeign},
		"a newer format": {seenFile, `{"format":2}`, "run the newer etcd-dns that wrote it"},
		"damaged":        {identityFile, "{", ""},
	} {
		dir := t.TempDir()
		do(t, os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.content), 0o600))
		if f := mustFacts(t, dir); f.MemoryHint != tc.want || !strings.Contains(f.MemoryError, filepath.Join(dir, tc.file)) {
			t.Errorf("%s: hint %q of %q, want %q", name, f.MemoryHint, f.MemoryError, tc.want)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	valid := func(v any) string { return string(mustJSON(t, v)) }
	marker := etcdMarker(t, Running)
	foreign := marker
	foreign.Node = "n7"
	other := marker
	other.Bundle = "other bundle"
	cluster := marker
	cluster.SrvName = "foo"
	for _, tc := range []struct {
		name, file, content string
		want                []string // parts of MemoryError; none if the file is good
	}{
		{"good", markerFile, valid(marker), nil},
		{"empty", markerFile, "", []string{markerFile, "0 bytes"}},
		{"zeros, as a power cut leaves", markerFile, "\x00\x00\x00", []string{"3 bytes"}},
		{"torn", markerFile, valid(marker)[:60], []string{"damaged", `{\"format\":1`}},
		{"garbage", markerFile, "\xff\xfe<html>", []string{"damaged", "<html>"}},
		{"an array", markerFile, "[1]", []string{"damaged"}},
		{"null", markerFile, "null", []string{"no format number"}},
		{"no format", markerFile, `{"node":"n0"}`, []string{"no format number"}},
		{"two documents", markerFile, valid(marker) + "{}", []string{"damaged"}},
		{"a newer format", markerFile, `{"format":2,"phase":["not a string"]}`, []string{"format is 2", "format 1"}},
		{"an older format", markerFile, `{"format":0}`, []string{"format is 0"}},
		{"an unknown phase", markerFile, strings.Replace(valid(marker), "running", "dancing", 1), []string{`"dancing"`}},
		{"another node's", markerFile, valid(foreign), []string{`"n7"`, `"n0"`}},
		{"another bundle's", markerFile, valid(other), []string{`"other bundle"`, `"b"`}},
		{"another cluster's", markerFile, valid(cluster), []string{`"foo"`, `""`}},
		{"good identity", identityFile, `{"format":1,"life":1,"boot":"x"}`, nil},
		{"torn identity", identityFile, `{"format":1,"life":`, []string{identityFile, "damaged"}},
		{"newer identity", identityFile, `{"format":7}`, []string{identityFile, "format is 7"}},
		{"identity without its nonce", identityFile, `{"format":1,"life":3}`, []string{"life 3"}},
		{"good seen", seenFile, `{"format":1,"nodes":{}}`, nil},
		{"empty seen", seenFile, "", []string{seenFile, "0 bytes"}},
		{"newer seen", seenFile, `{"format":2}`, []string{seenFile, "format is 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			do(t, os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.content), 0o600))
			f := mustFacts(t, dir)
			if (f.MemoryError == "") != (tc.want == nil) {
				t.Fatalf("got %q, want an error: %v", f.MemoryError, tc.want != nil)
			}
			for _, part := range tc.want {
				if !strings.Contains(f.MemoryError, part) {
					t.Errorf("%q does not say %q", f.MemoryError, part)
				}
			}
			if wantMarker := tc.want == nil && tc.file == markerFile; (f.Marker != nil) != wantMarker {
				t.Errorf("marker %v, want one: %v", f.Marker, wantMarker)
			}
			if tc.want != nil && len(f.Evidence) == 0 {
				t.Error("a damaged file is no evidence: the disk would pass for blank")
			}
		})
	}
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		do(t, os.Mkdir(filepath.Join(dir, markerFile), 0o700))
		if f := mustFacts(t, dir); f.MemoryError == "" {
			t.Error("taken for absent")
		}
	})
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	do(t, err)
	return data
}

func TestUnknownFieldsAreKept(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	do(t, os.WriteFile(filepath.Join(dir, markerFile), []byte(`{"format":1,"bundle":"b","node":"n0","phase":"fresh","later":{"x":[1,2.50,"<&>"]}}`), 0o600),
		os.WriteFile(filepath.Join(dir, identityFile), []byte(`{"format":1,"life":1,"boot":"x","hardware":"vm"}`), 0o600),
		os.WriteFile(filepath.Join(dir, seenFile), []byte(`{"format":1,"nodes":{},"epoch":9}`), 0o600))
	f := mustFacts(t, dir)
	f.Marker.Phase = Promised
	do(t, d.SaveMarker(*f.Marker), d.SaveSeen(f.Seen), d.SaveIndex(1, 1))
	for file, want := range map[string]map[string]any{
		markerFile:   {"phase": "promised", "later": map[string]any{"x": []any{1., 2.5, "<&>"}}},
		identityFile: {"index": 1., "hardware": "vm"},
		seenFile:     {"epoch": 9.},
	} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		var got map[string]any
		do(t, err, json.Unmarshal(data, &got))
		for k, v := range want {
			if !reflect.DeepEqual(got[k], v) {
				t.Errorf("%s: %s is %v, want %v", file, k, got[k], v)
			}
		}
	}
}

// TestMachines: a disk in another machine says so until that is settled, or until it is back.
func TestMachines(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	n := 0
	for _, c := range []struct {
		machine, from string
		settle        bool
	}{{"m0", "", false}, {"m1", "m0", false}, {"m1", "m0", false}, {"m0", "", false}, {"m1", "m0", true}, {"m1", "", false}, {"m0", "m1", false}, {"m2", "m1", false}} {
		id, err := d.BeginLife(func() string { n++; return fmt.Sprint("boot", n) }, c.machine)
		do(t, err)
		if id.MovedFrom != c.from {
			t.Errorf("life %d on %s: moved from %q, want %q", id.Life, c.machine, id.MovedFrom, c.from)
		}
		if c.settle {
			do(t, d.Settle())
		}
	}
	for range keptBoots + 5 {
		_, err := d.BeginLife(func() string { n++; return fmt.Sprint("boot", n) }, "m1")
		do(t, err)
	}
	id := mustFacts(t, dir).Identity
	if chain := id.chain(); len(chain) != keptBoots+1 || chain[0] != fmt.Sprint("boot", n-1) || chain[keptBoots] != fmt.Sprint("boot", n-1-keptBoots) {
		t.Errorf("the chain is %v", chain)
	}
}

func TestLives(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	nonces := []string{"a", "b", "c"}
	next := func() string { n := nonces[0]; nonces = nonces[1:]; return n }
	want := Identity{Format: Format}
	for i, boot := range []string{"a", "b", "c"} {
		id, err := d.BeginLife(next, fmt.Sprint("machine", i))
		do(t, err)
		if want.Previous != "" {
			want.Earlier = []string{want.Previous}
		}
		want.Life, want.Previous, want.Boot, want.Machine = want.Life+1, want.Boot, boot, fmt.Sprint("machine", i)
		if i > 0 {
			want.MovedFrom = "machine0" // until it is settled
		}
		if diff := cmp.Diff(want, id); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if f := mustFacts(t, dir); !reflect.DeepEqual(f.Identity, id) {
			t.Errorf("on disk %+v, returned %+v", f.Identity, id)
		}
	}
	if _, err := d.BeginLife(func() string { return "c" }, "m"); err == nil {
		t.Error("a nonce that repeats was accepted")
	}
	do(t, os.WriteFile(d.path(identityFile), []byte("{"), 0o600))
	if _, err := d.BeginLife(func() string { return "d" }, "m"); err == nil {
		t.Error("a damaged identity began a new chain of nonces")
	}
}

func TestSaveIndexNeverGoesBack(t *testing.T) {
	d := testDisk(t.TempDir())
	for _, step := range []struct{ index, term, wantIndex, wantTerm uint64 }{{5, 1, 5, 1}, {3, 1, 5, 1}, {6, 1, 6, 1}, {2, 3, 6, 3}} {
		do(t, d.SaveIndex(step.index, step.term))
		if id := mustFacts(t, d.o.Dir).Identity; id.Index != step.wantIndex || id.Term != step.wantTerm {
			t.Errorf("after %+v: index %d term %d", step, id.Index, id.Term)
		}
	}
	if _, err := d.Stamp("n"); err != nil {
		t.Fatal(err)
	}
	if id := mustFacts(t, d.o.Dir).Identity; id.Index != 0 || id.Term != 0 {
		t.Errorf("a new log begins, but index %d term %d are remembered", id.Index, id.Term)
	}
}

func TestVolatile(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || uint32(st.Type) != unix.TMPFS_MAGIC {
		t.Skip("no tmpfs at /dev/shm")
	}
	if got, err := volatileFS("/dev/shm/not/there"); got != "tmpfs" || err != nil {
		t.Errorf("got %q, %v; want tmpfs", got, err)
	}
	if got, err := volatileFS("/proc"); got != "" || err != nil {
		t.Errorf("got %q, %v; want nothing", got, err)
	}
}

func TestFullDiskKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() { do(t, unix.Unmount(dir, 0)) })
	d := testDisk(dir)
	old := etcdMarker(t, Promised)
	do(t, d.SaveMarker(old))
	fill, err := os.Create(filepath.Join(dir, "fill"))
	do(t, err)
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling: %v", err)
	}
	do(t, fill.Close())
	if err := d.SaveMarker(etcdMarker(t, Accepted)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("save on a full disk: %v, want no space", err)
	}
	var hint interface{ Hint() string }
	if err := d.SaveSeen(Seen{}); !errors.As(err, &hint) {
		t.Errorf("%v has no hint", err)
	}
	if f := mustFacts(t, dir); f.Marker == nil || f.Marker.Phase != Promised || f.MemoryError != "" {
		t.Errorf("after: %+v, %s; want the old marker", f.Marker, f.MemoryError)
	}
	do(t, os.Remove(filepath.Join(dir, "fill")))
	do(t, d.SaveMarker(etcdMarker(t, Accepted)))
	if f := mustFacts(t, dir); f.Marker.Phase != Accepted {
		t.Errorf("with space again: %s", f.Marker.Phase)
	}
}

// TestKilledWriter kills a process that rewrites all it owns, at times of the kernel's choice, and wants each file
// whole afterwards, with the next life able to go on.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for round := range 15 {
		h := startHelper(t, "writer", dir)
		for range round%4 + 1 {
			h.waitFor(t, "life")
		}
		h.kill(t)
		f := mustFacts(t, dir)
		if f.MemoryError != "" || f.Marker == nil {
			t.Fatalf("round %d: %s", round, f.MemoryError)
		}
		if f.Identity.Life <= last {
			t.Errorf("round %d: life %d after %d", round, f.Identity.Life, last)
		}
		if f.Data != None && f.Data != Stamped {
			t.Errorf("round %d: data %s", round, f.Data)
		}
		last = f.Identity.Life
	}
	_, err := testDisk(dir).BeginLife(func() string { return "after" }, "m")
	do(t, err, durable.RemoveTemps(dir))
	if left, _ := filepath.Glob(dir + "/.*.tmp-*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// helperWriter runs in the helper process.
func helperWriter(dir string) error {
	d := testDisk(dir)
	for n := 1; ; n++ {
		id, err := d.BeginLife(func() string { return fmt.Sprint(os.Getpid(), "-", n) }, "m")
		if err != nil {
			return err
		}
		nonce := "nonce" + id.Boot
		m := Marker{Bundle: "b", Node: "n0", Phase: Promised, Stamp: nonce, Excused: []string{strings.Repeat("x", 5000)}}
		if err := d.SaveMarker(m); err != nil {
			return err
		}
		if _, err := d.Stamp(nonce); err != nil {
			return err
		}
		if err := d.SaveSeen(Seen{Nodes: map[string]Sighting{"n1": {Life: id.Life}}}); err != nil {
			return err
		}
		fmt.Println("life", id.Life)
		if n%3 == 0 {
			if err := os.RemoveAll(d.EtcdDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
}
