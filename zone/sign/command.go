package sign

import "time"

// The operator's commands. Each returns the new state, or an error with a hint and the state unchanged.

// SwitchOn begins to sign, with key 0 or the key that signed last. A zone that is going off stays signed instead; the
// parent is told again only after the caches had the time to see signatures everywhere.
func SwitchOn(s State, ring *Ring, c Clock) (State, error) {
	if s.Mode == On {
		return s, refuse("etcd-dns dnssec status", "the zone is signed already")
	}
	if s.Mode == Off || s.Mode == "" {
		// Signatures by a wrong clock would be bogus from the start.
		if !c.Plausible {
			return s, refuse("start the other nodes, or set the clock, for example with: chronyc makestep", "this node's clock says %s, and neither the other nodes nor a time service vouch for it",
				c.Now.UTC().Format(time.RFC3339))
		}
	}
	out := s.command()
	out.Mode, out.Announced = On, false
	if s.Signs() {
		return out, nil
	}
	out.Epoch = max(s.Epoch, EpochAt(c.Now))
	if !begun(out.Epoch, c.Now) {
		out.Epoch = EpochAt(c.Now)
	}
	if len(out.Keys) == 0 {
		k, err := ring.Key(0)
		if err != nil {
			return s, err
		}
		out.Keys = []KeyState{{Number: 0, Tag: k.Tag(), Phase: Active}}
	}
	out.Keys[0].Since = stamp(c.Now)
	return out, nil
}

// RollOver begins to replace the active key by the next one.
func RollOver(s State, ring *Ring, c Clock) (State, error) {
	switch {
	case s.Mode == GoingOff:
		return s, refuse("etcd-dns dnssec on, and then again: etcd-dns dnssec rollover", "signing is being switched off")
	case s.Mode != On:
		return s, refuse("etcd-dns dnssec on", "the zone is not signed")
	case len(s.Keys) > 1:
		return s, refuse("etcd-dns dnssec status", "a roll-over to key %d is under way", s.Keys[1].Number)
	}
	k, err := ring.Key(s.Keys[0].Number + 1)
	if err != nil {
		return s, err
	}
	out := s.command()
	out.Keys = append(out.Keys, KeyState{Number: k.Number(), Tag: k.Tag(), Phase: PrePublished, Since: stamp(c.Now)})
	return out, nil
}

// SwitchOff asks the parent to drop its DS. The zone stays signed until no validator can expect signatures.
func SwitchOff(s State) (State, error) {
	switch s.Mode {
	case On:
		out := s.command()
		out.Mode = GoingOff
		return out, nil
	case GoingOff:
		return s, refuse("etcd-dns dnssec status", "signing is being switched off already")
	}
	return s, refuse("etcd-dns dnssec status", "the zone is not signed")
}

// StopNow ends signing on a person's word that the parent has had no DS for longer than its TTL. f is what this node
// sees: a DS at the parent refutes that word.
func StopNow(s State, f Facts) (State, error) {
	if !s.Signs() {
		return s, refuse("etcd-dns dnssec status", "the zone is not signed")
	}
	if f.ParentHasDS {
		return s, refuse("remove the DS record at the parent, then: etcd-dns dnssec off", "the parent has a DS record; validators would find the zone bogus")
	}
	return s.command().stopped(), nil
}

// FinishNow ends a roll-over on a person's word that the parent has had the DS of the new key for longer than the TTL
// of the old one. Everything but the parent's view is still asked for.
func FinishNow(s State, f Facts, c Clock) (State, error) {
	active, _ := s.ActiveKey()
	if _, retiring := s.key(Retiring); s.Mode != On || !retiring {
		return s, refuse("etcd-dns dnssec status", "no roll-over waits for the parent")
	}
	if f.ParentHasDS && f.DS[active.Tag].IsZero() {
		return s, refuse("publish the DS record that etcd-dns dnssec status prints", "the parent has DS records, but none of key %d on all its servers", active.Number)
	}
	if !f.elapsed(f.Signing[active.Tag], f.ZoneTTL, c.Now) {
		return s, refuse("etcd-dns dnssec status", "not every name server has served the signatures of key %d for %s", active.Number, f.ZoneTTL)
	}
	return s.command().withdrawn(), nil
}

// command begins a new generation.
func (s State) command() State {
	out := s.Clone()
	out.Format = Format
	out.Commands++
	out.Steps = 0
	return out
}

// stopped is the state without signing. The active key is kept for the next time.
func (s State) stopped() State {
	k, _ := s.ActiveKey()
	s.Mode, s.Announced, s.DSTTL = Off, false, 0
	s.Keys = []KeyState{k}
	return s
}

// withdrawn is the state without the retiring key.
func (s State) withdrawn() State {
	k, _ := s.ActiveKey()
	s.Keys = []KeyState{k}
	return s
}

// stamp is a time as the state keeps it: equal on every node that reads it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
