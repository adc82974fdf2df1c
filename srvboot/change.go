package srvboot

import "errors"

// ChangeOp is one kind of step in a cluster's membership.
type ChangeOp string

const (
	// RemoveMember removes the member ID, a voter or a learner.
	RemoveMember ChangeOp = "remove"
	// AddLearner adds a learner at PeerURL.
	AddLearner ChangeOp = "add-learner"
	// PromoteLearner makes the learner ID a voter.
	PromoteLearner ChangeOp = "promote"
	// MoveLeader hands the leadership to the voter ID.
	MoveLeader ChangeOp = "move-leader"
)

// Change is one step in a cluster's membership. It is made against a member list: when a linearizable read shows
// another one, the step is not taken. Nor is it when, just before etcd is asked, the member no longer leads in the term of then: etcd would
// hand it to the next leader, whose node may have been told otherwise.
type Change struct {
	Op ChangeOp `json:"op"`
	// Term is the raft term in which the member led when the step was derived.
	Term uint64 `json:"term"`
	// ID is the member that is removed or promoted, 16 hexadecimal digits; it is the result of AddLearner.
	ID string `json:"id,omitempty"`
	// PeerURL is that of the learner to add.
	PeerURL string `json:"peer_url,omitempty"`
	// Members are the IDs of the list that the step was derived from, sorted; those of learners end in "L".
	Members []string `json:"members"`
	// Force has RemoveMember done although the voters that are left may be no quorum, by a person's word.
	Force bool `json:"force,omitempty"`
	// Node is the node concerned, Reason what was seen; both are for people.
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// ErrRefused is for a change that did not take place, and will not.
var ErrRefused = errors.New("refused")

// Link is what a raft leader knows of another member.
type Link struct {
	ID string `json:"id"`
	// Match is the highest log index that is known to be on the member's disk.
	Match uint64 `json:"match"`
	// Quiet is for how many whole seconds the leader has heard nothing of the member; it counts from the election.
	Quiet int `json:"quiet"`
}

// Claim is what a node without usable data says when it asks for membership. Saying it is a proof of both: the node is
// asked directly, and its certificate names it (safety.md R10 a).
type Claim struct {
	// PeerURL is where its member will be.
	PeerURL string `json:"peer_url"`
	// Lost is the member that the living list has at PeerURL and whose data this node does not hold; empty when the list
	// has none.
	Lost string `json:"lost,omitempty"`
	// Retired says that this node was removed, and comes back by a person's word only.
	Retired bool `json:"retired,omitempty"`
}

// Admission says that a learner was added for one run of a node. It is no secret, and it lets nobody in who holds data:
// only a node that is still in that run, and blank, takes the member ID for its own.
type Admission struct {
	Node string `json:"node"`
	Run  string `json:"run"`
	ID   string `json:"id"`
	// Genesis is that of the cluster.
	Genesis Genesis `json:"genesis"`
}

// ListIDs names a member list as Change.Members does.
func ListIDs(list []MemberEntry) []string {
	var out []string
	for _, e := range list {
		id := e.ID
		if e.IsLearner {
			id += "L"
		}
		out = append(out, id)
	}
	return sortedNames(out)
}
