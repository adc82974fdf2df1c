package srvboot

import (
	"fmt"
	"slices"
)

const hintNobodyServes = "start the other members; if a majority of them is lost, " + restoreBackup

// rowJoin stands for rows 16 to 19: this node may not start under an ID whose votes it may have lost, so it needs a new
// one. Who gives it one is for the leader's node to decide (Reconcile).
func rowJoin(s *situation) (Plan, bool) {
	if !s.empty() {
		return Plan{}, false
	}
	url := s.f.Home.peerURL()
	e, listed := s.listedURL()
	size, spare := s.full()
	switch {
	case s.lives == nil:
		return wait(19, "this node (data %s, phase %s) needs a living cluster to join, and no member serves", s.f.Disk.Data, s.phase).
			hint(hintNobodyServes).
			waitsFor(append(slices.Clone(s.silent), nodesOf(s.born)...)...), true
	case url == "":
		return Plan{Row: 16, Action: Idle, Hint: "add a line for it to the Corefile of every node: node " + s.f.Home.Node + " ADDRESS",
			Reason: fmt.Sprintf("the cluster lives on %s, and the Corefile has no place for %s", s.lives.Node, s.f.Home.Node)}, true
	case !listed && spare:
		p := s.ask(16, "", "%s", spareText(size))
		p.Spare, p.Hint = true, "to let it in all the same: etcd-dns member add "+s.f.Home.Node
		return p, true
	case !listed:
		return s.ask(16, "", "the cluster lives on %s and does not list %s", s.lives.Node, url), true
	case !e.IsLearner:
		return s.ask(18, e.ID, "voter %s has this node's peer URL, and this disk may have lost its votes (data %s, phase %s)",
			e.ID, s.f.Disk.Data, s.phase), true
	}
	if a, ok := s.admission(e); ok && slices.Contains(e.PeerURLs, url) {
		return Plan{Row: 17, Action: Enroll, MemberID: e.ID, Genesis: &a.Genesis,
			Reason: fmt.Sprintf("learner %s was added for this run of %s", e.ID, s.f.Home.Node)}, true
	}
	return s.ask(17, e.ID, "learner %s has this node's peer URL, and this disk does not hold it", e.ID), true
}

// ask is the plan to ask for membership. What the leader's node says against it is part of the reason.
func (s *situation) ask(row int, lost, format string, args ...any) Plan {
	p := Plan{Row: row, Action: Ask, Reason: fmt.Sprintf(format, args...), Claim: &Claim{PeerURL: s.f.Home.peerURL(), Lost: lost}}
	for _, a := range s.born {
		if m := a.State.Member; m == nil || m.Hung || m.Leader != m.ID { // what it said when it led is old
			continue
		}
		if why := a.State.Waits[s.f.Home.Node]; why != "" && why != p.Reason {
			p.Reason += fmt.Sprintf("; %s: %s", a.Node, why)
			break
		}
	}
	// After a restart that is the own last run for some seconds.
	if i := slices.IndexFunc(s.born, func(a Answer) bool { return hearsOf(a, lost) }); i >= 0 {
		p.Reason += fmt.Sprintf("; %s heard of that member within the last %d s", s.born[i].Node, quietFor)
		p.Hint = "if another machine runs under the name " + s.f.Home.Node + ", give this one a name of its own: name NAME, and a node line"
	}
	return p
}

// admission finds the word that the learner e was added for this run of this node. An ID that the marker knows already
// may have run, so it is not taken twice.
func (s *situation) admission(e MemberEntry) (Admission, bool) {
	for _, a := range s.born {
		adm := a.State.Admission
		if adm == nil || adm.Node != s.f.Home.Node || adm.Run != s.f.Run || adm.ID != e.ID || s.f.Run == "" {
			continue
		}
		if s.marker.MemberID != e.ID && adm.Genesis.same(a.State.Accepted.Genesis) {
			return *adm, true
		}
	}
	return Admission{}, false
}

// enrolled is the marker of a node that takes the ID of a new learner.
func enrolled(f Facts, p Plan, stamp string, device uint64) Marker {
	m := startMarker(f.Home, f.Disk.Marker)
	if m.Accepted == nil || !m.Accepted.Genesis.same(*p.Genesis) {
		m.Accepted = &Acceptance{Genesis: *p.Genesis}
	}
	m.Phase, m.MemberID, m.Learner, m.Stamp, m.EtcdDevice = Joining, p.MemberID, true, stamp, device
	return m
}
