package sign

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// parentLag is added to the DS TTL: some servers of the parent are reached by anycast, and an instance that this
	// node does not reach may be as late as an hour.
	parentLag = time.Hour
	// unseenDSTTL stands for the TTL of a DS set that no node ever saw; a day is what most registries use.
	unseenDSTTL = 24 * time.Hour
)

// Advance takes at most one step and moves the epoch. It is pure: facts were gathered by a Watch, and now is a time of
// the same clock. why says, for a person, what the next step waits for; it is empty when there is none.
//
// What a step asks for, after RFC 7583 §3.3.3 and RFC 8078, is that no cache anywhere can hold a DS, a DNSKEY set and an
// RRset that do not fit together. Whatever is not known makes it wait.
func Advance(s State, f Facts, now time.Time) (next State, why string) {
	next = s.Clone()
	if !s.Signs() {
		return next, ""
	}
	next.Epoch = advanceEpoch(s.Epoch, f.Plausible, now)
	if f.DSTTL > s.DSTTL {
		next.DSTTL = f.DSTTL
	}
	if s.Mode == GoingOff {
		why = next.finishOff(f, now)
	} else {
		why = next.rollOn(f, now)
	}
	if !slices.Equal(next.canonical(), s.canonical()) {
		next.Steps++
	}
	return next, why
}

// advanceEpoch never goes back, but for an epoch that a wrong clock made: its signatures are not valid yet.
func advanceEpoch(epoch uint32, plausible bool, now time.Time) uint32 {
	if plausible && (EpochAt(now) > epoch || !begun(epoch, now)) {
		return EpochAt(now)
	}
	return epoch
}

// dsWait is how long after a change of the DS set a validator may still know the old one.
func (s *State) dsWait() time.Duration {
	if s.DSTTL == 0 {
		return unseenDSTTL + parentLag
	}
	return time.Duration(s.DSTTL)*time.Second + parentLag
}

// finishOff ends signing once no validator can expect signatures, and no name server asks for a DS any more.
func (s *State) finishOff(f Facts, now time.Time) (why string) {
	switch {
	case f.Deleting.IsZero():
		return f.servers("serves the CDS record that asks the parent to remove its DS")
	case f.ParentErr != "":
		return "the parent could not be asked for the DS: " + f.ParentErr
	case f.NoDS.IsZero():
		return "the parent has a DS record: it has to be removed there, by the parent's reading of our CDS or by hand"
	case !f.elapsed(f.NoDS, s.dsWait(), now):
		return remaining("the parent's DS is gone; validators may know it", f.NoDS, s.dsWait(), now)
	}
	*s = s.stopped()
	return ""
}

// rollOn brings a roll-over to its end, and announces the key to the parent.
func (s *State) rollOn(f Facts, now time.Time) (why string) {
	if _, waits := s.key(PrePublished); waits {
		return s.activate(f, now)
	}
	active, _ := s.ActiveKey()
	if !s.Announced {
		if why := f.signedFor(active, now); why != "" {
			return why
		}
		s.Announced = true
		return ""
	}
	if _, retires := s.key(Retiring); retires {
		return s.withdraw(f, now)
	}
	switch {
	case f.ParentErr != "":
		return "the parent could not be asked for the DS: " + f.ParentErr
	case f.DS[active.Tag].IsZero():
		return fmt.Sprintf("the parent lacks the DS of key %d: it takes it over from our CDS, or by hand", active.Number)
	}
	return ""
}

// activate lets the new key sign the zone, once every cache that has our DNSKEY set has one with it.
func (s *State) activate(f Facts, now time.Time) (why string) {
	key, _ := s.key(PrePublished)
	const wait = KeyTTL * time.Second
	since := f.Published[key.Tag]
	switch {
	case since.IsZero():
		return f.servers(fmt.Sprintf("serves the DNSKEY set with key %d", key.Number))
	case !f.elapsed(since, wait, now):
		return remaining(fmt.Sprintf("every name server serves key %d; caches may lack it", key.Number), since, wait, now)
	}
	old := s.index(Active)
	s.Keys[s.index(PrePublished)].Phase, s.Keys[old].Phase = Active, Retiring
	for i := range s.Keys {
		s.Keys[i].Since = stamp(now)
	}
	return ""
}

// withdraw drops the old key, once no cache holds a signature by it or a DS set without the new one. A parent that is
// known to have no DS at all has nothing to hold against it either.
func (s *State) withdraw(f Facts, now time.Time) (why string) {
	key, _ := s.ActiveKey()
	if why := f.signedFor(key, now); why != "" {
		return why
	}
	since := f.DS[key.Tag]
	if since.IsZero() {
		since = f.NoDS
	}
	switch {
	case f.ParentErr != "":
		return "the parent could not be asked for the DS: " + f.ParentErr
	case since.IsZero():
		return fmt.Sprintf("the parent lacks the DS of key %d: it takes it over from our CDS, or by hand", key.Number)
	case !f.elapsed(since, s.dsWait(), now):
		return remaining("validators may know the parent's DS of before", since, s.dsWait(), now)
	}
	*s = s.withdrawn()
	return ""
}

// signedFor says why some cache may hold data that the key did not sign.
func (f Facts) signedFor(key KeyState, now time.Time) (why string) {
	since := f.Signing[key.Tag]
	switch wait := max(f.ZoneTTL, KeyTTL*time.Second); {
	case since.IsZero() || f.Published[key.Tag].IsZero():
		return f.servers(fmt.Sprintf("serves the zone signed by key %d", key.Number))
	case !f.elapsed(since, wait, now):
		return remaining(fmt.Sprintf("every name server serves the zone signed by key %d; caches may hold it otherwise", key.Number), since, wait, now)
	}
	return ""
}

// servers says which name servers are in the way.
func (f Facts) servers(what string) string {
	if len(f.Silent) > 0 {
		return "it is not known whether every name server " + what + ": " + strings.Join(f.Silent, "; ")
	}
	return "not every name server " + what
}

// remaining says until when a wait lasts, in words that change once a minute.
func remaining(what string, since time.Time, wait time.Duration, now time.Time) string {
	left := (wait - now.Sub(since) + time.Minute - 1).Truncate(time.Minute)
	return fmt.Sprintf("%s for another %s", what, strings.TrimSuffix(left.String(), "0s"))
}
