package srvboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// act decides and does one durable thing; a running member is watched.
func (w *mworld) act(i int) *mworld {
	f := w.facts(i)
	if w.slots[i].member {
		if why := look(f).runsOnOlderDisk(); why != "" {
			c := w.clone(fmt.Sprintf("n%d stops: %s", i, why))
			c.stops(i)
			return c
		}
		return nil
	}
	p := Decide(f)
	if w.m.mut.reuse && p.Action == Ask && p.Claim.Lost != "" {
		p = Plan{Row: p.Row, Action: Existing, MemberID: p.Claim.Lost, Genesis: &w.m.genesis}
	}
	c := w.clone(fmt.Sprintf("n%d (%s) row %d %s", i, w.slots[i].name, p.Row, p.Action))
	s := &c.slots[i]
	switch p.Action {
	case New, Existing:
		c.startsBlank(i, p)
	case Restart:
		c.starts(i)
	case Rebuild:
		m := rebuild(f)
		s.disk.marker = &m
	case SetAside:
		s.disk.data, s.disk.memberID, s.disk.index = None, "", 0
	case Retire:
		m := startMarker(f.Home, s.disk.marker)
		m.Phase = Removed
		s.disk = mdisk{marker: &m, data: None, id: s.disk.id, seen: s.disk.seen}
	case Enroll:
		m := enrolled(f, p, "stamp", 1)
		s.disk.marker, s.disk.data, s.disk.id.Index = &m, Stamped, 0
	default:
		return nil
	}
	return c
}

// startsBlank starts a member that has no log, by way of its stamp.
func (w *mworld) startsBlank(i int, p Plan) {
	s := &w.slots[i]
	id := p.MemberID
	if w.ghost.ran[id] {
		panic(violation{fmt.Sprintf("R3: n%d starts member %s without its log, and it may have voted", i, id), w.trail})
	}
	if p.Action == New && s.disk.marker.Phase == Accepted {
		m := bear(*s.disk.marker, 1)
		if s.disk.data == None {
			s.disk.data = Stamped
			return
		}
		s.disk.marker = &m
		return
	}
	if p.Action == Existing && (s.disk.marker == nil || s.disk.marker.Phase == Accepted) {
		m := startMarker(w.home(i), s.disk.marker)
		m.Phase, m.MemberID = Joining, id
		s.disk.marker, s.disk.data = &m, Stamped
		return
	}
	s.disk.data, s.disk.memberID, s.disk.index = Stub, id, 0
	if p.Action == New {
		w.hasLog(i, 1)
	}
	w.starts(i)
}

// hasLog is the member's log getting entries, up to an index.
func (w *mworld) hasLog(i int, index uint64) {
	s := &w.slots[i]
	s.disk.data, s.disk.index = HasMember, index
	m := *s.disk.marker
	m.Phase = Running
	if e, listed := (&living{List: w.listAt(index)}).byID(s.disk.memberID); listed && !e.IsLearner {
		m.Learner = false
	}
	s.disk.marker = &m
	if !w.ghost.ran[s.disk.memberID] {
		w.ghost.ran = maps.Clone(w.ghost.ran)
		w.ghost.ran[s.disk.memberID] = true
	}
}

func (w *mworld) starts(i int) {
	s := &w.slots[i]
	s.disk.id.MovedFrom = ""
	s.member = true
	for j, o := range w.slots {
		if j != i && o.member && o.disk.memberID == s.disk.memberID {
			panic(violation{fmt.Sprintf("P7: n%d and n%d both run member %s", i, j, s.disk.memberID), w.trail})
		}
	}
}

func (w *mworld) stops(i int) {
	w.slots[i].member = false
	if w.lead == i {
		w.lead = -1
	}
}

// elect makes a slot's member the leader, if it gets a quorum.
func (w *mworld) elect(i int, what string) *mworld {
	if s := w.slots[i]; !s.member || s.disk.data != HasMember || w.leads() == i {
		return nil
	}
	list := w.listAt(w.slots[i].disk.index)
	e, listed := (&living{List: list}).byID(w.slots[i].disk.memberID)
	if !listed || e.IsLearner || len(w.backers(i)) < quorum(voters(list)) {
		return nil
	}
	c := w.clone(what)
	for _, v := range w.backers(i) { // they have asked each other before
		for _, o := range w.backers(i) {
			if v != o {
				c.heard(v, o)
			}
		}
	}
	for _, v := range w.backers(i) {
		if stopped := c.act(v); stopped != nil {
			return stopped
		}
	}
	if c.slots[i].disk.index < c.acked && !c.forgotten(i) {
		return nil
	}
	c.lead = i
	c.catchUp()
	return c
}

