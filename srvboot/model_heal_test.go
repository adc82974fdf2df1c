package srvboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// key names a world.
func (w *mworld) key() string {
	var b strings.Builder
	for i := range w.slots {
		s := &w.slots[i]
		fmt.Fprint(&b, s.name, s.lives, s.up, s.member, s.patient, s.told, s.edited, s.ran, s.welcome, s.namesake != nil)
		keyDisk(&b, s.disk)
		if s.image != nil {
			keyDisk(&b, *s.image)
		}
		for _, name := range slices.Sorted(maps.Keys(s.answers)) {
			st := s.answers[name]
			fmt.Fprint(&b, name, st.Run, st.Phase, st.Quiet, st.Reached)
			if m := st.Member; m != nil {
				fmt.Fprint(&b, m.ID, m.Applied, m.Serving, m.Leader, len(m.Members))
			}
			if st.Claim != nil {
				fmt.Fprint(&b, *st.Claim)
			}
			if st.Admission != nil {
				b.WriteString(st.Admission.ID)
			}
			for _, see := range st.Seen {
				fmt.Fprint(&b, see)
			}
		}
		if s.admission != nil {
			b.WriteString(s.admission.ID + s.admission.Run)
		}
		if s.pending != nil {
			fmt.Fprint(&b, s.pending.Op, s.pending.ID, s.pending.PeerURL, s.pending.Members)
		}
		b.WriteByte('|')
	}
	fmt.Fprint(&b, w.acked, w.lead, w.cut, w.left, w.ghost)
	for _, l := range w.lists {
		fmt.Fprint(&b, l.at, ListIDs(l.list))
	}
	return b.String()
}

func keyDisk(b *strings.Builder, d mdisk) {
	fmt.Fprint(b, d.data, d.memberID, d.index, d.id, d.seen.Nodes, d.seen.Tombstones, d.knows)
	if d.marker != nil {
		fmt.Fprint(b, d.marker.Phase, d.marker.MemberID)
	}
}

// inspect checks the list: one learner at most, and no URL twice.
func (w *mworld) inspect() {
	urls, learners := map[string]bool{}, 0
	for _, e := range w.list() {
		if urls[e.PeerURLs[0]] {
			panic(violation{"P5: two members at " + e.PeerURLs[0], w.trail})
		}
		urls[e.PeerURLs[0]] = true
		if e.IsLearner {
			learners++
		}
	}
	if learners > 1 {
		panic(violation{"P5: two learners", w.trail})
	}
}

// heal mends the links, starts all machines, lets everything happen, and says what stands in the way of health (P9): with a
// quorum of disks every node ends as a voter that runs; without, each that waits names a command.
func (w *mworld) heal() string {
	c := w.clone("everything heals")
	c.left, c.cut = mbudget{lead: 1 << 20}, nil
	for i := range c.slots {
		c.slots[i].edited = false
		if !c.slots[i].up {
			c.begin(i)
		}
	}
	for range 24 {
		c = c.round()
	}
	quorate := c.intact() >= quorum(voters(c.list()))
	var stuck []string
	for i, s := range c.slots {
		e, listed := (&living{List: c.list()}).byID(s.disk.memberID)
		p := Decide(c.facts(i))
		switch {
		case s.member && listed && !e.IsLearner && c.leads() >= 0 && s.disk.index == c.acked:
		case quorate && !w.ghost.strange && !p.Spare && !s.disk.seen.Tombstones[s.name].Removed && p.Row != 7 && voters(c.list()) > 1:
			stuck = append(stuck, fmt.Sprintf("n%d (%s %s, member %v) row %d: %s: %s", i, s.name, s.disk.data, s.member, p.Row, p.Action, p.Reason))
		case !s.member && p.Spare && len(c.list()) >= c.m.genesis.Size:
		case w.ghost.strange: // two machines take turns in what the others hear, until a person ends one
		case !s.member && p.Hint == "" && !strings.Contains(p.Reason, "etcd-dns "):
			stuck = append(stuck, fmt.Sprintf("n%d names no command (%s %s) row %d: %s: %s", i, s.name, s.disk.data, p.Row, p.Action, p.Reason))
		}
	}
	if len(stuck) > 0 {
		stuck = append(stuck, fmt.Sprintf("lead %d, list %v, waits %v", c.leads(), c.list(), c.waitsOf()))
	}
	return strings.Join(stuck, "; ")
}

// round lets every slot do what it has to do.
func (w *mworld) round() *mworld {
	c := w
	try := func(n *mworld) {
		if n != nil {
			c = n
			c.inspect()
		}
	}
	for i := range c.slots {
		if c.leads() < 0 {
			try(c.elect(i, fmt.Sprintf("n%d is elected", i)))
		}
		try(c.waits(i))
		for range 4 {
			try(c.act(i))
		}
		try(c.told(i))
	}
	c = c.clone("followers catch up")
	c.catchUp()
	if l := c.leads(); l >= 0 {
		try(c.waits(l))
		if c.slots[l].pending == nil {
			try(c.derive(l))
		}
		try(c.commit(l, true))
	}
	return c
}

// intact counts the voters whose log exists and was not put back.
func (w *mworld) intact() (n int) {
	for _, e := range w.list() {
		if !e.IsLearner && !w.ghost.lost[e.ID] && !w.ghost.older[e.ID] {
			n++
		}
	}
	return n
}

// waitsOf says why the leader's node does nothing.
func (w *mworld) waitsOf() map[string]string {
	l := w.leads()
	if l < 0 {
		return nil
	}
	return w.m.mut.reconcile(w.changeFacts(l)).Waits
}
