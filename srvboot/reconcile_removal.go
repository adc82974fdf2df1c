package srvboot

import "slices"

// removal finishes what a person ordered: the tombstone is durable, the order's own attempt may have failed. It waits until as many have
// the tombstone as the order would have: else it might be forgotten, or a person may have taken it back at another node. What failed is tried
// again in turns with other removals, and with all other changes. It reports whether it did.
func (r *reconciler) removal() bool {
	var due []MemberEntry
	for _, e := range r.f.Self.Members {
		if !r.orderedOut(e) {
			continue
		}
		why, node := r.againstDue(e), entryNode(e)
		if why == "" {
			due = append(due, e)
			if i := r.refused(e); i >= 0 {
				why = r.f.Refused[i].Why
			}
		}
		if why != "" {
			r.wait(node, "a person removed it, and its member stays for now: %s; to take it back: etcd-dns member add %s", why, node)
		}
	}
	if len(due) == 0 || r.f.OthersTurn {
		return false
	}
	e := slices.MinFunc(due, func(a, b MemberEntry) int { return r.refused(a) - r.refused(b) })
	node := entryNode(e)
	if next, _ := r.heir(); e.ID == r.f.Self.ID {
		r.change(MoveLeader, next, node, "a person removed %s, which leads", node)
	} else {
		r.change(RemoveMember, e, node, "ordered: a person removed %s", node)
	}
	r.next.Ordered = e.ID
	return true
}

// againstDue says why a removal that was ordered cannot be tried.
func (r *reconciler) againstDue(e MemberEntry) string {
	if why := againstRemoval(r.f.Self, e); why != "" {
		return why
	}
	if !r.s.noted(r.f.Self, entryNode(e), r.f.LeadSince) {
		return tooFewHeard
	}
	if _, found := r.heir(); e.ID == r.f.Self.ID && !found {
		return "it leads, and no other voter is connected that could, and is to stay"
	}
	return ""
}

// heir is the successor among those that nobody ordered out.
func (r *reconciler) heir() (MemberEntry, bool) {
	self := r.f.Self
	self.Members = slices.DeleteFunc(slices.Clone(self.Members), r.orderedOut)
	return self.successor()
}

// orderedOut reports whether a person removed a member. One that came later is not meant.
func (r *reconciler) orderedOut(e MemberEntry) bool {
	t := r.f.Disk.Seen.word(r.f.Self.ClusterID, entryNode(e))
	return t.Removed && t.MemberID == e.ID
}

// refused is the place of a member among the removals that failed, -1 when it is not one of them.
func (r *reconciler) refused(e MemberEntry) int {
	return slices.IndexFunc(r.f.Refused, func(f Refusal) bool { return f.ID == e.ID })
}
