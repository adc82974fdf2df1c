package srvboot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// FreshFor is how long an answer counts. An older one is silence, and silence is never absence.
const FreshFor = 10 * time.Second

// Decide says what this node does next. It looks at nothing but the facts, and the first matching row of the table
// decides. It has an answer for every combination of facts. New appears in rows 10, 12 and 13 only, Birth in rows 11
// and 15 only: starting as new is never a fallback.
func Decide(f Facts) Plan {
	s := look(f)
	for _, row := range [...]func(*situation) (Plan, bool){
		rowMemoryUnusable, rowNamesake, rowSuccessor, rowAlien, rowBroken, rowUnmounted, rowRemoved, rowRolledBack,
		rowMember, rowStub, rowContinueBirth, rowAccepted, rowBorn, rowJoining, rowBlank, rowJoin,
	} {
		if p, ok := row(s); ok {
			return s.checked(p)
		}
	}
	return wait(20, "nothing else matches: data %s, phase %s, %d fresh answers", f.Disk.Data, s.phase, len(s.fresh))
}

// checked turns a start into waiting while a pre-flight check fails.
func (s *situation) checked(p Plan) Plan {
	starts := p.Action == New || p.Action == Restart || p.Action == Existing || p.Action == Birth || p.Action == Ask
	if !starts || len(s.f.Preflight) == 0 {
		return s.spawnable(p)
	}
	return Plan{
		Row: p.Row, Action: Wait, Hint: "etcd-dns check",
		Reason: fmt.Sprintf("%s, but these checks fail: %s", p.Reason, strings.Join(s.f.Preflight, "; ")),
	}
}

func wait(row int, format string, args ...any) Plan {
	return Plan{Row: row, Action: Wait, Reason: fmt.Sprintf(format, args...)}
}

func refuse(row int, hint, format string, args ...any) (Plan, bool) {
	return Plan{Row: row, Action: Refuse, Hint: hint, Reason: fmt.Sprintf(format, args...)}, true
}

func (p Plan) hint(h string) Plan { p.Hint = h; return p }

func (p Plan) waitsFor(names ...string) Plan { p.For = sortedNames(names); return p }

// rowMemoryUnusable is row 1.
func rowMemoryUnusable(s *situation) (Plan, bool) {
	if e := s.f.Disk.MemoryError; e != "" {
		return refuse(1, cmp.Or(s.f.Disk.MemoryHint, hintDamaged), "this node's memory cannot be used: %s", e)
	}
	if e := foreignMarker(s.f.Home, s.f.Disk.Marker); e != "" {
		return refuse(1, hintForeign, "genesis.json is %s", e)
	}
	return Plan{}, false
}

// foreignMarker says of whom or what a marker is when it is not this node's.
func foreignMarker(h Home, m *Marker) string {
	switch {
	case m == nil:
		return ""
	case m.Format > Format:
		return fmt.Sprintf("of format %d, this version reads up to %d", m.Format, Format)
	case m.Node != h.Node:
		return fmt.Sprintf("of node %q, this node is %q", m.Node, h.Node)
	case m.Bundle != h.Bundle:
		return fmt.Sprintf("of bundle %q, this node has %q", m.Bundle, h.Bundle)
	case m.SrvName != h.SrvName:
		return fmt.Sprintf("of srv-name %q, this node is configured for %q", m.SrvName, h.SrvName)
	}
	return ""
}

// rowNamesake is row 2. A node whose member runs does not decide, so it is the newcomer that yields.
func rowNamesake(s *situation) (Plan, bool) {
	a := s.f.Namesake
	if !a.Fresh(s.f.Now, FreshFor) || s.f.Run == "" || a.State.Run == "" || a.State.Run == s.f.Run {
		return Plan{}, false
	}
	return refuse(2, "give this node a name of its own: name NAME",
		"another process answers as %q: life %d on machine %s, this one is life %d on machine %s",
		s.f.Home.Node, a.State.Life, a.State.Machine, s.f.Disk.Identity.Life, s.f.Disk.Identity.Machine)
}

// rowSuccessor is row 3.
func rowSuccessor(s *situation) (Plan, bool) {
	const hint = "keep this data until the recovered cluster is checked: etcd-dns etcdctl endpoint status --cluster; then stop etcd-dns, move its data directory away, start it: it joins as a blank node"
	if s.phase == FencedOff {
		return Plan{Row: 3, Action: Idle, Hint: hint,
			Reason: "this node was fenced: its cluster was recovered elsewhere, its data is kept"}, true
	}
	own := s.genesis()
	if own == nil || s.phase.unborn() {
		return Plan{}, false
	}
	for _, a := range s.born {
		if g := a.State.Accepted.Genesis; g.Generation > own.Generation && !g.same(*own) {
			return Plan{Row: 3, Action: StopMember, Hint: hint, Reason: fmt.Sprintf(
				"%s runs genesis %s of generation %d, which succeeds ours, %s of generation %d",
				a.Node, g.ID, g.Generation, own.ID, own.Generation)}, true
		}
	}
	return Plan{}, false
}

