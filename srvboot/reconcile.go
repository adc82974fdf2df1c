package srvboot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The patience of the one who changes the membership (safety.md R10).
const (
	// quietFor is for how many seconds the leader must have heard nothing of a voter that is replaced.
	quietFor = 5
	// saveFrom is after how many of them a snapshot is taken, so that it is there when the others are over.
	saveFrom = 1
	// settleFor is how long no membership has changed before a voter is removed.
	settleFor = 10 * time.Second
	// snapshotLasts is how long ago a snapshot may have been complete when the voter is removed that it was taken for (R10 f). It holds
	// what was there when it was begun: how long it takes is a matter of the data.
	snapshotLasts = time.Minute
	// connectedFor is how long an answer counts that says whom a member is connected with; nodes ask each other every second.
	connectedFor = 3 * time.Second
	// otherMachine is how long a claim from another machine than the remembered one waits for a person.
	otherMachine = 5 * time.Minute
	// learnerLost is for how many seconds a learner may be silent before it is removed.
	learnerLost = 120
	// learnerPatience is how long a learner may take to come to vote while a voter is lost, which cannot be replaced beside it.
	learnerPatience = 10 * time.Minute
	// learnerKnown is how long a node has to learn that it was let in, before it counts that it does not hold what it was given.
	learnerKnown = 5 * time.Second
	// learnerLag is how many entries a learner may be behind when it is promoted, and promoteAfter how long it must have
	// been no further behind.
	learnerLag   = 1000
	promoteAfter = time.Second
)

// ChangeFacts are all that Reconcile looks at: what the raft leader's node knows.
type ChangeFacts struct {
	Facts
	// Self is the own member's last report.
	Self MemberState
	// LeadSince is since when the own member leads in this term.
	LeadSince time.Time
	// Refused are the removals by a person's word that failed, oldest first. OthersTurn says that the last step was one of them.
	Refused    []Refusal
	OthersTurn bool
	// ListSince is since when the own member's list is what it is; zero means that it is not known yet.
	ListSince time.Time
	// ClaimSince is since when a node claims a member without a break.
	ClaimSince map[string]time.Time
	// NearSince is since when a learner, by ID, has been close to the leader without a break.
	NearSince map[string]time.Time
	// Saved says for which member's removal a snapshot was taken within snapshotLasts; NoSnapshot why one could not be, a moment ago.
	Saved, NoSnapshot string
	// Manual leaves replacing to a person. Welcomed are the nodes that a person lets in.
	Manual   bool
	Welcomed []string
	// NotBefore says, by node, when one may be let in again whose learners had to be taken out.
	NotBefore map[string]time.Time
}

// Refusal is why a member could not be removed.
type Refusal struct{ ID, Why string }

// NextChange is what Reconcile answers.
type NextChange struct {
	// Change is the one step to take now; nil when there is none.
	Change *Change
	// Ordered is the member, by ID, whose removal by a person's word Change follows from; empty for another change.
	Ordered string
	// Save is set when a snapshot has to be taken first, for the removal of the member of that ID.
	Save string
	// Waits says, by node, why a claim or a learner has to wait; for people.
	Waits map[string]string
}

// Reconcile says how the membership of the cluster that this node's member leads is to change next. It looks at nothing
// but the facts. One step is taken at a time; the next one is derived anew from the list that it leads to. Learners come
// first, since etcd has one at a time and no voter is removed beside one.
func Reconcile(f ChangeFacts) NextChange {
	r := &reconciler{f: f, s: look(f.Facts), next: NextChange{Waits: map[string]string{}}}
	switch {
	case f.Self.ID == "" || f.Self.Leader != f.Self.ID || f.Self.IsLearner || r.s.genesis() == nil:
		return r.next
	case len(f.Self.Alarms) > 0:
		r.next.Waits[f.Home.Node] = "etcd has alarms: " + strings.Join(f.Self.Alarms, ", ")
		return r.next
	}
	if !r.removal() && !r.learner() && !r.replace() {
		r.join()
	}
	return r.next
}

type reconciler struct {
	f    ChangeFacts
	s    *situation
	next NextChange
}

func (r *reconciler) change(op ChangeOp, e MemberEntry, node, format string, args ...any) {
	c := &Change{Op: op, Term: r.f.Self.Term, ID: e.ID, Members: ListIDs(r.f.Self.Members), Node: node, Reason: fmt.Sprintf(format, args...)}
	if op == AddLearner {
		c.ID, c.PeerURL = "", e.PeerURLs[0]
	}
	r.next.Change = c
}

func (r *reconciler) wait(node, format string, args ...any) {
	r.next.Waits[node] = fmt.Sprintf(format, args...)
}

