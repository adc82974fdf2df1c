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
	// Genesis is set with New and Existing.
	Genesis *Genesis `json:"genesis,omitempty"`
	// Members is the member list to boot by, with Existing.
	Members []GenesisMember `json:"members,omitempty"`
	// MemberID is the ID that the member must have, with Existing and Restart when it is known.
	MemberID string `json:"member_id,omitempty"`
}
