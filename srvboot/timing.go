package srvboot

import "time"

// Timing holds the driver's periods. None of them changes a phase.
type Timing struct {
	// Poll is between two questions to a node while a birth may be near, Slow after SlowAfter without one and for
	// healthy clusters, Unhealthy while a born cluster has a member that does not serve.
	Poll, Slow, SlowAfter, Unhealthy time.Duration
	// AskTimeout bounds one question, TellTimeout one message of the genesis protocol.
	AskTimeout, TellTimeout time.Duration
	// Resend is between two sendings of a message, NewBallot the life of a ballot, NextProposer how long no ballot
	// moves before the next member proposes.
	Resend, NewBallot, NextProposer time.Duration
	// Complain is how long a node waits before it says so in the log.
	Complain time.Duration
	// BirthPoll is the least time between two questions to a node that asks this one while a genesis is accepted.
	BirthPoll time.Duration
	// BackoffMin and BackoffMax bound the wait before a dead member is started again; Settled is how long a member
	// runs before the wait starts over.
	BackoffMin, BackoffMax, Settled time.Duration
	// StopMember bounds the stopping of a member.
	StopMember time.Duration
	// ChangeTimeout bounds one change of the membership, SnapshotTimeout one snapshot.
	ChangeTimeout, SnapshotTimeout time.Duration
	// Remember is between two writes of what is remembered of the others.
	Remember time.Duration
}

// DefaultTiming returns the periods for one rack.
func DefaultTiming() Timing {
	return Timing{
		Poll: 100 * time.Millisecond, Slow: time.Second, SlowAfter: 10 * time.Second, Unhealthy: 250 * time.Millisecond,
		AskTimeout: 2 * time.Second, TellTimeout: 5 * time.Second,
		Resend: time.Second, NewBallot: 5 * time.Second, NextProposer: 10 * time.Second,
		Complain:   2 * time.Second,
		BirthPoll:  12 * time.Millisecond,
		BackoffMin: 100 * time.Millisecond, BackoffMax: 10 * time.Second, Settled: 10 * time.Second,
		StopMember: 5 * time.Second, ChangeTimeout: 8 * time.Second, SnapshotTimeout: 5 * time.Minute, Remember: 5 * time.Second,
	}
}
