package srvboot

import "github.com/etcd-dns/etcd-dns/roster"

// State is what a node says of itself to another one over the admin port. Whoever receives it has checked that the
// sender's certificate names State.Node.
type State struct {
	Format  int    `json:"format"`
	Bundle  string `json:"bundle"`
	SrvName string `json:"srv_name"`
	Node    string `json:"node"`
	// BundleGeneration is that of the bundle which the sender holds; 0 if it does not say.
	BundleGeneration uint64 `json:"bundle_generation,omitempty"`

	// Life, Boot and Machine are those of Identity; Seen is what the sender remembers of the others, by name.
	Life    uint64              `json:"life"`
	Boot    string              `json:"boot"`
	Machine string              `json:"machine"`
	Seen    map[string]Sighting `json:"seen,omitempty"`
	// Chain are the boot nonces of the lives before this one, the latest first, as far as they are kept.
	Chain []string `json:"chain,omitempty"`
	// Reached is the raft index that the sender's log goes up to; of a running member, what it applied if that is more.
	Reached uint64 `json:"reached,omitempty"`
	// Quiet is for how many seconds the sender has heard of no running member of the node that asked. It counts from the
	// sender's start.
	Quiet int `json:"quiet,omitempty"`

	// Run names the time during which the sender's memory is whole: a new nonce at every start, and whenever the
	// sender finds its marker gone. A promise is asked of one run, so it says something about that run's disk.
	Run string `json:"run"`

	Phase    Phase       `json:"phase"`
	Promised Ballot      `json:"promised"`
	Accepted *Acceptance `json:"accepted,omitempty"`
	Excused  []string    `json:"excused,omitempty"`
	// Abandoned are the genesis IDs that the sender refuses for ever.
	Abandoned []string `json:"abandoned,omitempty"`
	// Digest is that of the sender's Home; Ask are the names that it would wait for.
	Digest string   `json:"digest"`
	Ask    []string `json:"ask,omitempty"`
	// Initial are the sender's initial members, to show what differs when digests do.
	Initial []GenesisMember `json:"initial,omitempty"`
	// Size is Home.Size of the sender.
	Size int `json:"size,omitempty"`
	// Evidence of an earlier life, see DiskFacts.
	Evidence []string `json:"evidence,omitempty"`
	// Ready says that the sender's pre-flight checks pass; NotReady lists those that do not.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`

	// Member describes the running etcd member; nil when none runs.
	Member *MemberState `json:"member,omitempty"`
	// Claim is set by a node that asks for membership, Admission by the node that let another in last.
	Claim     *Claim     `json:"claim,omitempty"`
	Admission *Admission `json:"admission,omitempty"`
	// Waits says, by node, why the sender, which leads its cluster, does not let it in yet.
	Waits map[string]string `json:"waits,omitempty"`
	// Tombstones are those that the sender knows of.
	Tombstones map[string]Tombstone `json:"tombstones,omitempty"`
	// View is the member list the sender publishes, with its date.
	View roster.View `json:"view"`
	// Places are where nodes are whose addresses come from the network: the sender itself, and others as it heard last.
	Places roster.Places `json:"places,omitempty"`
	// Gossip is the boot nonce under which the sender gossips.
	Gossip string `json:"gossip,omitempty"`
	// Slot is the sender's number in the serials that it makes, nil while it has none.
	Slot *int `json:"slot,omitempty"`
	// Serial and ZoneDigest name the zone content the sender serves.
	Serial     uint32 `json:"serial,omitempty"`
	ZoneDigest string `json:"zone_digest,omitempty"`
	// Clients are, by srv-name, the nodes of the members that the sender publishes as serving clients; without the clusters of
	// which it knows too little yet to tell.
	Clients map[string][]string `json:"clients,omitempty"`
	// Heard are the nodes, sorted, whose members the sender heard serving clients itself, its own among them if it serves: never
	// those of which others told it.
	Heard []string `json:"heard,omitempty"`
	// Followed are, by srv-name, the member lists of the clusters that the rack follows and does not run.
	Followed map[string]roster.Followed `json:"followed,omitempty"`
	// Corefile is a digest of the lines that every node's Corefile should have alike, and Lines are those lines, for who asks
	// with another digest.
	Corefile string   `json:"corefile,omitempty"`
	Lines    []string `json:"lines,omitempty"`
	// Signed says that the sender signs the zone.
	Signed bool `json:"signed,omitempty"`
	// Zones are the same of further zones, by name.
	Zones map[string]ZoneContent `json:"zones,omitempty"`
	// Plan is what the sender does now and why, for status.
	Plan Plan `json:"plan"`
}

// ZoneContent names the content of a zone.
type ZoneContent struct {
	Serial uint32 `json:"serial"`
	Digest string `json:"digest"`
}

// MemberState is what a running member reports of itself.
type MemberState struct {
	ID        string `json:"id"`
	ClusterID string `json:"cluster_id"`
	Leader    string `json:"leader,omitempty"`
	Term      uint64 `json:"term"`
	Applied   uint64 `json:"applied"`
	IsLearner bool   `json:"is_learner,omitempty"`
	// Serving says that a linearizable read succeeded within the last two seconds.
	Serving bool `json:"serving"`
	// HeldOut says that the member serves, and is to be left out of the client records all the same, because it fell too often.
	HeldOut bool `json:"held_out,omitempty"`
	// Hung says that the process has said nothing for two seconds; the rest of the state is as old as that.
	Hung bool `json:"hung,omitempty"`
	// Members is the member's own applied member list. Listed is an applied index at which it was the list, 0 while that is not
	// known for certain.
	Members []MemberEntry `json:"members,omitempty"`
	Listed  uint64        `json:"listed,omitempty"`
	// Commit is the highest committed raft index, Alarms are etcd's, such as NOSPACE, and Links what a leader knows of the
	// others; nobody else has any.
	Commit uint64   `json:"commit,omitempty"`
	Alarms []string `json:"alarms,omitempty"`
	Links  []Link   `json:"links,omitempty"`
	// Connected are the other members that this one is connected with, whoever leads; it may be a second old.
	Connected []string `json:"connected,omitempty"`
	// Version is etcd's version; PID that of the child process.
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`
	// DBSize is the size of the backend in bytes.
	DBSize int64 `json:"db_size,omitempty"`
}

// MemberEntry is one entry of an etcd member list.
type MemberEntry struct {
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls,omitempty"`
	IsLearner  bool     `json:"is_learner,omitempty"`
}

// Prepare asks a node to promise a ballot (phase one of genesis).
type Prepare struct {
	Format int    `json:"format"`
	Ballot Ballot `json:"ballot"`
	Digest string `json:"digest"`
	// Run is State.Run of the addressee, seen before the ballot was chosen. A node that lost its disk since refuses,
	// so every promise of the ballot was given after the last disk was lost.
	Run string `json:"run"`
}

// Accept asks a node to accept a genesis in a ballot (phase two).
type Accept struct {
	Format  int     `json:"format"`
	Ballot  Ballot  `json:"ballot"`
	Genesis Genesis `json:"genesis"`
}

// Reply answers Prepare and Accept.
type Reply struct {
	// OK says that the promise or the acceptance is on disk.
	OK bool `json:"ok"`
	// Reason says why not, for a person to read.
	Reason string `json:"reason,omitempty"`
	// State is the node's state after the request.
	State State `json:"state"`
}