// forgotten is a leader that lacks acknowledged entries. A disk that was put back may be the reason, but only if none of
// those who elect it saw that disk later. Such a history ends here: nobody could know.
func (w *mworld) forgotten(i int) bool {
	excuse := false
	for _, r := range w.backers(i) {
		older := w.slots[r].disk
		known := false
		for _, v := range w.backers(i) {
			known = known || v != r && w.slots[v].disk.knows[older.memberID] > older.index
		}
		excuse = excuse || w.ghost.older[older.memberID] && !known
	}
	if !excuse {
		panic(violation{fmt.Sprintf("P4: n%d leads without acknowledged writes: %d of %d", i, w.slots[i].disk.index, w.acked), w.trail})
	}
	return false
}

// catchUp has the followers and learners that are linked to the leader hold all entries.
func (w *mworld) catchUp(but ...int) (changed bool) {
	l := w.leads()
	if l < 0 {
		return false
	}
	for j, s := range w.slots {
		_, listed := (&living{List: w.list()}).byID(s.disk.memberID)
		if s.member && listed && w.links(l, j) && s.disk.index < w.acked && !slices.Contains(but, j) {
			w.hasLog(j, w.acked)
			changed = true
		}
	}
	return changed
}

// write acknowledges an entry that the leader and a quorum hold; one follower may miss it.
func (w *mworld) write(skip int) *mworld {
	l := w.leads()
	backers := w.backers(max(l, 0))
	if l < 0 || skip == l || w.left.write == 0 {
		return nil
	}
	if i := slices.Index(backers, skip); i >= 0 {
		if backers = slices.Delete(backers, i, i+1); len(backers) < quorum(voters(w.list())) {
			return nil
		}
	} else if skip >= 0 {
		return nil
	}
	c := w.clone(fmt.Sprintf("a write without n%d", skip))
	c.left.write--
	c.append(l, skip)
	return c
}

// append adds an entry; those who hold it remember each other.
func (w *mworld) append(l int, but ...int) {
	w.acked++
	w.slots[l].disk.index = w.acked
	w.catchUp(but...)
	for i := range w.slots {
		for j := range w.slots {
			if i != j && w.slots[i].member && w.slots[j].member && w.slots[i].disk.index == w.acked && w.slots[j].disk.index == w.acked && w.links(i, j) {
				w.remembers(i, w.state(j, w.slots[i].name))
			}
		}
	}
}

// derive lets the leader's node look at the membership.
func (w *mworld) derive(i int) *mworld {
	if w.lead != i || w.slots[i].pending != nil {
		return nil
	}
	f := w.changeFacts(i)
	next := w.m.mut.reconcile(f)
	if next.Save != "" {
		f.Saved = next.Save
		next = w.m.mut.reconcile(f)
	}
	if next.Change == nil {
		return nil
	}
	c := w.clone(fmt.Sprintf("n%d derives %s %s%s of %s", i, next.Change.Op, next.Change.ID, next.Change.PeerURL, next.Change.Node))
	next.Change.Members = ListIDs(w.self(i).Members)
	c.mayAsk(i, *next.Change)
	c.slots[i].pending = next.Change
	return c
}

// mayAsk checks that a removal is asked for only while the voters that are left can add another.
func (w *mworld) mayAsk(l int, ch Change) {
	old := w.self(l).Members
	e, _ := (&living{List: old}).byID(ch.ID)
	if ch.Op != RemoveMember || e.IsLearner || strings.HasPrefix(ch.Reason, "ordered") {
		return
	}
	left := slices.DeleteFunc(slices.Clone(old), func(m MemberEntry) bool { return m.ID == ch.ID })
	if n := len(w.running(l, left)); len(old) < 3 || n < quorum(len(old)) {
		panic(violation{fmt.Sprintf("P5: the removal of voter %s of %d is asked for while %d others run", ch.ID, len(old), n), w.trail})
	}
}

// changeFacts are those of a slot for Reconcile. All periods have passed.
func (w *mworld) changeFacts(i int) ChangeFacts {
	f := ChangeFacts{Facts: w.facts(i), Self: w.self(i), ListSince: modelTime.Add(-settleFor), ClaimSince: map[string]time.Time{}, NearSince: map[string]time.Time{},
		Welcomed: slices.DeleteFunc(slices.Clone(w.slots[i].welcome), func(n string) bool { return w.slots[i].disk.seen.Tombstones[n].Removed })}
	for name := range w.slots[i].answers {
		f.ClaimSince[name] = modelTime.Add(-otherMachine)
	}
	for _, l := range f.Self.Links {
		if l.Match+learnerLag >= f.Self.Commit {
			f.NearSince[l.ID] = modelTime.Add(-promoteAfter)
		}
	}
	return f
}

