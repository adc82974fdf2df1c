package srvboot

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

func (w *world) propose(i int, f Facts, impatient bool) *world {
	n := &w.nodes[i]
	p := Proposal{Facts: f, Round: n.round, Moved: modelTime, Timing: DefaultTiming(),
		NewID: func() string { return fmt.Sprintf("G-%s-%s-%d", f.Home.Node, f.Run, n.round.Ballot.N) }}
	if impatient {
		p.Round = nil
		p.Moved = modelTime.Add(-DefaultTiming().NextProposer * 10)
		w.left.ballot--
	}
	if w.m.mut.majority && p.Round != nil && len(p.Round.Promised) > w.m.n/2 {
		r := *p.Round
		r.Promised = maps.Clone(r.Promised) // whoever was not heard counts as one who promised, and accepted nothing before
		for name := range r.Runs {
			if _, ok := r.Promised[name]; !ok {
				r.Promised[name] = nil
			}
		}
		p.Round = &r
	}
	s := Propose(p)
	if s.Marker != nil {
		w.persist(i, *s.Marker)
	}
	n.round = s.Round
	for _, to := range slices.Sorted(maps.Keys(s.Prepare)) {
		req := s.Prepare[to]
		w.send(mmsg{from: i, to: index(to), run: w.run(i), prepare: &req})
	}
	for _, to := range slices.Sorted(maps.Keys(s.Accept)) {
		req := s.Accept[to]
		w.send(mmsg{from: i, to: index(to), run: w.run(i), accept: &req})
	}
	return w
}

func index(node string) int {
	i, _ := strconv.Atoi(node[1:])
	return i
}

func (w *world) send(m mmsg) {
	key := fmt.Sprintf("n%d>n%d ", m.from, m.to)
	if m.prepare != nil {
		key += fmt.Sprintf("Prepare %d by %s of %s", m.prepare.Ballot.N, m.prepare.Ballot.By, m.prepare.Run)
	} else {
		key += fmt.Sprintf("Accept %d by %s %s", m.accept.Ballot.N, m.accept.Ballot.By, m.accept.Genesis.ID)
	}
	if _, there := w.net[key]; there {
		return
	}
	w.net = maps.Clone(w.net)
	w.net[key] = m
}

// persist writes a marker; the mutant only says it.
func (w *world) persist(i int, m Marker) {
	n := &w.nodes[i]
	if w.m.mut.noPersist && m.Phase == Accepted {
		n.staged = &m
		return
	}
	n.marker, n.staged = &m, nil
}

// deliver hands a message over, and its reply if the sender still waits for it.
func (w *world) deliver(m mmsg, reply bool) *world {
	if !w.nodes[m.to].up || w.nodes[m.to].member {
		return nil
	}
	kind := "Prepare"
	if m.accept != nil {
		kind = "Accept"
	}
	c := w.clone(fmt.Sprintf("n%d's %s reaches n%d (%s), reply %v", m.from, kind, m.to, m.run, reply))
	move := c.handle(m)
	if move.OK && move.Save {
		c.persist(m.to, move.Marker)
	} else if !reply {
		return nil // a refusal without a reply changes nothing
	}
	from := &c.nodes[m.from]
	if !reply {
		return c
	}
	if !from.up || c.run(m.from) != m.run {
		return nil // the same as without a reply
	}
	answer := Reply{OK: move.OK, Reason: move.Reason, State: c.state(m.to)}
	c.heard(m.from, m.to, answer.State)
	if from.round != nil && m.prepare != nil {
		from.round = from.round.OnPromise(c.homeName(m.to), m.prepare.Ballot, answer)
	} else if from.round != nil {
		from.round = from.round.OnAccepted(c.homeName(m.to), m.accept.Ballot, answer)
	}
	return c
}

func (w *world) handle(m mmsg) Move {
	self := Self{Facts: w.facts(m.to), From: w.homeName(m.from)}
	mut := w.m.mut
	marker := startMarker(self.Home, self.Disk.Marker)
	switch {
	case m.prepare != nil:
		req := *m.prepare
		if mut.noRun {
			req.Run = self.Run
		}
		if !mut.noBallots || marker.Phase == Fresh {
			return OnPrepare(self, req)
		}
		old := marker.Promised // granted, but not kept
		marker.Promised = Ballot{}
		self.Disk.Marker = &marker
		move := OnPrepare(self, req)
		move.Marker.Promised = old
		return move
	case mut.noBallots:
		marker.Promised, marker.Accepted = m.accept.Ballot, nil
		self.Disk.Marker = &marker
	case mut.unpromised && !m.accept.Ballot.Less(marker.Promised):
		marker.Promised = m.accept.Ballot
		self.Disk.Marker = &marker
	}
	return OnAccept(self, *m.accept)
}

// faults are what may happen to node i and its disk.
func (w *world) faults(i int) []event[*world] {
	var out []event[*world]
	n := w.nodes[i]
	if n.up && w.left.crash > 0 {
		out = append(out, event[*world]{w.homeName(i) + " crashes", func() *world {
			c := w.clone(fmt.Sprintf("n%d crashes", i))
			c.left.crash--
			x := &c.nodes[i]
			x.up, x.member, x.answers, x.round, x.staged = false, false, nil, nil, nil
			return c
		}})
	}
	if !n.up {
		out = append(out, event[*world]{w.homeName(i) + " starts", func() *world {
			c := w.clone(fmt.Sprintf("n%d starts", i))
			c.nodes[i].up = true
			c.nodes[i].lives++
			return c
		}})
		if w.left.wipe > 0 {
			out = append(out, w.wipes(i)...)
		}
	}
	if w.left.edit > 0 {
		out = append(out, event[*world]{w.homeName(i) + " is edited", func() *world {
			c := w.clone(fmt.Sprintf("n%d's Corefile is edited", i))
			c.left.edit--
			c.nodes[i].edited = !n.edited
			return c
		}})
	}
	return out
}

func (w *world) wipes(i int) []event[*world] {
	n := w.nodes[i]
	var out []event[*world]
	lose := func(what string, f func(x *mnode)) {
		out = append(out, event[*world]{w.homeName(i) + " loses its " + what, func() *world {
			c := w.clone(fmt.Sprintf("n%d loses its %s", i, what))
			c.left.wipe--
			c.ghost.wiped = maps.Clone(w.ghost.wiped)
			if c.ghost.wiped == nil {
				c.ghost.wiped = map[int]bool{}
			}
			c.ghost.wiped[i] = true
			f(&c.nodes[i])
			return c
		}})
	}
	if n.marker != nil {
		lose("disk", func(x *mnode) { x.marker, x.data, x.cluster = nil, None, "" })
		lose("marker", func(x *mnode) {
			x.marker = nil
			if x.data == Stamped || x.data == Stub {
				x.data = Broken
			}
		})
	}
	if n.data != None {
		lose("etcd directory", func(x *mnode) { x.data, x.cluster = None, "" })
	}
	if n.data == HasMember || n.data == Stub {
		lose("log", func(x *mnode) { x.data, x.cluster = Broken, "" })
	}
	return out
}
