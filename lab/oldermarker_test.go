//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// olderMarker: infra2 gets the data back that it has in this birth, and beside it the genesis.json of the earlier one, which is made the
// parent of this one: recover, which makes generations, is by hand here. Alone and beside the others it serves nobody with that data and does
// not lose it, and with the right genesis.json it is well.
func olderMarker(t *testing.T, l *Lab, later string) {
	l.KillAll()
	older, err := os.ReadFile(l.marker("infra2"))
	if err != nil {
		t.Fatal(err)
	}
	l.Wipe("infra2")
	if err := os.Rename(later, l.node("infra2").data()); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Names() {
		text, err := os.ReadFile(l.marker(n))
		if err != nil {
			t.Fatal(err)
		}
		next := regexp.MustCompile(`"generation": *1\b`).ReplaceAll(text, fmt.Appendf(nil, `"generation": 2, "parent": %q`, genesisOf(t, older).ID))
		if genesisOf(t, next).Generation != 2 {
			t.Fatalf("%s", next)
		}
		if err := os.WriteFile(l.marker(n), next, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	right := l.image("infra2")
	if err := os.WriteFile(l.marker("infra2"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	db := inodeOf(t, filepath.Join(l.node("infra2").data(), "etcd", "member", "snap", "db"))
	l.Start("infra2")
	l.WaitStatus("infra2", "plan.action", "refuse")
	l.WaitStatus("infra2", "plan.reason", "this node is member "+genesisOf(t, older).member+" of cluster "+genesisOf(t, older).ClusterID)
	l.WaitStatus("infra2", "plan.hint", "move etcd/ back to the node it belongs to")
	l.Holds("alone it starts nothing", time.Second, func() error { return l.idle("infra2") })
	l.Start("infra0")
	l.Start("infra1")
	l.Put("with two", "4")
	l.Holds("it starts nothing beside the others", time.Second, func() error { return l.idle("infra2") })
	t.Logf("it says: %v", l.Tool("infra2", "status"))
	if !kept(t, l.node("infra2").data(), db) {
		t.Error("its data is gone")
	}
	l.Kill("infra2")
	right()
	l.Start("infra2")
	l.WaitHealthy()
	for _, key := range []string{"new", "newer"} {
		l.Get(key, map[string]string{"new": "2", "newer": "3"}[key])
	}
	l.GetAt("infra2", "with two", "4")
}

// genesis is a part of what a marker holds.
type genesis struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation"`
	ClusterID  string `json:"cluster_id"`
	member     string
}

func genesisOf(t *testing.T, marker []byte) genesis {
	t.Helper()
	var m struct {
		MemberID string `json:"member_id"`
		Accepted struct {
			Genesis genesis `json:"genesis"`
		} `json:"accepted"`
	}
	if err := json.Unmarshal(marker, &m); err != nil {
		t.Fatalf("%v: %s", err, marker)
	}
	m.Accepted.Genesis.member = m.MemberID
	return m.Accepted.Genesis
}
