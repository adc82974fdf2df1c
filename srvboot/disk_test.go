package srvboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
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
		want                []string // parts of MarkerError; none if the file is good
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
		{"a newer format", markerFile, `{"format":2,"phase":["not a string"]}`, []string{"format is 2", "format 1", "newer"}},
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
			if (f.MarkerError == "") != (tc.want == nil) {
				t.Fatalf("got %q, want an error: %v", f.MarkerError, tc.want != nil)
			}
			for _, part := range tc.want {
				if !strings.Contains(f.MarkerError, part) {
					t.Errorf("%q does not say %q", f.MarkerError, part)
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
		if f := mustFacts(t, dir); f.MarkerError == "" {
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

func TestLives(t *testing.T) {
	dir := t.TempDir()
	d := testDisk(dir)
	nonces := []string{"a", "b", "c"}
	next := func() string { n := nonces[0]; nonces = nonces[1:]; return n }
	want := Identity{Format: Format}
	for i, boot := range []string{"a", "b", "c"} {
		id, err := d.BeginLife(next, fmt.Sprint("machine", i))
		do(t, err)
		want.Life, want.Previous, want.Boot, want.Machine = want.Life+1, want.Boot, boot, fmt.Sprint("machine", i)
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

func TestEvidence(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(dir string) error
		want string // part of the only evidence; empty for none
	}{
		{"a promise is of this birth", func(dir string) error { return testDisk(dir).SaveMarker(etcdMarker(t, Promised)) }, ""},
		{"an acceptance is of this birth", func(dir string) error { return testDisk(dir).SaveMarker(etcdMarker(t, Accepted)) }, ""},
		{"a birth", func(dir string) error { return testDisk(dir).SaveMarker(etcdMarker(t, Born)) }, "phase born"},
		{"a removal", func(dir string) error { return testDisk(dir).SaveMarker(etcdMarker(t, Removed)) }, "phase removed"},
		{"an unknown file", func(dir string) error { return writeBelow(dir, "etcd/member/x", "") }, "etcd: "},
		{"data set aside", func(dir string) error { return writeBelow(dir, "etcd.aside-1/x", "") }, "etcd.aside-1"},
		{"an empty directory for snapshots", func(dir string) error { return os.Mkdir(dir+"/snapshots", 0o700) }, ""},
		{"a snapshot", func(dir string) error { return writeBelow(dir, "snapshots/a.db", "") }, "a.db"},
		{"a roster with members", func(dir string) error {
			return writeBelow(dir, rosterFile, `{"format":1,"views":[{"Members":[{"Node":"n0"},{"Node":"n1"}]}]}`)
		}, "2 members"},
		{"a roster without members", func(dir string) error {
			return writeBelow(dir, rosterFile, `{"Clusters":[{"Name":"","Members":[]}],"members":null}`)
		}, ""},
		{"a torn roster", func(dir string) error { return writeBelow(dir, rosterFile, `{"Clus`) }, "cannot be read"},
		{"an identity alone", func(dir string) error {
			_, err := testDisk(dir).BeginLife(func() string { return "x" }, "m")
			return err
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			do(t, tc.make(dir))
			got := mustFacts(t, dir).Evidence
			if tc.want == "" && len(got) != 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func writeBelow(dir, name, content string) error {
	path := filepath.Join(dir, name)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600))
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
	if f := mustFacts(t, dir); f.Marker == nil || f.Marker.Phase != Promised || f.MarkerError != "" {
		t.Errorf("after: %+v, %s; want the old marker", f.Marker, f.MarkerError)
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
		if f.MarkerError != "" || f.Marker == nil {
			t.Fatalf("round %d: %s", round, f.MarkerError)
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
	do(t, err)
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

func fuzzState[T any](f *testing.F, seeds ...string) {
	for _, s := range append(seeds, "", "null", "{}", `{"format":2}`, `{"format":1,"FORMAT":1,"x":{"y":[1e400]}}`, "\x00\x00") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first := any(new(T)).(stateFile)
		if decodeState(data, first) != nil {
			return
		}
		encoded, err := json.MarshalIndent(first, "", "  ")
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		second := any(new(T)).(stateFile)
		if err := decodeState(encoded, second); err != nil {
			t.Fatalf("%q was written as %q, which cannot be read: %v", data, encoded, err)
		}
		if diff := cmp.Diff(canonical(t, first), canonical(t, second)); diff != "" {
			t.Errorf("%q did not survive: -read +read again\n%s", data, diff)
		}
		// Whatever this program does not know is still there.
		var before, after map[string]any
		if json.Unmarshal(data, &before) != nil || json.Unmarshal(encoded, &after) != nil {
			return // a number too large for a float64
		}
		for name, v := range before {
			if !knownField(reflect.TypeFor[T](), name) && !reflect.DeepEqual(v, after[name]) {
				t.Errorf("unknown field %q was %v, is %v", name, v, after[name])
			}
		}
	})
}

// canonical is the value with its unknown fields spelled as the encoder spells them.
func canonical(t *testing.T, v any) string {
	t.Helper()
	var generic any
	d := json.NewDecoder(strings.NewReader(string(mustJSON(t, v))))
	d.UseNumber()
	do(t, d.Decode(&generic))
	return string(mustJSON(t, generic))
}

func FuzzMarker(f *testing.F) {
	fuzzState[Marker](f, `{"format":1,"bundle":"b","srv_name":"","node":"n0","phase":"accepted","promised":{"n":1,"by":"n0"},"accepted":{"n":1,"by":"n0","genesis":{"id":"i","generation":1,"members":[{"name":"n0","peer_url":"https://n0:2380"}],"digest":"d","cluster_id":"c"}},"stamp":"s","etcd_dev":18446744073709551615,"later":[null]}`)
}

func FuzzIdentity(f *testing.F) {
	fuzzState[Identity](f, `{"format":1,"life":2,"boot":"b","previous":"a","machine":"m","index":5,"term":1,"later":"x"}`)
}

func FuzzSeen(f *testing.F) {
	fuzzState[Seen](f, `{"format":1,"nodes":{"n1":{"member_id":"1","life":2,"boot":"b","machine":"m","index":3}},"later":{"a":1}}`)
}
