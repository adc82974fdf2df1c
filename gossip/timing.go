package gossip

import (
	"fmt"
	"time"
)

// Timing says how often nodes talk and how long they wait. All nodes of a domain use the same. Rack, Metro and WAN are
// the three that are measured; docs/design/gossip.md says what each value costs.
type Timing struct {
	// Probe is the time between two probes that a node sends, each to another node in turn, and how long it waits for the
	// answer before it calls that node suspect. A node that notices that it is slow itself makes it twice as long.
	Probe time.Duration
	// ProbeTimeout is how long a probe waits before it tries TCP and other nodes' help as well, and how long a helper waits
	// before it says no: more than a round trip. Twice that and a round trip have to fit into Probe, or a node hears the no
	// too late, takes itself for slow and doubles Probe.
	ProbeTimeout time.Duration
	// Suspicion times Probe is how long a suspect has for its objection before it is dead (from eleven nodes on times
	// log10 of their number). With 3, a death needs a second witness as soon as there is one to ask.
	Suspicion int
	// SuspicionMax times that is how long it has while no second witness confirms.
	SuspicionMax int
	// Gossip is the time between two rounds of passing news on, each to ten nodes, of which many may be dead; a piece of news is
	// passed on Retransmit times (from ten runs on that are alive or remembered, twice that).
	Gossip     time.Duration
	Retransmit int
	// PushPull is the time after which a node compares everything with one other node, over TCP, and Stream how long a TCP
	// connection may take.
	PushPull, Stream time.Duration
	// Forget is how long memberlist remembers a dead node. Until then the dead one hears of its own death, and objects if
	// it lives.
	Forget time.Duration
	// Rejoin is the longest time between two tries to reach nodes that should be there and are not.
	Rejoin time.Duration
}

// Rack is the Timing for nodes at most a few milliseconds apart.
func Rack() Timing {
	return Timing{
		Probe: 200 * time.Millisecond, ProbeTimeout: 60 * time.Millisecond, Suspicion: 3, SuspicionMax: 6,
		Gossip: 50 * time.Millisecond, Retransmit: 40, PushPull: 5 * time.Second, Stream: 3 * time.Second,
		Forget: 30 * time.Second, Rejoin: 10 * time.Second,
	}
}

// Metro is the Timing for sites of one city, up to ten milliseconds or so apart.
func Metro() Timing {
	t := Rack()
	t.Probe, t.ProbeTimeout, t.Gossip, t.Stream = 500*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond, 5*time.Second
	return t
}

// WAN is the Timing for sites up to some three hundred milliseconds apart.
func WAN() Timing {
	t := Rack()
	t.Probe, t.ProbeTimeout, t.Gossip = 2*time.Second, 700*time.Millisecond, 200*time.Millisecond
	t.PushPull, t.Stream, t.Forget, t.Rejoin = 15*time.Second, 10*time.Second, time.Minute, 20*time.Second
	return t
}

func (t Timing) check() error {
	for _, d := range []time.Duration{t.Probe, t.ProbeTimeout, t.Gossip, t.PushPull, t.Stream, t.Forget, t.Rejoin} {
		if d < time.Millisecond {
			return fmt.Errorf("timing %+v: want no time below 1 ms", t)
		}
	}
	if 2*t.ProbeTimeout >= t.Probe || t.Suspicion < 1 || t.SuspicionMax < 1 || t.Retransmit < 1 {
		return fmt.Errorf("timing %+v: want a probe timeout below half of the probe interval, and multipliers of 1 or more", t)
	}
	return nil
}
