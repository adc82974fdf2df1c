package srvboot

import (
	"go.uber.org/zap"
)

// Tombstone says whether a person removed a node. Nodes of one cluster hand each other what they have; the higher count is the
// later word.
type Tombstone struct {
	// Count is the raft index at which the word was given, or more: a later leader is beyond it, also one that never heard of
	// the word.
	Count   uint64 `json:"count"`
	Removed bool   `json:"removed"`
	// ClusterID is the cluster that the node was removed from; the word says nothing of another one, such as a later birth's.
	ClusterID string `json:"cluster_id"`
	// MemberID is the member that is removed; empty when the node had none. A later member of the node is not meant.
	MemberID string `json:"member_id,omitempty"`
}

// wordsOn are those of the tombstones that are about a cluster.
func wordsOn(cluster string, all map[string]Tombstone) map[string]Tombstone {
	of := map[string]Tombstone{}
	for node, t := range all {
		if t.ClusterID == cluster {
			of[node] = t
		}
	}
	return of
}

// withTombstones merges what another node has, and reports whether anything was new.
func withTombstones(own, theirs map[string]Tombstone) (merged map[string]Tombstone, changed bool) {
	merged = map[string]Tombstone{}
	for name, t := range own {
		merged[name] = t
	}
	for name, t := range theirs {
		if t.Count > merged[name].Count || t.Count == merged[name].Count && t.Removed && !merged[name].Removed {
			merged[name], changed = t, true
		}
	}
	return merged, changed
}

// word is the last one on a node in a cluster.
func (s Seen) word(cluster, node string) Tombstone {
	if t := s.Tombstones[node]; t.ClusterID == cluster {
		return t
	}
	return Tombstone{}
}

// bury writes a word down, or takes one back. It is durable here when it returns true.
func (b *Boot) bury(self MemberState, node, member string, removed bool) bool {
	count := max(b.disk.Seen.word(self.ClusterID, node).Count+1, self.Commit, self.Applied)
	return b.saveTombstones(self.ClusterID, map[string]Tombstone{node: {Count: count, Removed: removed, ClusterID: self.ClusterID, MemberID: member}})
}

// hearTombstones takes over what another node says of the own cluster, or for a node without one of the cluster that lives. A node
// of an earlier birth has words of its own, which are not about this one.
func (b *Boot) hearTombstones(theirs map[string]Tombstone) {
	if len(theirs) == 0 || b.diskErr != nil {
		return
	}
	if cluster := look(b.facts()).clusterID(); cluster != "" {
		b.saveTombstones(cluster, wordsOn(cluster, theirs))
	}
}

// saveTombstones keeps what is new among the words on a cluster, and no words on others.
func (b *Boot) saveTombstones(cluster string, theirs map[string]Tombstone) bool {
	merged, changed := withTombstones(wordsOn(cluster, b.disk.Seen.Tombstones), theirs)
	if !changed {
		return true
	}
	next := b.disk.Seen
	next.Tombstones = merged
	if err := b.o.Storage.SaveSeen(next); err != nil {
		b.o.Log.Error("cannot write seen.json", zap.Error(err))
		return false
	}
	b.disk.Seen = next
	b.say()
	return true
}