// rowAlien is row 4.
func rowAlien(s *situation) (Plan, bool) {
	d := s.f.Disk
	if d.Data != Alien {
		return Plan{}, false
	}
	want, cluster := "no known member", "none"
	if m := d.Marker; m != nil && m.MemberID != "" {
		want = m.MemberID
	}
	if g := s.genesis(); g != nil {
		cluster = g.ClusterID
	}
	return refuse(4, "move etcd/ back to the node it belongs to, and this node's own etcd/ here",
		"etcd/ is that of member %s of cluster %s, this node is member %s of cluster %s",
		d.MemberID, d.ClusterID, want, cluster)
}

// rowBroken is row 5, and row 10 for a stub that proves nothing.
func rowBroken(s *situation) (Plan, bool) {
	if s.f.Disk.Data != Broken {
		return Plan{}, false
	}
	what := "etcd/ has neither a usable log nor is it empty"
	if why := s.f.Disk.Why; why != "" {
		what += ": " + why
	}
	return s.broken(5, what), true
}

func (s *situation) broken(row int, what string) Plan {
	if s.lives == nil {
		return wait(row, "%s, and no member serves a member list that would let this node be replaced", what).
			hint("restore etcd/ from this node's backup; what another node knows of the cluster: etcd-dns status").waitsFor(s.silent...)
	}
	return Plan{Row: row, Action: SetAside, Reason: fmt.Sprintf("%s; %s serves the cluster", what, s.lives.Node)}
}

// rowUnmounted is row 6.
func rowUnmounted(s *situation) (Plan, bool) {
	d := s.f.Disk
	started := s.phase == Born || s.phase == Running || s.phase == Joining
	if d.Data != None || !started || !d.DeviceChanged || s.f.DiskReplaced {
		return Plan{}, false
	}
	return wait(6, "etcd/ is empty and on another device than the member of this %s node: is its disk mounted?", s.phase).
		hint("mount the disk, or say that it was replaced: etcd-dns run --disk-replaced"), true
}

// rowRemoved is row 7. A list that lacks this node's member proves its removal only if it is later than the member's own
// addition: it was applied at an index that this node has been beyond, or etcd itself told the member. A person's word alone proves nothing
// while nobody serves a list: it may not have been carried out, and be taken back.
func rowRemoved(s *situation) (Plan, bool) {
	e, listed := s.listedURL()
	const hint = "etcd-dns member add "
	buried := s.empty() && s.buried()
	if s.phase != Removed && buried && s.lives == nil {
		return wait(7, "a person removed %s, and no member serves that says whether that was taken back", s.f.Home.Node).
			hint(hintNobodyServes).waitsFor(append(slices.Clone(s.silent), nodesOf(s.born)...)...), true
	}
	stands := listed && e.ID == s.ownWord().MemberID // its removal, which may be taken back
	gone := s.phase == Removed || buried && !stands
	// A node may die after its member's log has entries, and before it notes that the member runs.
	ran := s.f.Disk.Data == HasMember && started(s.phase) || s.f.Disk.Data == Stub && s.phase == Joining
	if id := s.memberID(); ran && s.lives != nil && id != "" {
		_, known := s.lives.byID(id)
		reached := s.f.Disk.Identity.Index
		gone = gone || !known && (s.f.ToldRemoved || reached > 0 && s.lives.Applied > reached)
	}
	if listed && s.empty() {
		_, admitted := s.admission(e)
		gone = gone && !admitted
	}
	if !gone {
		return Plan{}, false
	}
	// A learner has promised nothing, and its successor at this node's URL may have been added for this node.
	learner := s.marker.Learner && s.phase != Removed && !s.buried() && ran
	// A learner there may have been added for the last run of this node, and has no vote: the claim says that it is not here.
	if own := s.memberID(); listed && own != "" && e.ID != own && !e.IsLearner {
		return refuse(7, "if that member is on another machine, give this one a name of its own; if its data is lost: etcd-dns member remove "+
			s.f.Home.Node+", then "+hint+s.f.Home.Node, "%s is the peer URL of member %s now, this node was member %s",
			s.f.Home.peerURL(), e.ID, s.memberID())
	}
	if learner {
		return Plan{Row: 7, Action: SetAside, Reason: fmt.Sprintf("learner %s was removed from its cluster before it had a vote; this node asks again",
			s.memberID())}, true
	}
	p := Plan{Row: 7, Action: Idle, Hint: hint + s.f.Home.Node, Reason: s.f.Home.Node + " was removed from its cluster"}
	if own := s.memberID(); own != "" {
		p.Reason = fmt.Sprintf("member %s was removed from its cluster", own)
	}
	switch url := s.f.Home.peerURL(); {
	case s.phase != Removed || s.f.Disk.Data != None:
		p.Action = Retire
	case url != "":
		p.Claim = &Claim{PeerURL: url, Retired: true, Lost: e.ID} // one that is still listed is replaced if a person takes its removal back
	}
	return p, true
}

