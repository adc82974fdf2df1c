package srvboot

import "fmt"

// A disk that was put back from an older image has forgotten votes and entries that its member gave away, so it is treated
// as wiped (safety.md R9). What tells it is the memory of the others, and of this node's own identity.json when only etcd/
// was put back.

// run is one run of a member as its node tells of it.
type run struct {
	memberID string
	life     uint64
	boot     string
	chain    []string
	reached  uint64
}

func (s State) run() run {
	r := run{life: s.Life, boot: s.Boot, chain: s.Chain, reached: s.Reached}
	if s.Member != nil {
		r.memberID = s.Member.ID
	}
	return r
}

// forgets says what of a sighting a run has no memory of; empty when it follows from it. Lives that are too long ago to
// be in the chain are passed over.
func (see Sighting) forgets(r run) string {
	if see.Boot == "" || see.MemberID != "" && see.MemberID != r.memberID {
		return ""
	}
	ago := r.life - see.Life
	switch {
	case see.Life > r.life:
		return fmt.Sprintf("life %d, this is life %d", see.Life, r.life)
	case ago == 0 && see.Boot != r.boot,
		ago > 0 && ago <= uint64(len(r.chain)) && see.Boot != r.chain[ago-1]:
		return fmt.Sprintf("another run %s as life %d than this disk remembers", see.Boot, see.Life)
	}
	return ""
}

// behind says that a run has not come as far as was seen; empty when it has. An index is kept only when it was reported
// five seconds ago and more, so it was in the log on disk, and logs do not get shorter.
func (see Sighting) behind(r run) string {
	if see.MemberID == "" || see.MemberID != r.memberID || see.Index <= r.reached {
		return ""
	}
	return fmt.Sprintf("it at index %d, and this log ends at %d", see.Index, r.reached)
}

// sighted is what is remembered of a node after its answer s. settled is the index that it reported at least five seconds
// ago, 0 for none. Only a member that runs can have voted, so nothing else is remembered.
func sighted(old Sighting, s State, settled uint64) Sighting {
	switch r := s.run(); {
	case r.memberID == "" || r.boot == "":
		return old
	case r.memberID != old.MemberID && old.MemberID != "":
		return Sighting{MemberID: r.memberID, Life: r.life, Boot: r.boot, Machine: s.Machine}
	case old.forgets(r) != "" || old.behind(r) != "":
		return old
	default:
		return Sighting{MemberID: r.memberID, Life: r.life, Boot: r.boot, Machine: s.Machine, Index: max(old.Index, settled)}
	}
}

// ownRun is this node's, whose member runs or would.
func (s *situation) ownRun() run {
	d := s.f.Disk
	return run{memberID: s.memberID(), life: d.Identity.Life, boot: d.Identity.Boot, chain: d.Identity.chain(), reached: d.LastIndex}
}

// rolledBack says who remembers more of this node's member than its disk does; empty when nobody does.
func (s *situation) rolledBack() string {
	data, own := s.f.Disk.Data, s.ownRun()
	ran := data == HasMember
	if !ran && data != Stamped && data != Stub && (data != None || s.phase != Accepted) || own.memberID == "" && !ran {
		return ""
	}
	if i := s.f.Disk.Identity.Index; (ran || data == Stub) && i > own.reached {
		return fmt.Sprintf("identity.json remembers index %d, and this log ends at %d", i, own.reached)
	}
	for _, a := range s.fresh {
		see, ok := a.State.Seen[s.f.Home.Node]
		if !ok {
			continue
		}
		if why := see.forgets(own); why != "" && own.boot != "" {
			return a.Node + " saw " + why
		}
		switch {
		case ran:
			if why := see.behind(own); why != "" {
				return a.Node + " saw " + why
			}
		// A member alone applies nothing but the entries of its own birth, one for each member.
		case see.MemberID == own.memberID && see.Index > s.atBirth():
			return fmt.Sprintf("%s saw member %s at index %d, and here it never ran", a.Node, own.memberID, see.Index)
		}
	}
	return ""
}

// runsOnOlderDisk says who remembers more of the member that runs here than the disk did that it was started on; the
// answers that tell came too late. What was seen of the present run says nothing.
func (s *situation) runsOnOlderDisk() string {
	own := s.ownRun()
	for _, a := range s.fresh {
		see := a.State.Seen[s.f.Home.Node]
		if see.MemberID == "" || see.MemberID != own.memberID || own.boot == "" {
			continue
		}
		if why := see.forgets(own); why != "" {
			return a.Node + " saw " + why
		}
		if why := see.behind(own); why != "" && see.Index > s.atBirth() {
			return a.Node + " saw " + why
		}
	}
	return ""
}

// atBirth is the index that a member of this node's genesis has before anything was written.
func (s *situation) atBirth() uint64 {
	if g := s.genesis(); g != nil {
		return uint64(len(g.Members))
	}
	return 0
}

// othersRolledBack names a node whose member runs on an older disk than this node remembers, and why. It stops when it
// hears what is remembered; until then no other member lends it a quorum.
func (s *situation) othersRolledBack() (node, why string) {
	for _, a := range s.born {
		see, r := s.f.Disk.Seen.Nodes[a.Node], a.State.run()
		if g := s.genesis(); r.memberID == "" || see.MemberID == "" || g != nil && !g.same(a.State.Accepted.Genesis) {
			continue
		}
		if why := see.forgets(r); why != "" {
			return a.Node, "this node saw " + why
		}
		if why := see.behind(r); why != "" {
			return a.Node, "this node saw " + why
		}
	}
	return "", ""
}
