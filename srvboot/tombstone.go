package srvboot

import (
	"slices"
	"time"

	"go.uber.org/zap"
)

// Tombstone says whether a person removed a node. Nodes of one cluster hand each other what they have; that of the higher term, and in one
// term of the higher count, is the later word.
type Tombstone struct {
	// Term is the raft term of the leader that was told: the word of a later leader is the later one, also if it never heard of this.
	Term uint64 `json:"term"`
	// Count is the raft index at which the word was given, or more.
	Count   uint64 `json:"count"`
	Removed bool   `json:"removed"`
	// ClusterID is the cluster that the node was removed from; the word says nothing of another one, such as a later birth's. SrvName is
	// that of the cluster.
	ClusterID string `json:"cluster_id"`
	SrvName   string `json:"srv_name,omitempty"`
	// MemberID is the member that is removed or may be replaced; empty when the node had none. A later member of the node is not
	// meant.
	MemberID string `json:"member_id,omitempty"`
	// Welcome is until when a person lets the node in, in seconds since 1970 by the clock of the leader that was told, 0 for not.
	Welcome int64 `json:"welcome,omitempty"`
}

// maxDate is beyond every term and index that raft gets to. A word with such a date is damage: none could follow it.
const maxDate = 1 << 62

// isOn reports whether a word is about a cluster, and has a date that can be.
func (t Tombstone) isOn(cluster string) bool { return t.ClusterID == cluster && t.dated() }

// isIn reports whether a word is about whatever cluster of an srv-name. It speaks of an earlier life, whatever its date.
func (t Tombstone) isIn(srvName string) bool { return t.SrvName == srvName }

func (t Tombstone) dated() bool { return t.Term < maxDate && t.Count < maxDate }

// wordsOn are those of the tombstones that are about a cluster.
func wordsOn(cluster string, all map[string]Tombstone) map[string]Tombstone {
	of := map[string]Tombstone{}
	for node, t := range all {
		if t.isOn(cluster) {
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
		if t.after(merged[name]) {
			merged[name], changed = t, true
		}
	}
	return merged, changed
}

// after reports whether a word is later than another one. One leader gives no two of one count, but after its disk was lost.
func (t Tombstone) after(other Tombstone) bool {
	switch {
	case t.Term != other.Term:
		return t.Term > other.Term
	case t.Count != other.Count:
		return t.Count > other.Count
	}
	return t.Removed && !other.Removed
}

// word is the last one on a node in a cluster.
func (s Seen) word(cluster, node string) Tombstone {
	if t := s.Tombstones[node]; t.isOn(cluster) {
		return t
	}
	return Tombstone{}
}

// give writes a new word on a node down, as that of the own member's cluster. It is durable here when it returns true.
func (b *Boot) give(self MemberState, node string, word Tombstone) bool {
	if !b.memory() {
		return false
	}
	last := b.disk.Seen.word(self.ClusterID, node)
	word.ClusterID, word.SrvName = self.ClusterID, b.home.SrvName
	word.Term = max(last.Term, self.Term) // what is known of the own member may be older
	word.Count = max(last.Count+1, self.Commit, self.Applied)
	return b.saveTombstones(self.ClusterID, map[string]Tombstone{node: word})
}

// hearTombstones takes over what another node says of the own cluster, or for a node without one of the cluster that lives. A node
// of an earlier birth has words of its own, which are not about this one.
func (b *Boot) hearTombstones(theirs map[string]Tombstone) {
	if len(theirs) == 0 || !b.memory() {
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
	for node, word := range merged {
		if word != b.disk.Seen.Tombstones[node] {
			b.heardWord(node, word)
		}
	}
	b.disk.Seen = next
	b.say()
	return true
}

// heardWord notes since when a node is welcome, or that it is not any more. A welcome ends a pause, once: see learnerRetry.
func (b *Boot) heardWord(node string, word Tombstone) {
	delete(b.welcomed, node)
	if word.Welcome > 0 {
		b.welcomed[node] = time.Now()
		delete(b.steward.failed, node)
	}
}

// stillWelcome are the nodes, sorted, that a person let in lately, and that have not come in since. A clock may be wrong, so that a word
// counts for an hour at most also from when this run of the node knows it.
func (b *Boot) stillWelcome(self MemberState) (out []string) {
	now := time.Now()
	for node, word := range wordsOn(self.ClusterID, b.disk.Seen.Tombstones) {
		known, heard := b.welcomed[node]
		if !heard {
			known = b.began
		}
		e, listed := listedNode(self.Members, node)
		came := listed && !e.IsLearner && e.ID != word.MemberID
		if !came && now.Unix() < word.Welcome && now.Sub(known) < orderLasts {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out
}
