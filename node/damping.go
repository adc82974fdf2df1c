package node

import (
	"fmt"
	"slices"
	"time"
)

// damping decides how a node's own member is published, so that one that dies every few seconds does not change every node's
// client set each time, with a new serial. A fall is published at once. The first one in a minute costs nothing; after two of them the
// member has to serve for two seconds without a break before it is published again, after each further one for twice as long, thirty
// seconds at most. Each node damps its own member and says so (MemberState.HeldOut), so that all agree. It is not kept: a restart of the
// node begins anew.
type damping struct {
	serving bool
	since   time.Time   // since when it serves, or when it was last told that it does not
	falls   []time.Time // those in the minute before since, the oldest first
}

const (
	fallsCount = time.Minute
	holdFirst  = 2 * time.Second
	holdMost   = 30 * time.Second
)

// heldOut is what follows for the member: how often it fell within a minute, and how long it still has to serve without a
// break until it is published; zero when it is published as it is.
type heldOut struct {
	falls int
	wait  time.Duration
}

// tell takes in whether the member serves now. It is told at every change, by one goroutine, with times that do not go back.
func (d *damping) tell(serving bool, now time.Time) heldOut {
	if d.serving && !serving {
		d.falls = append(d.falls, now)
	}
	if !d.serving || !serving {
		d.since = now
	}
	d.serving = serving
	d.falls = slices.DeleteFunc(d.falls, func(t time.Time) bool { return d.since.Sub(t) >= fallsCount })
	return heldOut{falls: len(d.falls), wait: max(0, holdAfter(len(d.falls))-now.Sub(d.since))}
}

// holdAfter is how long a member has to serve after so many falls.
func holdAfter(falls int) time.Duration {
	hold := holdFirst
	for range falls - 2 {
		hold = min(2*hold, holdMost)
	}
	if falls < 2 {
		return 0
	}
	return hold
}

// warning says it to the operator.
func (h heldOut) warning() string {
	return fmt.Sprintf("the member fell %d times within a minute: it is left out of the client records until it has served for another %v without a break; why it fell is among the deaths in `etcd-dns status -o json`", h.falls, max(h.wait.Round(time.Second), time.Second))
}
