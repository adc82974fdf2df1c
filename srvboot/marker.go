package srvboot

import (
	"encoding/json"
	"time"
)

// Format is the version of every file and message of this package. A reader keeps fields that it does not know and
// refuses a higher version.
const Format = 1

// Phase is how far a node has come in its cluster's life. It is durable: every change is on disk before anyone hears
// of it.
type Phase string

// The phases, in order: fresh → promised → accepted → born → running; joining → running; any → removed or fenced.
const (
	// Fresh means: this node promised nothing yet. It is the phase of a node without a marker as well.
	Fresh Phase = "fresh"
	// Promised means: it promised a ballot and accepted nothing.
	Promised Phase = "promised"
	// Accepted means: it accepted a genesis, which from here on is the truth for birth, whatever the Corefile says.
	Accepted Phase = "accepted"
	// Born means: the genesis is decided; the member may start as new, once, from a stamped directory.
	Born Phase = "born"
	// Joining means: the member was added to a living cluster and has not written its log yet.
	Joining Phase = "joining"
	// Running means: the member's write-ahead log holds entries.
	Running Phase = "running"
	// Removed means: the member was removed from its cluster.
	Removed Phase = "removed"
	// FencedOff means: a successor of this node's genesis exists; its data is kept and never served again.
	FencedOff Phase = "fenced"
)

// Ballot orders the attempts to decide a genesis. Two proposers never make the same ballot, because By differs.
type Ballot struct {
	N  uint64 `json:"n"`
	By string `json:"by,omitempty"`
}

// GenesisMember is one member of a cluster at its birth.
type GenesisMember struct {
	Name    string `json:"name"`
	PeerURL string `json:"peer_url"`
}

// Genesis is the one-time decision that a cluster is born.
type Genesis struct {
	// ID is a UUID and the cluster's initial-cluster-token, so that no two births share an etcd cluster ID.
	ID string `json:"id"`
	// Generation is 1 for a birth and one more than Parent's for a recovery.
	Generation uint64 `json:"generation"`
	// Parent is the ID of the genesis that this one recovers from.
	Parent string `json:"parent,omitempty"`
	// Members is sorted by name.
	Members []GenesisMember `json:"members"`
	// Size is how many members the cluster is to have, and Of the number of nodes that they were taken from; both are 0 when
	// the Corefile gave no size.
	Size int `json:"size,omitempty"`
	Of   int `json:"of,omitempty"`
	// Digest is the Birthplace digest that every member agreed to.
	Digest string `json:"digest"`
	// ClusterID is the etcd cluster ID that follows from Members and ID, 16 hexadecimal digits.
	ClusterID string `json:"cluster_id"`
}

// Acceptance is a genesis with the ballot it was accepted in.
type Acceptance struct {
	Ballot
	Genesis Genesis `json:"genesis"`
}

// Marker is genesis.json: what a node remembers of its cluster outside the etcd data directory, so that a lost
// directory is never mistaken for a new node.
type Marker struct {
	Format  int    `json:"format"`
	Bundle  string `json:"bundle"`
	SrvName string `json:"srv_name"`
	Node    string `json:"node"`
	Phase   Phase  `json:"phase"`
	// Promised is the highest ballot promised; Accepted the last genesis accepted.
	Promised Ballot      `json:"promised"`
	Accepted *Acceptance `json:"accepted,omitempty"`
	// Abandoned are genesis IDs that this node refuses for ever; Excused are nodes that birth does not wait for.
	Abandoned []string `json:"abandoned,omitempty"`
	Excused   []string `json:"excused,omitempty"`
	// Permitted is until when a person permits a birth, besides the bundle; zero without such a word.
	Permitted time.Time `json:"permitted_until,omitzero"`
	// Finished is a genesis that this node accepted, and that a person had born without its dead members.
	Finished string `json:"finished,omitempty"`
	// Stamp is the nonce written into etcd/stamp before the directory is used.
	Stamp string `json:"stamp,omitempty"`
	// MemberID is the etcd member ID, 16 hexadecimal digits, once it is known.
	MemberID string `json:"member_id,omitempty"`
	// Learner says that this node has not seen its member vote yet. If it is removed before that, no person did it.
	Learner bool `json:"learner,omitempty"`
	// EtcdDevice is the device number of etcd/ when it was stamped; another one means that a disk is not mounted.
	EtcdDevice uint64 `json:"etcd_dev,omitempty"`

	// Unknown holds the fields of a newer minor format, which are written back as they were read.
	Unknown map[string]json.RawMessage `json:"-"`
}

// Identity is identity.json: it tells one run of a node from another, and a node from its clone.
type Identity struct {
	Format int `json:"format"`
	// Life counts the starts of this node.
	Life uint64 `json:"life"`
	// Boot is this run's nonce, Previous the one before it, Earlier those before that, the latest first.
	Boot     string   `json:"boot"`
	Previous string   `json:"previous,omitempty"`
	Earlier  []string `json:"earlier,omitempty"`
	// Machine is the machine id of the host. MovedFrom is that of the host before, until it is known that the run there is
	// gone.
	Machine   string `json:"machine"`
	MovedFrom string `json:"moved_from,omitempty"`
	// Index and Term are the highest applied raft index and term that this node has seen itself reach, five seconds late:
	// by then the log that holds them is on disk.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`

	Unknown map[string]json.RawMessage `json:"-"`
}

// Sighting is what a node remembers of the last run of another one's member. A run that does not follow from it, which
// is one of an older disk or of a clone, does not replace it; a new member ID does.
type Sighting struct {
	MemberID string `json:"member_id,omitempty"`
	Life     uint64 `json:"life"`
	Boot     string `json:"boot"`
	Machine  string `json:"machine"`
	// Index is the applied index that the other reported at least five seconds ago.
	Index uint64 `json:"index"`
}

// Seen is seen.json: what this node remembers of the others, by node name.
type Seen struct {
	Format int                 `json:"format"`
	Nodes  map[string]Sighting `json:"nodes"`
	// Tombstones are a person's words on who is out, by node name.
	Tombstones map[string]Tombstone `json:"tombstones,omitempty"`

	Unknown map[string]json.RawMessage `json:"-"`
}
