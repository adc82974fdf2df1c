package srvboot

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzMessages sends any messages to a node: it never panics, its promise never falls, it never gives up a genesis but
// for one of a higher ballot, and it says OK only to what its marker then holds.
func FuzzMessages(f *testing.F) {
	g, _ := caseGenesis()
	genesis, _ := json.Marshal(g)
	f.Add("n1", uint64(1), "n1/r", "r0", []byte(genesis), true)
	f.Add("n1", uint64(0), "", "", []byte("{}"), false)
	f.Add("n2", uint64(1<<63), "n2/", "r0", []byte(`{"id":"x","members":[{"name":"n0","peer_url":"::"}]}`), false)
	f.Fuzz(func(t *testing.T, from string, n uint64, by, run string, genesis []byte, known bool) {
		facts := caseFacts()
		if known {
			own(Accepted)(&facts)
		}
		digest := facts.Home.Digest()
		var g Genesis
		if json.Unmarshal(genesis, &g) != nil {
			return
		}
		for range 2 {
			self := Self{Facts: facts, From: from}
			b := Ballot{N: n, By: by}
			check(t, &facts, OnPrepare(self, Prepare{Format: Format, Ballot: b, Digest: digest, Run: run}), b, "")
			check(t, &facts, OnAccept(Self{Facts: facts, From: from}, Accept{Format: Format, Ballot: b, Genesis: g}), b, g.ID)
		}
	})
}

// TestRemovedNodePromisesNothing: it knows that a cluster of its srv-name lived.
func TestRemovedNodePromisesNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Tombstone)
		refused bool
	}{
		{"removed", func(*Tombstone) {}, true},
		{"let in again", func(w *Tombstone) { w.Removed = false }, false},
		{"removed from the cluster of another srv-name", func(w *Tombstone) { w.SrvName = "foo" }, false},
		{"by a word whose term raft cannot have", func(w *Tombstone) { w.Term = maxDate }, true},
	} {
		facts := caseFacts()
		ordered0(&facts)
		w := facts.Disk.Seen.Tombstones["n0"]
		c.change(&w)
		facts.Disk.Seen.Tombstones["n0"] = w
		m := OnPrepare(Self{Facts: facts, From: "n1"}, Prepare{Format: Format, Ballot: Ballot{N: 1, By: "n1/r"}, Digest: facts.Home.Digest(), Run: "r0"})
		if m.OK == c.refused || c.refused && !strings.Contains(m.Reason, "n0 was removed from cluster") {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}

func check(t *testing.T, f *Facts, m Move, b Ballot, id string) {
	t.Helper()
	if !m.OK {
		if m.Save || m.Reason == "" {
			t.Fatalf("refused, but %+v", m)
		}
		return
	}
	old := startMarker(f.Home, f.Disk.Marker)
	if m.Marker.Promised.Less(old.Promised) || m.Marker.Promised != b || m.Marker.Phase.rank() < old.Phase.rank() {
		t.Fatalf("went back from %+v to %+v", old, m.Marker)
	}
	if id != "" && (m.Marker.Accepted == nil || m.Marker.Accepted.Ballot != b || m.Marker.Accepted.Genesis.ID != id) {
		t.Fatalf("said that it accepted %s in %+v, but %+v", id, b, m.Marker.Accepted)
	}
	if id == "" && old.Accepted != nil && m.Marker.Accepted.Genesis.ID != old.Accepted.Genesis.ID {
		t.Fatalf("a promise changed what was accepted: %+v", m.Marker)
	}
	marker := m.Marker
	f.Disk.Marker = &marker
}
