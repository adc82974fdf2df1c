package node

import (
	"time"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// Clocks that agree within clockAgreement are right together: the epoch forgives a day.
const (
	clockAgreement = time.Hour
	// clockHeard is how old another node's answer may be before its clock no longer counts.
	clockHeard = 10 * time.Second
	// clockBefore is how far before the bundle was made a clock may be; that of the machine that made it may be off.
	clockBefore = 24 * time.Hour
)

// clockLocked reads the clock and judges it.
func (d *dnssec) clockLocked() sign.Clock {
	now := d.now()
	others := d.others()
	var ahead []time.Duration
	for _, name := range others {
		if h, ok := d.heard[name]; ok && now.Sub(h.at) < clockHeard {
			ahead = append(ahead, h.ahead)
		}
	}
	right := !now.Before(d.created.Add(-clockBefore)) && plausible(len(others), ahead, d.synced)
	return sign.Clock{Now: now, Plausible: right}
}

// plausible judges the own clock by the nodes that were heard: the greater part of them and this one has to agree. In
// a tie, or when nobody was heard, a time service has to vouch for it; a rack of one node has nobody to ask.
func plausible(others int, ahead []time.Duration, synced func() bool) bool {
	if others == 0 {
		return true
	}
	agree := 1
	for _, a := range ahead {
		if a.Abs() <= clockAgreement {
			agree++
		}
	}
	switch all := 1 + len(ahead); {
	case len(ahead) == 0, 2*agree == all:
		return synced()
	default:
		return 2*agree > all
	}
}