// answer is what a node that counts said last.
func (r *reconciler) answer(node string) (Answer, bool) {
	i := slices.IndexFunc(r.s.fresh, func(a Answer) bool { return a.Node == node })
	if i < 0 {
		return Answer{}, false
	}
	return r.s.fresh[i], true
}

func (r *reconciler) link(id string) (Link, bool) {
	i := slices.IndexFunc(r.f.Self.Links, func(l Link) bool { return l.ID == id })
	if i < 0 {
		return Link{}, false
	}
	return r.f.Self.Links[i], true
}

// learner sees to the learner, if there is one, and reports whether there is.
func (r *reconciler) learner() bool {
	i := slices.IndexFunc(r.f.Self.Members, func(e MemberEntry) bool { return e.IsLearner })
	if i < 0 {
		return false
	}
	e := r.f.Self.Members[i]
	node := entryNode(e)
	l, _ := r.link(e.ID)
	a, heard := r.answer(node)
	denied := heard && a.State.Claim != nil && a.State.Claim.Lost == e.ID
	waits := r.unready(e)
	lost, voter := r.behind(e)
	switch {
	case denied && (r.f.Now.Sub(r.f.ListSince) < learnerKnown || !a.Fresh(r.f.Now, connectedFor)):
		r.wait(node, "learner %s was added a moment ago, and %s may not know it yet", e.ID, node)
	case denied:
		r.change(RemoveMember, e, node, "%s does not hold the data of learner %s, and never will", node, e.ID)
	case l.Quiet >= learnerLost:
		r.change(RemoveMember, e, node, "learner %s has been silent for %d s", e.ID, l.Quiet)
	case waits == "":
		r.change(PromoteLearner, e, node, "learner %s is at index %d of %d", e.ID, l.Match, r.f.Self.Commit)
	case lost != "" && r.f.Now.Sub(r.f.ListSince) >= learnerPatience && r.unsaved(voter):
		r.next.Save = voter
	case lost != "" && r.f.Now.Sub(r.f.ListSince) >= learnerPatience:
		r.change(RemoveMember, e, node, "the voter of %s is lost and cannot be replaced beside a learner, and %s did not come to vote in %s: %s",
			lost, e.ID, learnerPatience, waits)
	default:
		r.wait(node, "%s", waits)
	}
	return true
}

// unready says why a learner is not promoted yet; empty when it can be.
func (r *reconciler) unready(e MemberEntry) string {
	node := entryNode(e)
	l, linked := r.link(e.ID)
	a, heard := r.answer(node)
	switch {
	case !linked || l.Match+learnerLag < r.f.Self.Commit || r.f.NearSince[e.ID].IsZero():
		return fmt.Sprintf("learner %s is at index %d of %d", e.ID, l.Match, r.f.Self.Commit)
	case r.f.Now.Sub(r.f.NearSince[e.ID]) < promoteAfter:
		return fmt.Sprintf("learner %s has just caught up", e.ID)
	case !heard || a.State.Member == nil || a.State.Member.ID != e.ID:
		return fmt.Sprintf("learner %s has caught up, but %s does not say that it runs there", e.ID, node)
	case !r.s.heardOf(r.f.Self, node, r.f.LeadSince): // a person may have had it removed, as long as another node led
		return tooFewSaid(OrderPromote, node)
	}
	return ""
}

// behind has those who ask wait for a learner, since etcd has one at a time. It names a node among them whose voter could be replaced,
// and that voter.
func (r *reconciler) behind(learner MemberEntry) (lost, voter string) {
	for _, a := range r.claims() {
		if learner.at(a.State.Claim.PeerURL) {
			continue
		}
		r.wait(a.Node, "learner %s of %s comes first", learner.ID, entryNode(learner))
		e, listed := r.claimed(a)
		if link, _ := r.link(e.ID); listed && lost == "" && link.Quiet >= quietFor && r.against(a, e) == "" {
			lost, voter = a.Node, e.ID
		}
	}
	return lost, voter
}

// unsaved reports whether a snapshot has to be taken before a voter is removed, and may be had.
func (r *reconciler) unsaved(voter string) bool { return r.f.Saved != voter && r.f.NoSnapshot == "" }

// claimed is the member whose place a node asks for.
func (r *reconciler) claimed(a Answer) (MemberEntry, bool) {
	i := slices.IndexFunc(r.f.Self.Members, func(e MemberEntry) bool { return e.at(a.State.Claim.PeerURL) })
	if i < 0 {
		return MemberEntry{}, false
	}
	return r.f.Self.Members[i], true
}

// claims are the nodes that ask for membership, in the order of their names.
func (r *reconciler) claims() (out []Answer) {
	for _, a := range r.s.fresh {
		if a.State.Claim != nil && a.State.Member == nil {
			out = append(out, a)
		}
	}
	return out
}