// rowRolledBack is row 8. Besides a member's data it guards every start as new: an old image of a disk on which the
// member had not run yet looks as if it never ran.
func rowRolledBack(s *situation) (Plan, bool) {
	why := s.rolledBack()
	if why == "" {
		return Plan{}, false
	}
	const older = "this disk is older than what was seen of this node: %s"
	if s.lives == nil {
		return wait(8, older, why).hint(s.hintOlder()).waitsFor(s.silent...), true
	}
	if p, ok := rowJoin(s); ok { // nothing in etcd/ to keep
		p.Row, p.Reason = 8, fmt.Sprintf(older+"; %s", why, p.Reason)
		return p, true
	}
	return Plan{Row: 8, Action: SetAside, Reason: fmt.Sprintf(older+"; %s serves the cluster", why, s.lives.Node)}, true
}

// hintOlder is what leads out for a disk that is older than what was seen. A single member has nobody to ask.
func (s *situation) hintOlder() string {
	if len(s.electorate()) < 2 {
		return "put the latest etcd/ back; to go on from the older data: rm identity.json in the data directory"
	}
	return "put the latest disk back, or start the other members; if the latest disk of a majority is lost, " + restoreBackup
}

// rowMember is row 9: data that nothing speaks against is restarted, whether or not anybody else answers.
func rowMember(s *situation) (Plan, bool) {
	d := s.f.Disk
	if d.Data != HasMember {
		return Plan{}, false
	}
	if owner := s.otherOwner(); owner != "" {
		return refuse(4, "move etcd/ back to the node it belongs to, and this node's own etcd/ here; if that is lost: mv etcd etcd.aside",
			"etcd/ is that of member %s of cluster %s, which is the member of %s", d.MemberID, d.ClusterID, owner)
	}
	if d.Marker != nil {
		return Plan{Row: 9, Action: Restart, MemberID: d.MemberID, Genesis: s.genesis(),
			Reason: fmt.Sprintf("etcd/ holds member %s of cluster %s", d.MemberID, d.ClusterID)}, true
	}
	for _, a := range s.born {
		if g := a.State.Accepted.Genesis; g.ClusterID != d.ClusterID {
			return refuse(9, "set etcd/ aside with: mv etcd etcd.aside; or give this node the data directory that it had",
				"genesis.json is missing, etcd/ is of cluster %s, but %s runs cluster %s", d.ClusterID, a.Node, g.ClusterID)
		}
	}
	return Plan{Row: 9, Action: Rebuild, MemberID: d.MemberID, Reason: fmt.Sprintf(
		"genesis.json is missing, etcd/ holds member %s of cluster %s", d.MemberID, d.ClusterID)}, true
}

// otherOwner names the node whose member the log is of, by what those say who are in the cluster, if that is another node than this one.
// Without genesis.json, and by one that was made of the log and so names no stamp, the IDs in a log match whatever they are; and two
// machines must never run one member. It is empty when nobody says so.
func (s *situation) otherOwner() string {
	if s.marker.Stamp != "" {
		return ""
	}
	id := s.f.Disk.MemberID
	for _, a := range s.born {
		if m := a.State.Member; m != nil {
			if m.ID == id {
				return a.Node
			}
			// Old or new, a list says whose an ID is.
			if e, ok := (&living{List: m.Members}).byID(id); ok && entryNode(e) != s.f.Home.Node {
				return entryNode(e)
			}
		}
		g := a.State.Accepted.Genesis
		_, ids, err := IDs(g.Members, g.ID)
		if err != nil {
			continue // a marker that was rebuilt knows no members
		}
		for _, node := range slices.Sorted(maps.Keys(ids)) {
			if ids[node] == id && node != s.f.Home.Node {
				return node
			}
		}
	}
	return ""
}

// rowStub is row 10: a log without entry and hard state proves that its member never voted.
func rowStub(s *situation) (Plan, bool) {
	if s.f.Disk.Data != Stub {
		return Plan{}, false
	}
	switch g := s.genesis(); {
	case s.phase == Born && g != nil:
		return Plan{Row: 10, Action: New, Genesis: g, Members: g.Members, MemberID: s.memberID(),
			Reason: fmt.Sprintf("genesis %s is born, the member's first start was cut off before it wrote anything", g.ID)}, true
	case s.phase == Accepted:
		return Plan{Row: 10, Action: SetAside, Reason: "the member's log was begun and holds nothing"}, true
	case s.phase == Joining:
		return Plan{Row: 10, Action: Restart, MemberID: s.memberID(), Genesis: g,
			Reason: fmt.Sprintf("member %s is joining, its log was begun", s.memberID())}, true
	}
	return s.broken(10, fmt.Sprintf("etcd/ holds an empty log, which does not go with phase %s", s.phase)), true
}
