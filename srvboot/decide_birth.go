package srvboot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rowContinueBirth is row 11.
func rowContinueBirth(s *situation) (Plan, bool) {
	if !s.empty() || (s.phase != Promised && s.phase != Accepted) || len(s.born) > 0 {
		return Plan{}, false
	}
	if _, decided := s.decided(); decided {
		return Plan{}, false
	}
	if p, blocked := s.birthBlocked(11); blocked {
		return p, true
	}
	return Plan{Row: 11, Action: Birth, Reason: fmt.Sprintf("genesis goes on: %s, ballot %d of %s",
		s.phase, s.marker.Promised.N, s.marker.Promised.Node())}, true
}

// rowAccepted is row 12.
func rowAccepted(s *situation) (Plan, bool) {
	if !s.empty() || s.phase != Accepted {
		return Plan{}, false
	}
	why, decided := s.decided()
	if !decided {
		return Plan{}, false
	}
	g, id := s.genesis(), s.memberID()
	changed := s.changedLists(*g)
	if len(changed) == 0 {
		return Plan{Row: 12, Action: New, Genesis: g, Members: g.Members, MemberID: id,
			Reason: fmt.Sprintf("genesis %s is born: %s", g.ID, why)}, true
	}
	if s.lives == nil {
		return wait(12, "the member list has changed since genesis %s, and no member serves it", g.ID).
			hint("etcd-dns status").waitsFor(changed...), true
	}
	if e, ok := s.lives.byID(id); ok {
		return Plan{Row: 12, Action: Existing, Genesis: g, Members: s.lives.members(), MemberID: e.ID, Reason: fmt.Sprintf(
			"genesis %s is born and its member list has changed; member %s is still this node's", g.ID, e.ID)}, true
	}
	return Plan{}, false // no longer listed: rows 16 to 18
}

// rowBorn is row 13.
func rowBorn(s *situation) (Plan, bool) {
	g := s.genesis()
	if s.f.Disk.Data != Stamped || s.phase != Born || g == nil {
		return Plan{}, false
	}
	return Plan{Row: 13, Action: New, Genesis: g, Members: g.Members, MemberID: s.memberID(),
		Reason: fmt.Sprintf("genesis %s is born, the member has not run yet", g.ID)}, true
}

// rowJoining is row 14. The stamp of phase joining proves that the ID never ran, as a learner or, after row 12, a voter.
func rowJoining(s *situation) (Plan, bool) {
	if s.f.Disk.Data != Stamped || s.phase != Joining || s.lives == nil {
		return Plan{}, false
	}
	e, ok := s.lives.byID(s.memberID())
	if !ok || !slices.Contains(e.PeerURLs, s.f.Home.peerURL()) {
		return Plan{}, false
	}
	return Plan{Row: 14, Action: Existing, Genesis: s.genesis(), Members: s.lives.members(), MemberID: e.ID,
		Reason: fmt.Sprintf("member %s is listed by %s and has not run yet", e.ID, s.lives.Node)}, true
}

// rowBlank is row 15.
func rowBlank(s *situation) (Plan, bool) {
	if s.f.Disk.Data != None || s.phase != Fresh || len(s.born) > 0 {
		return Plan{}, false
	}
	if p, blocked := s.birthBlocked(15); blocked {
		return p, true
	}
	if _, initial := (Genesis{Members: s.f.Home.Initial}).member(s.f.Home.Node); !initial {
		return wait(15, "%s is not an initial member, and the cluster is not born yet", s.f.Home.Node).
			waitsFor(memberNames(s.f.Home.Initial)...), true
	}
	if s.f.Home.Size > 0 {
		return Plan{Row: 15, Action: Birth, Reason: fmt.Sprintf("all that answer are blank and agree: %s; %d of %d become members: %s", strings.Join(memberNames(s.answering()), ", "),
			s.f.Home.Size, len(s.f.Home.Initial), strings.Join(memberNames(s.beginners()), ", "))}, true
	}
	return Plan{Row: 15, Action: Birth, Reason: fmt.Sprintf(
		"every node is blank and agrees: %s", strings.Join(s.askNames(), ", "))}, true
}

// birthBlocked says what stands in the way of birth by R1, the lasting obstacles first.
func (s *situation) birthBlocked(row int) (Plan, bool) {
	for _, check := range [...]func(*situation) (Plan, bool){
		ownGround, ownEvidence, permission, foreigners, abandonment, silence, othersEvidence, digests, excuses, readiness,
	} {
		if p, blocked := check(s); blocked {
			p.Row = row
			return p, true
		}
	}
	return Plan{}, false
}

const hintRestore = "for a new cluster, make a new bundle: etcd-dns init; for the old one, " + restoreBackup

// restoreBackup leads out where a majority of the disks is lost.
const restoreBackup = "restore a backup on every node as in docs/operations.md, A cluster that lost its quorum: etcd-dns etcdutl snapshot restore"

// hintPermit is for blank nodes that are late: nobody but a person knows whether they are new or were wiped.
const hintPermit = "if this cluster is new: etcd-dns recover birth --new; if it has lived before, " + restoreBackup

func ownGround(s *situation) (Plan, bool) {
	if s.f.Disk.Volatile == "" || s.f.Home.Ephemeral || s.phase != Fresh {
		return Plan{}, false
	}
	return wait(0, "the data directory is on %s, which does not outlive a power cut", s.f.Disk.Volatile).
		hint("put data on a disk, or allow it: ephemeral yes; after a reboot: " + hintRestore), true
}

func ownEvidence(s *situation) (Plan, bool) {
	if s.phase != Fresh || len(s.f.Disk.Evidence) == 0 {
		return Plan{}, false
	}
	return wait(0, "this disk speaks of an earlier life: %s", strings.Join(s.f.Disk.Evidence, ", ")).hint(hintRestore), true
}

