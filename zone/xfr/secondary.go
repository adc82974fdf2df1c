package xfr

import (
	"errors"
	"net/netip"
	"time"
)

// secondary is the state of one secondary of one zone; the notifier's lock guards it.
type secondary struct {
	addr netip.AddrPort
	// settled says that nothing more is to be sent for this serial, busy that a try is under way.
	settled, busy bool
	due           time.Time
	// tries counts those of this serial, late those after its first acknowledgement.
	tries, late int
	// notified, acked and pulled are serials, nil before the first. What they point to never changes.
	notified, acked, pulled *uint32
	err                     error
	// epoch tells the tries of this serial from those of earlier ones.
	epoch int
}

// begin starts over with a new serial.
func (s *secondary) begin(now time.Time) {
	s.epoch++
	s.settled, s.busy, s.due, s.tries, s.late = false, false, now, 0, 0
}

// saw takes note of a serial that the secondary has.
func (s *secondary) saw(has, want uint32) {
	s.pulled = &has
	if !older(has, want) {
		s.settled, s.err = true, nil
	}
}

// hasAcked reports whether the secondary acknowledged this serial.
func (s *secondary) hasAcked(serial uint32) bool { return s.acked != nil && *s.acked == serial }

// SecondaryStatus is what is known of one secondary of one zone.
type SecondaryStatus struct {
	Zone    string `json:"zone"`
	Address string `json:"address"`
	// Serial is the one announced since Since.
	Serial uint32    `json:"serial"`
	Since  time.Time `json:"since"`
	// Notified, Acked and Pulled are the last serial sent, the last acknowledged and the last that it was seen to have;
	// absent before the first.
	Notified *uint32 `json:"notified,omitempty"`
	Acked    *uint32 `json:"acked,omitempty"`
	Pulled   *uint32 `json:"pulled,omitempty"`
	// Behind says that it was not seen to have Serial; Tries how often it was told.
	Behind bool   `json:"behind"`
	Tries  int    `json:"tries"`
	Error  string `json:"error,omitempty"`
}

// Lag is how long the secondary has not been seen to have the newest serial; 0 when it has.
func (s SecondaryStatus) Lag(now time.Time) time.Duration {
	if !s.Behind {
		return 0
	}
	return max(0, now.Sub(s.Since))
}

// Status returns the secondaries of all zones.
func (n *Notifier) Status() []SecondaryStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []SecondaryStatus{}
	for origin, z := range n.zones {
		for _, s := range z.to {
			st := SecondaryStatus{Zone: origin, Address: s.addr.String(), Serial: z.serial, Since: z.since, Notified: s.notified, Acked: s.acked, Pulled: s.pulled,
				Behind: s.pulled == nil || older(*s.pulled, z.serial), Tries: s.tries}
			if s.err != nil {
				st.Error = s.err.Error()
			}
			out = append(out, st)
		}
	}
	return out
}

// The state of a secondary that says yes and does nothing, and of one that does not say what it does.
var (
	errNotPulled = errors.New("it acknowledges NOTIFY and does not fetch the zone: its primaries, TSIG key or address list may be wrong")
	errSilent    = errors.New("it acknowledges NOTIFY, and was not seen to fetch the zone from this node or to serve it")
)
