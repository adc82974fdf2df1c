package srvboot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
		{"a roster with this cluster's members and another's", func(dir string) error {
			return writeBelow(dir, rosterFile, `{"views":[{"Cluster":"","Members":[{"Node":"n0"}]},{"Cluster":"foo","Members":[{"Node":"f0"},{"Node":"f1"}]}]}`)
		}, "1 members"},
		{"a roster with the members of another cluster", func(dir string) error {
			return writeBelow(dir, rosterFile, `{"views":[{"Cluster":"foo","Members":[{"Node":"f0"}]}],"nodes":[{"Name":"f0"}]}`)
		}, ""},
		{"a roster without members", func(dir string) error {
			return writeBelow(dir, rosterFile, `{"Clusters":[{"Name":"","Members":[]}],"members":null}`)
		}, ""},
		{"a torn roster", func(dir string) error { return writeBelow(dir, rosterFile, `{"Clus`) }, "cannot be read"},
		{"a person's word", func(dir string) error {
			return writeBelow(dir, seenFile, `{"format":1,"tombstones":{"n2":{"term":2,"count":8,"removed":true,"cluster_id":"c1"}}}`)
		}, "a person's word on n2 in cluster c1"},
		{"a person's word in another cluster of the domain", func(dir string) error {
			return writeBelow(dir, seenFile, `{"format":1,"tombstones":{"n2":{"term":2,"count":8,"removed":true,"cluster_id":"c1","srv_name":"foo"}}}`)
		}, ""},
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
