package srvboot

// Action is what a node does next.
type Action string

const (
	// Wait means: do nothing yet; Reason says for what.
	Wait Action = "wait"
	// Refuse means: do nothing until a person acts; Hint says how.
	Refuse Action = "refuse"
	// Idle means: serve DNS only.
	Idle Action = "idle"
	// Birth means: take part in the genesis protocol.
	Birth Action = "genesis"
	// New means: start the member as new from a decided genesis.
	New Action = "new"
	// Restart means: start the member on its data.
	Restart Action = "restart"
	// Existing means: start the member as a member of a living cluster, expecting MemberID.
	Existing Action = "existing"
	// Ask means: ask the leader's node for membership, with Claim; DNS is served meanwhile.
	Ask Action = "ask"
	// Enroll means: take the member ID that a learner was added under for this very run, and decide again.
	Enroll Action = "enroll"
	// Retire means: note that the member was removed from its cluster, and set its data aside.
	Retire Action = "retire"
	// SetAside means: rename the data directory, keep it, and decide again.
	SetAside Action = "set-aside"
	// Rebuild means: write the marker again from the write-ahead log, and decide again.
	Rebuild Action = "rebuild-marker"
	// StopMember means: stop the member and fence its data; a successor of its genesis lives.
	StopMember Action = "fence"
)

// Plan is what Decide answers.
type Plan struct {
	// Row is the row of the decision table that matched, 1 to 20.
	Row    int    `json:"row"`
	Action Action `json:"action"`
	// Reason is for the operator: what was seen, with its values.
	Reason string `json:"reason"`
	// Hint is a command that leads out; empty when waiting is enough.
	Hint string `json:"hint,omitempty"`
	// For are the names of the nodes that the plan waits for, sorted.
	For []string `json:"for,omitempty"`
	// Spare says that nothing is wrong: the cluster has all its members, and this node asks so that it is at hand.
	Spare bool `json:"spare,omitempty"`
	// Claim is set with Ask.
	Claim *Claim `json:"claim,omitempty"`
	// Genesis is set with New, Existing and Enroll.
	Genesis *Genesis `json:"genesis,omitempty"`
	// Members is the member list to boot by, with Existing.
	Members []GenesisMember `json:"members,omitempty"`
	// MemberID is the ID that the member must have, with Existing and Enroll, and with Restart when it is known.
	MemberID string `json:"member_id,omitempty"`
}
