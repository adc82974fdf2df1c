package srvboot

import (
	"context"
	"io"
)

// Peers speaks to the admin ports of the other nodes. An implementation checks by mutual TLS that the answer comes
// from the node asked, and returns an error otherwise. All methods may be called at once.
type Peers interface {
	State(ctx context.Context, node string) (State, error)
	Prepare(ctx context.Context, node string, req Prepare) (Reply, error)
	Accept(ctx context.Context, node string, req Accept) (Reply, error)
}

// Storage is the node's memory on disk. Every method returns only after its writes are durable. It is used by one
// goroutine at a time.
type Storage interface {
	// Facts reads everything anew. Damage is part of the facts, not an error.
	Facts() (DiskFacts, error)
	SaveMarker(m Marker) error
	SaveSeen(s Seen) error
	// SaveIndex remembers the highest index and term that the own member reached; it never goes back.
	SaveIndex(index, term uint64) error
	// Settle forgets Identity.MovedFrom: this machine is the node's from here on.
	Settle() error
	// Stamp makes the etcd directory with a stamp of that nonce, and returns the directory's device number.
	Stamp(nonce string) (device uint64, err error)
	// SaveSnapshot keeps what write writes as a snapshot, and returns its path; a failed one is not kept. The latest few
	// are kept. It may be called beside the others.
	SaveSnapshot(why string, write func(io.Writer) error) (path string, err error)
	// SetAside renames the etcd directory so that it is kept, and returns its new path.
	SetAside(why string) (path string, err error)
	// SetAsideStart does so with what a first start left that was cut off (DiskFacts.CutOff), and keeps the stamp.
	SetAsideStart(why string) (path string, err error)
}

// Launch says how to start the etcd member.
type Launch struct {
	// New starts it as new from Members with token Genesis.ID; otherwise it starts on its data, or as a member of a
	// living cluster when there is no data.
	New bool
	// Token is the initial-cluster-token: the genesis ID.
	Token string
	// Members is the frozen view that it boots by: exactly these are in SRV, and every name resolves.
	Members []GenesisMember
	// ClusterID and MemberID are what it must turn out to have; empty when not known.
	ClusterID, MemberID string
}

// Launcher starts etcd members.
type Launcher interface {
	// Start returns once the child process runs. The member stops when ctx ends or Stop is called.
	Start(ctx context.Context, l Launch) (Member, error)
}

// Member is a running etcd member.
type Member interface {
	// Done is closed when the process has ended; Err then says why it died, nil after Stop.
	Done() <-chan struct{}
	Err() error
	// State is the last report; ok is false before the first one.
	State() (s MemberState, ok bool)
	// Changed receives after a new report; it holds one signal, so a slow reader sees the latest state only.
	Changed() <-chan struct{}
	// Change changes the membership of the member's cluster, and returns the ID of the member concerned once the change
	// is applied here. After ErrRefused it has not taken place, after another error it may have, or may yet.
	Change(ctx context.Context, c Change) (id string, err error)
	// Snapshot writes a snapshot of the keys as etcdctl does, with a checksum at its end.
	Snapshot(ctx context.Context, w io.Writer) error
	// Stop ends the member and returns when it has ended, or when ctx ends, after killing it.
	Stop(ctx context.Context) error
}