// permission ends, so that a rack whose disks were all wiped later is not born empty under its old name. An accepted
// genesis may be finished whenever.
func permission(s *situation) (Plan, bool) {
	if s.anyAccepted() || s.f.Now.Before(s.f.birthUntil()) {
		return Plan{}, false
	}
	return wait(0, "the permission for birth ended at %s, it is %s",
		stamp(s.f.birthUntil()), stamp(s.f.Now)).hint(hintPermit), true
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func foreigners(s *situation) (Plan, bool) {
	if len(s.foreign) == 0 {
		return Plan{}, false
	}
	a := s.foreign[0]
	return wait(0, "%s holds bundle %q for srv-name %q, this node bundle %q for %q", a.Node,
		a.State.Bundle, a.State.SrvName, s.f.Home.Bundle, s.f.Home.SrvName).
		hint("give every node the same bundle, from one etcd-dns init").waitsFor(nodesOf(s.foreign)...), true
}

// abandonment is a genesis that some refuse for ever while others hold it: it goes neither forward nor back by itself.
func abandonment(s *situation) (Plan, bool) {
	for _, a := range s.fresh {
		by, id := a.Node, ""
		if g := s.genesis(); g != nil && slices.Contains(a.State.Abandoned, g.ID) {
			id = g.ID
		}
		if acc := a.State.Accepted; acc != nil && slices.Contains(s.marker.Abandoned, acc.Genesis.ID) {
			by, id = s.f.Home.Node, acc.Genesis.ID
		}
		if id != "" {
			return wait(0, "%s was told to refuse genesis %s for ever, and not every member was", by, id).
				hint("etcd-dns recover birth --abandon " + id).waitsFor(a.Node), true
		}
	}
	return Plan{}, false
}

func silence(s *situation) (Plan, bool) {
	names, why, hint := s.lacking()
	if len(names) == 0 {
		return Plan{}, false
	}
	parts := make([]string, 0, len(names))
	for _, n := range names {
		parts = append(parts, n+s.whySilent(n))
	}
	return wait(0, "%s; waiting for %s", why, strings.Join(parts, ", ")).hint(hint).waitsFor(names...), true
}

func (s *situation) whySilent(node string) string {
	a := s.f.Peers[node]
	switch {
	case a.Err != "":
		return " (" + a.Err + ")"
	case !a.At.IsZero():
		return fmt.Sprintf(" (silent for %s)", s.f.Now.Sub(a.At).Round(time.Second))
	case !slices.Contains(s.f.Home.Ask, node):
		return fmt.Sprintf(" (named by %s only)", strings.Join(s.namedBy(node), ", "))
	}
	return ""
}

// othersEvidence looks at all who cannot name a birth. One that was removed while it was blank knows of a cluster, and has accepted no genesis.
func othersEvidence(s *situation) (Plan, bool) {
	for _, a := range s.fresh {
		nameless := a.State.Phase.rank() == 0 || !a.State.Phase.unborn() && a.State.Accepted == nil
		if nameless && len(a.State.Evidence) > 0 && !s.isExcused(a.Node) {
			return wait(0, "%s speaks of an earlier life: %s", a.Node, strings.Join(a.State.Evidence, ", ")).
				hint("if " + a.Node + " comes from another cluster, move its data directory away; " + hintRestore).waitsFor(a.Node), true
		}
	}
	return Plan{}, false
}

func digests(s *situation) (Plan, bool) {
	own := s.digest()
	for _, a := range s.fresh {
		if a.State.Digest == own || s.isExcused(a.Node) {
			continue
		}
		if a.State.Size != s.f.Home.Size {
			return wait(0, "%s has size %d, this node %d (digest %.8s, ours %.8s; 0 is no size)", a.Node, a.State.Size, s.f.Home.Size, a.State.Digest, own).
				hint("put the same Corefile on every node").waitsFor(a.Node), true
		}
		return wait(0, "%s has other initial members or peer URLs (digest %.8s, ours %.8s): there %s, here %s", a.Node,
			a.State.Digest, own, listing(a.State.Initial), listing(s.f.Home.Initial)).
			hint("put the same Corefile on every node").waitsFor(a.Node), true
	}
	return Plan{}, false
}

func listing(members []GenesisMember) string {
	parts := make([]string, 0, len(members))
	for _, m := range sortedMembers(members) {
		parts = append(parts, m.Name+"="+m.PeerURL)
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func excuses(s *situation) (Plan, bool) {
	own := sortedNames(s.marker.Excused)
	for _, a := range s.fresh {
		if s.isExcused(a.Node) || slices.Equal(own, sortedNames(a.State.Excused)) {
			continue
		}
		if slices.Contains(a.State.Excused, s.f.Home.Node) {
			return wait(0, "a person had birth go on without this node (%s says so): it joins when the cluster is born", a.Node).
				waitsFor(a.Node), true
		}
		return wait(0, "%s excuses [%s] from birth, this node [%s]", a.Node,
			strings.Join(a.State.Excused, " "), strings.Join(own, " ")).
			hint("etcd-dns recover birth" + withoutFlags(sortedNames(append(slices.Clone(own), a.State.Excused...)))).waitsFor(a.Node), true
	}
	return Plan{}, false
}

func readiness(s *situation) (Plan, bool) {
	for _, a := range s.fresh {
		if !a.State.Ready && !s.isExcused(a.Node) {
			return wait(0, "%s is not ready: %s", a.Node, strings.Join(a.State.NotReady, "; ")).
				hint("etcd-dns check, on " + a.Node).waitsFor(a.Node), true
		}
	}
	return Plan{}, false
}