// commit has a change take effect; told says whether the one who asked for it hears so.
func (w *mworld) commit(i int, told bool) *mworld {
	ch := w.slots[i].pending
	if ch == nil {
		return nil
	}
	c := w.clone(fmt.Sprintf("%s %s%s of %s takes effect, n%d told %v", ch.Op, ch.ID, ch.PeerURL, ch.Node, i, told))
	s := &c.slots[i]
	if !w.m.mut.twoAtOnce || told {
		s.pending = nil
	}
	if w.leads() != i || !slices.Equal(ListIDs(w.list()), ch.Members) && !w.m.mut.twoAtOnce {
		return c
	}
	if ch.Op == MoveLeader {
		return c.handOver(ch.ID)
	}
	c.applies(i, *ch, told)
	return c
}

// handOver makes another member the leader, if it can be.
func (w *mworld) handOver(id string) *mworld {
	i := slices.IndexFunc(w.slots, func(s slot) bool { return s.member && s.disk.memberID == id })
	if i < 0 {
		return w
	}
	if c := w.elect(i, id+" is elected"); c != nil {
		return c
	}
	return w
}

// applies changes the list, and checks what must hold for every change.
func (w *mworld) applies(l int, ch Change, told bool) {
	old := w.list()
	bad := func(format string, args ...any) { panic(violation{"P5: " + fmt.Sprintf(format, args...), w.trail}) }
	e, listed := (&living{List: old}).byID(ch.ID)
	next := slices.Clone(old)
	switch {
	case ch.Op == AddLearner:
		if n := voters(old); n > 1 && len(w.backers(l)) < quorum(n+1) {
			return // etcd's own check
		}
		w.added++
		id := fmt.Sprintf("%016x", 0xadd0+w.added)
		if w.ghost.out[ch.Node] && len(w.ghost.older) == 0 { // an older disk may not know
			bad("%s was removed by a person, and is let in", ch.Node)
		}
		if size := w.m.genesis.Size; size > 0 && len(old) >= size && !slices.Contains(w.slots[l].welcome, ch.Node) {
			bad("%s is let in beyond the size of %d by no person", ch.Node, size)
		}
		next = append(next, MemberEntry{ID: id, PeerURLs: []string{ch.PeerURL}, IsLearner: true})
		if told {
			w.slots[l].admission = &Admission{Node: ch.Node, Run: w.slots[l].answers[ch.Node].Run, ID: id, Genesis: w.m.genesis}
		}
	case !listed:
		return
	case ch.Op == RemoveMember:
		next = slices.DeleteFunc(next, func(m MemberEntry) bool { return m.ID == ch.ID })
		if !e.IsLearner && !strings.HasPrefix(ch.Reason, "ordered") {
			w.removes(l, ch, next, bad)
		}
	case ch.Op == PromoteLearner:
		i := slices.IndexFunc(next, func(m MemberEntry) bool { return m.ID == ch.ID })
		next[i].IsLearner = false
		if !slices.ContainsFunc(w.slots, func(s slot) bool { return s.disk.memberID == ch.ID && s.disk.index+1 >= w.acked }) {
			bad("learner %s is promoted and does not hold the entries", ch.ID)
		}
	}
	if !slices.Equal(ListIDs(old), ch.Members) {
		bad("%s was derived from %v, and the list is %v", ch.Op, ch.Members, ListIDs(old))
	}
	w.append(l) // by the old list: a member that goes hears of it
	w.lists = append(slices.Clone(w.lists), mlist{w.acked, next})
}

// removes checks the removal of a voter without a person.
func (w *mworld) removes(l int, ch Change, next []MemberEntry, bad func(string, ...any)) {
	for j, s := range w.slots {
		switch {
		case s.disk.memberID != ch.ID || s.disk.data != HasMember:
		case s.member && w.links(l, j):
			bad("voter %s is removed, and it runs and is linked to the leader", ch.ID)
		case s.name == ch.Node && !w.ghost.strange && !w.ghost.older[ch.ID]:
			bad("voter %s is removed, and %s holds its data", ch.ID, s.name)
		}
	}
	if running := len(w.running(l, next)); running < quorum(voters(next)) || voters(next) < 2 {
		bad("voter %s is removed, and of the %d left %d run", ch.ID, voters(next), running)
	}
	if slices.ContainsFunc(next, func(m MemberEntry) bool { return m.IsLearner }) {
		bad("voter %s is removed beside a learner", ch.ID)
	}
}

// running are the slots that run a member of a list linked to the leader.
func (w *mworld) running(l int, list []MemberEntry) (out []int) {
	for j, s := range w.slots {
		if _, listed := (&living{List: list}).byID(s.disk.memberID); s.member && listed && w.links(l, j) {
			out = append(out, j)
		}
	}
	return out
}