// replace removes a voter whose node has lost its data, when that is safe (R10). It reports whether it did or is about to.
func (r *reconciler) replace() bool {
	for _, a := range r.claims() {
		e, listed := r.claimed(a)
		if !listed {
			continue
		}
		why := r.against(a, e)
		link, _ := r.link(e.ID)
		switch {
		case why != "":
			r.wait(a.Node, "voter %s is not replaced yet: %s", e.ID, why)
			if why == unsettled {
				return true // whom one let in meanwhile would make it wait again
			}
		case link.Quiet >= saveFrom && r.unsaved(e.ID):
			r.next.Save = e.ID
			return true
		case link.Quiet < quietFor:
			r.wait(a.Node, "voter %s is not replaced yet: the leader heard of it within the last %d s", e.ID, quietFor)
			if link.Quiet >= saveFrom && r.f.NoSnapshot == "" {
				return true // it is the next: a snapshot for another one would take the place of its own
			}
		default:
			r.change(RemoveMember, e, a.Node, "%s proves that it does not hold the data of voter %s", a.Node, e.ID)
			return true
		}
	}
	return false
}

// against says what speaks against the removal of a voter whose node claims its place, but for what passes with its silence;
// empty when nothing does.
func (r *reconciler) against(a Answer, e MemberEntry) string {
	f := r.f
	n := voters(f.Self.Members)
	_, linked := r.link(e.ID)
	connected := r.connected(e.ID)
	remembered, by := r.remembered(a.Node, a.State.Machine)
	since, claimed := f.ClaimSince[a.Node]
	welcome := slices.Contains(f.Welcomed, a.Node)
	line, admitted := (Genesis{Members: f.Home.Admitted}).member(a.Node)
	switch {
	case e.ID == f.Self.ID || entryNode(e) != a.Node:
		return fmt.Sprintf("it is the member of %s", entryNode(e))
	case a.State.Claim.Lost != e.ID:
		return fmt.Sprintf("%s sees member %q there", a.Node, a.State.Claim.Lost)
	case !welcome && !admitted:
		return "no node line of this node's Corefile would let it in again; to let it in: etcd-dns member add " + a.Node
	case a.State.Claim.Retired && !welcome: // as for join: without it, half of a replacement
		return "it says that it was removed; to let it in again: etcd-dns member add " + a.Node
	case admitted && line.PeerURL != a.State.Claim.PeerURL:
		return otherPlace(a.State.Claim.PeerURL, line)
	case f.Manual && !welcome:
		return "the Corefile says replace manual; to let it in: etcd-dns member replace " + a.Node
	case !linked:
		return "the leader has no link to it yet"
	case n < 3:
		return fmt.Sprintf("a cluster of %d cannot lose a voter and take in another", n)
	case connected < quorum(n) || connected < quorum(n-1):
		return fmt.Sprintf("%d of the other voters are connected, %d are needed", connected, max(quorum(n), quorum(n-1)))
	case f.ListSince.IsZero() || f.Now.Sub(f.ListSince) < settleFor:
		return unsettled
	case r.connectedWith(e.ID) != "":
		return fmt.Sprintf("%s is still connected with it, so another machine runs under the name %s", r.connectedWith(e.ID), a.Node)
	case !welcome && r.unasked(e.ID) != "":
		return fmt.Sprintf("%s may still be connected with it, and does not say; if nothing runs there: etcd-dns member replace %s", r.unasked(e.ID), a.Node)
	case !welcome && remembered != "" && remembered != a.State.Machine && (!claimed || f.Now.Sub(since) < otherMachine):
		return fmt.Sprintf("%s is on machine %s now, and was on %s, as %s remembers: it is let in after %s, or at once by: etcd-dns member replace %s", a.Node, a.State.Machine,
			remembered, by, otherMachine, a.Node)
	case f.NoSnapshot != "" && !welcome: // a person may do without (safety.md R10)
		return "no snapshot could be taken: " + f.NoSnapshot
	}
	return ""
}

// unsettled is why a voter is not replaced while the members have just changed; it passes by itself.
var unsettled = fmt.Sprintf("the membership changed less than %s ago", settleFor)

// remembered is the machine on which a node's last member was seen, and by whom: this node or, if that has never heard of it, as
// on a new disk, the others, of whom one that saw it elsewhere than now comes first. Empty when nobody did.
func (r *reconciler) remembered(node, now string) (machine, by string) {
	if see := r.f.Disk.Seen.Nodes[node]; see.Machine != "" {
		return see.Machine, r.f.Home.Node
	}
	for _, a := range r.s.born {
		if see := a.State.Seen[node]; see.Machine != "" && (machine == "" || machine == now) {
			machine, by = see.Machine, a.Node
		}
	}
	return machine, by
}

