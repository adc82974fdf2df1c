package srvboot

import "time"

// Data classes what lies in the etcd data directory.
type Data string

const (
	// None means: no file at all, or no directory.
	None Data = "none"
	// Stamped means: only the stamp, with the nonce of the marker; or, of a born or joining marker, with what etcd makes before
	// its log, see DiskFacts.CutOff.
	Stamped Data = "stamped"
	// Stub means: a write-ahead log whose IDs match the marker, without an entry and without a hard state.
	Stub Data = "stub"
	// HasMember means: a write-ahead log whose IDs match the marker, or any when there is no marker.
	HasMember Data = "member"
	// Alien means: a write-ahead log whose IDs are not the marker's.
	Alien Data = "alien"
	// Broken means: all else, such as a database without a log or an unreadable log.
	Broken Data = "broken"
)

// DiskFacts is what a node's own disk says.
type DiskFacts struct {
	Data Data
	// Why says what is wrong with Broken data, for a person to read.
	Why string
	// CutOff says, of Stamped, that a first start has left an empty database and no log: as good as nothing, but etcd would serve
	// it, so it is set aside before the next start.
	CutOff bool
	// MemberID and ClusterID are read from the write-ahead log, 16 hexadecimal digits; empty without a readable one.
	MemberID, ClusterID string
	// LastIndex is the raft index up to which the write-ahead log goes, 0 without one.
	LastIndex uint64
	// Marker is nil when there is none. MemoryError says why a file of this node's memory cannot be used (genesis.json, identity.json or
	// seen.json), MemoryHint what leads out; that is empty for a damaged one.
	Marker                  *Marker
	MemoryError, MemoryHint string
	// Identity and Seen are zero when there are none.
	Identity Identity
	Seen     Seen
	// Evidence lists what speaks of an earlier life, for a person to read: a marker, anything in etcd/, a set-aside
	// directory, snapshots, a roster that names members. Empty means a blank disk.
	Evidence []string
	// DeviceChanged says that etcd/ lies on another device than when it was stamped.
	DeviceChanged bool
	// Volatile names the file system when it does not outlive a power cut (tmpfs, ramfs, overlay); empty otherwise.
	Volatile string
}

// Answer is what one node, asked directly and authenticated, said last.
type Answer struct {
	Node string
	// At is when the answer arrived; zero if the node never answered.
	At time.Time
	// Asked is when the question was sent, which the answer is not older than.
	Asked time.Time
	// State is the last answer; meaningless while At is zero.
	State State
	// Err says why the last attempt failed; empty when it succeeded.
	Err string
	// Stranger says that it failed because another machine answered where this node should be: that is not silence, but a
	// wrong address or a wrong bundle.
	Stranger bool
}

// Fresh reports whether the answer is at most age old at now.
func (a Answer) Fresh(now time.Time, age time.Duration) bool {
	return !a.At.IsZero() && now.Sub(a.At) <= age
}

// Home is what the configuration and the bundle say of this node and its cluster. Every node of a birth must have
// the same digest of it.
type Home struct {
	Bundle, SrvName, Node string
	// Initial are the initial members by name, sorted, with the peer URLs that they would have.
	Initial []GenesisMember
	// Size is how many of Initial become members at the birth, the others being spares; 0 for all of them. Answers is how many of
	// Initial have to answer before it, see AnswersFor; 0 for all of them.
	Size, Answers int
	// Admitted are the nodes that the configuration lets into the cluster, with the peer URLs that it gives them, sorted
	// by name.
	Admitted []GenesisMember
	// Manual leaves the replacing of members that lost their disk to a person.
	Manual bool
	// Ask are the names of all nodes that birth waits for: the bundle's and the Corefile's, heard of or remembered,
	// sorted, this node included.
	Ask []string
	// ClientPort is the TCP port on which the cluster's members serve clients.
	ClientPort uint16
	// BirthUntil is when the bundle's permission for birth ends.
	BirthUntil time.Time
	// Ephemeral allows birth on a file system that does not outlive a power cut.
	Ephemeral bool
}

// birthUntil is when this node's permission for birth ends: the bundle's or, if it is longer, a person's.
func (f Facts) birthUntil() time.Time {
	if m := f.Disk.Marker; m != nil && m.Permitted.After(f.Home.BirthUntil) {
		return m.Permitted
	}
	return f.Home.BirthUntil
}

// Facts are all that Decide looks at.
type Facts struct {
	Now  time.Time
	Home Home
	Disk DiskFacts
	// Peers holds the last answer of every node of Home.Ask but this one, and of those heard of, by name.
	Peers map[string]Answer
	// Run is the nonce of this run, see State.Run. Began is since when it asks the others.
	Run   string
	Began time.Time
	// Namesake is the last answer to a question put to this node's own name: another run's answer means that two
	// processes have the name.
	Namesake Answer
	// ToldRemoved says that the own member ended because its cluster removed it.
	ToldRemoved bool
	// Preflight lists the failed checks that stand in the way of a start.
	Preflight []string
	// DiskReplaced is the operator's word that a missing or different etcd device is meant.
	DiskReplaced bool
	// Moved is the operator's word that the data came from another machine, where nothing runs on it any more.
	Moved bool
}