// connected counts the voters that the leader hears, itself included, but for one.
func (r *reconciler) connected(but string) int {
	n := 1
	for _, l := range r.f.Self.Links {
		e, ok := (&living{List: r.f.Self.Members}).byID(l.ID)
		if ok && !e.IsLearner && l.ID != but && l.Quiet == 0 {
			n++
		}
	}
	return n
}

// connectedWith names a node whose member is connected with a voter; empty when nobody is. The leader's silence alone proves nothing:
// a wire may be cut between these two (R10 c).
func (r *reconciler) connectedWith(id string) string {
	for _, a := range r.s.fresh {
		if connects(a, id) {
			return a.Node
		}
	}
	return ""
}

// unasked names the node of a voter that the leader hears, and that cannot be asked whether it is connected with another one.
func (r *reconciler) unasked(id string) string {
	for _, e := range r.f.Self.Members {
		l, linked := r.link(e.ID)
		if e.IsLearner || e.ID == id || !linked || l.Quiet > 0 {
			continue
		}
		a, heard := r.answer(entryNode(e))
		if !heard || a.State.Member == nil || !a.Fresh(r.f.Now, connectedFor) {
			return entryNode(e)
		}
	}
	return ""
}

// otherPlace says that a node's Corefile has another place for it than this one's.
func otherPlace(peerURL string, line GenesisMember) string {
	return fmt.Sprintf("it asks for %s, and this node's Corefile gives it %s", peerURL, line.PeerURL)
}

func quorum(n int) int { return n/2 + 1 }

func voters(list []MemberEntry) (n int) {
	for _, e := range list {
		if !e.IsLearner {
			n++
		}
	}
	return n
}

// join adds the first node that asks, has no member and is admitted: by its line in the Corefile, unless it was removed, or
// by a person's word. Of a size, lines admit only up to it; it is the members in the list that count, not those that are well.
func (r *reconciler) join() {
	size := r.s.genesis().size(r.f.Home)
	for _, a := range r.formerFirst(r.claims()) {
		claim := a.State.Claim
		n, connected := voters(r.f.Self.Members), r.connected("")
		line, admitted := (Genesis{Members: r.f.Home.Admitted}).member(a.Node)
		_, listed := r.claimed(a)
		welcome := slices.Contains(r.f.Welcomed, a.Node)
		gone := claim.Retired || r.f.Disk.Seen.word(r.f.Self.ClusterID, a.Node).Removed
		switch {
		case listed:
		case gone && !welcome:
			r.wait(a.Node, "it was removed; to let it in again: etcd-dns member add %s", a.Node)
		case !admitted && !welcome:
			r.wait(a.Node, "no node line of this node's Corefile names %s", a.Node)
		case admitted && line.PeerURL != claim.PeerURL:
			r.wait(a.Node, "%s", otherPlace(claim.PeerURL, line))
		case size > 0 && n >= size && !welcome:
			r.wait(a.Node, "%s", spareText(size))
		case n > 1 && connected < quorum(n+1): // etcd refuses it (server/etcdserver/server.go mayAddMember)
			r.wait(a.Node, "a cluster of %d takes in another member while %d are connected, and %d are", n, quorum(n+1), connected)
		case r.f.Now.Before(r.f.NotBefore[a.Node]):
			r.wait(a.Node, "its last learners never came to run: the next one is added in %s; etcd-dns check, on %s; at once by: etcd-dns member add %s",
				r.f.NotBefore[a.Node].Sub(r.f.Now).Round(time.Second), a.Node, a.Node)
		case !r.s.heardOf(r.f.Self, a.Node, r.f.LeadSince): // a person may have had it removed, as long as another node led
			r.wait(a.Node, "%s", tooFewSaid(OrderAdd, a.Node))
		case !a.Asked.After(r.f.ListSince): // what changed may be what it asked for; others come after it
			r.wait(a.Node, "it has to ask once more, as the members have changed")
			return
		default:
			r.change(AddLearner, MemberEntry{PeerURLs: []string{claim.PeerURL}}, a.Node, "%s asks to join at %s", a.Node, claim.PeerURL)
			return
		}
	}
}

// formerFirst puts nodes before the others that had a member before: who lost its disk comes back in its own place, and no spare takes it.
func (r *reconciler) formerFirst(claims []Answer) []Answer {
	former := func(a Answer) int {
		if _, first := r.s.genesis().member(a.Node); first || r.f.Disk.Seen.Nodes[a.Node].MemberID != "" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(claims, func(a, b Answer) int { return former(a) - former(b) })
	return claims
}
