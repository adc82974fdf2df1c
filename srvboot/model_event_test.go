package srvboot

import (
	"fmt"
	"maps"
	"slices"
)

// events are all that may happen next.
func (w *mworld) events() (out []event[*mworld]) {
	add := func(do func() *mworld, format string, args ...any) {
		out = append(out, event[*mworld]{fmt.Sprintf(format, args...), do})
	}
	for i, s := range w.slots {
		if s.up {
			w.asks(i, add)
			add(func() *mworld { return w.act(i) }, "n%d acts", i)
			add(func() *mworld { return w.waits(i) }, "n%d waits", i)
			add(func() *mworld { return w.derive(i) }, "n%d derives", i)
			add(func() *mworld { return w.commit(i, true) }, "n%d's change takes effect", i)
			add(func() *mworld { return w.commit(i, false) }, "n%d's change takes effect untold", i)
			add(func() *mworld { return w.told(i) }, "n%d is told", i)
			if w.leads() < 0 || w.left.lead > 0 {
				add(func() *mworld {
					c := w.elect(i, fmt.Sprintf("n%d is elected", i))
					if c != nil && w.leads() >= 0 {
						c.left.lead--
					}
					return c
				}, "n%d is elected", i)
			}
			w.orders(i, add)
		}
		w.faults(i, add)
	}
	add(func() *mworld {
		c := w.clone("followers catch up")
		if !c.catchUp() {
			return nil
		}
		return c
	}, "catch up")
	for skip := -1; skip < len(w.slots); skip++ {
		add(func() *mworld { return w.write(skip) }, "write without n%d", skip)
	}
	return out
}

type adder func(do func() *mworld, format string, args ...any)

func (w *mworld) asks(i int, add adder) {
	if !w.m.loose {
		add(func() *mworld { c := w.clone(fmt.Sprintf("n%d asks all", i)); c.askAll(i); return c }, "n%d asks all", i)
		return
	}
	for j := range w.slots {
		if j != i && w.slots[j].up && w.reaches(i, j) {
			add(func() *mworld { c := w.clone(fmt.Sprintf("n%d asks n%d", i, j)); c.heard(i, j); return c }, "n%d asks n%d", i, j)
		}
	}
}

// waits has ten seconds pass at a slot: whoever can be heard is heard, and what others said counts no more.
func (w *mworld) waits(i int) *mworld {
	c := w.clone(fmt.Sprintf("n%d waits", i))
	s := &c.slots[i]
	s.patient, s.namesake, s.answers, s.ran = true, nil, nil, nil
	c.askAll(i)
	return c
}

// told has a member that was removed hear so.
func (w *mworld) told(i int) *mworld {
	s := w.slots[i]
	if _, listed := (&living{List: w.list()}).byID(s.disk.memberID); listed || !s.member || w.leads() < 0 || !w.links(i, w.leads()) {
		return nil
	}
	c := w.clone(fmt.Sprintf("n%d is told that it was removed", i))
	c.stops(i)
	c.slots[i].told = true
	return c
}

// orders are a person's words, given where the leader is.
func (w *mworld) orders(i int, add adder) {
	if w.left.order == 0 || w.leads() != i {
		return
	}
	for _, h := range w.m.homes {
		name := h.Node
		add(func() *mworld {
			self := w.self(i)
			e, listed := listedNode(self.Members, name)
			if name == w.slots[i].name || listed && againstRemoval(self, e) != "" {
				return nil
			}
			c := w.clone(fmt.Sprintf("a person removes %s", name))
			c.left.order--
			c.buries(i, name, true)
			if listed {
				c.slots[i].pending = &Change{Op: RemoveMember, ID: e.ID, Members: ListIDs(self.Members), Node: name, Reason: "ordered"}
			}
			return c
		}, "a person removes %s", name)
		add(func() *mworld {
			if _, listed := listedNode(w.self(i).Members, name); listed {
				return nil
			}
			c := w.clone(fmt.Sprintf("a person adds %s", name))
			c.left.order--
			c.buries(i, name, false)
			c.slots[i].welcome = append(slices.Clone(c.slots[i].welcome), name)
			return c
		}, "a person adds %s", name)
	}
}

// buries writes a person's word down. Whoever is linked has heard of it a second later.
func (w *mworld) buries(i int, name string, removed bool) {
	e, _ := listedNode(w.self(i).Members, name)
	word := map[string]Tombstone{name: {Count: w.slots[i].disk.seen.Tombstones[name].Count + 1, Removed: removed, ClusterID: w.m.genesis.ClusterID, MemberID: e.ID}}
	for j := range w.slots {
		if w.links(i, j) {
			merged, _ := withTombstones(w.slots[j].disk.seen.Tombstones, word)
			w.slots[j].disk.seen.Tombstones = merged
		}
	}
	w.ghost.out = maps.Clone(w.ghost.out)
	if w.ghost.out == nil {
		w.ghost.out = map[string]bool{}
	}
	w.ghost.out[name] = removed
}

// faults are what may happen to a machine, its disk and its links.
func (w *mworld) faults(i int, add adder) {
	s := w.slots[i]
	fault := func(budget func(*mbudget) *int, what string, do func(c *mworld, x *slot)) {
		if left := w.left; *budget(&left) == 0 {
			return
		}
		add(func() *mworld {
			c := w.clone(fmt.Sprintf("n%d %s", i, what))
			*budget(&c.left)--
			do(c, &c.slots[i])
			return c
		}, "n%d %s", i, what)
	}
	crash, wipe, image := func(b *mbudget) *int { return &b.crash }, func(b *mbudget) *int { return &b.wipe }, func(b *mbudget) *int { return &b.image }
	if s.up {
		fault(crash, "crashes", func(c *mworld, x *slot) {
			c.stops(i)
			*x = slot{name: x.name, machine: x.machine, disk: x.disk, image: x.image, lives: x.lives, edited: x.edited}
		})
		fault(func(b *mbudget) *int { return &b.edit }, "is edited", func(_ *mworld, x *slot) { x.edited = !x.edited })
	} else {
		add(func() *mworld { c := w.clone(fmt.Sprintf("n%d starts", i)); c.begin(i); return c }, "n%d starts", i)
		if s.disk.marker != nil {
			fault(wipe, "loses its disk", func(c *mworld, x *slot) { c.loses(x, mdisk{data: None}) })
			fault(wipe, "loses its marker", func(_ *mworld, x *slot) {
				x.disk.marker = nil
				if x.disk.data == Stamped || x.disk.data == Stub {
					x.disk.data = Broken
				}
			})
		}
		if s.disk.data != None {
			d := s.disk
			d.data, d.memberID, d.index = None, "", 0
			fault(wipe, "loses its etcd directory", func(c *mworld, x *slot) { c.loses(x, d) })
			d.data = Broken
			fault(wipe, "loses its log", func(c *mworld, x *slot) { c.loses(x, d) })
		}
		w.rollbacks(i, fault)
	}
	if s.image == nil && s.disk.data != None {
		fault(image, "has an image taken", func(_ *mworld, x *slot) { d := x.disk; x.image = &d })
	}
	w.cuts(i, fault)
}

func (w *mworld) loses(x *slot, d mdisk) {
	if x.disk.memberID != "" && !w.ghost.older[x.disk.memberID] {
		w.ghost.lost = with(w.ghost.lost, x.disk.memberID)
	}
	x.disk = d
}

func with(set map[string]bool, name string) map[string]bool {
	out := maps.Clone(set)
	if out == nil {
		out = map[string]bool{}
	}
	out[name] = true
	return out
}

type faulter func(budget func(*mbudget) *int, what string, do func(c *mworld, x *slot))

// rollbacks put an older image of a disk back, or a copy of it into the last machine.
func (w *mworld) rollbacks(i int, fault faulter) {
	s := w.slots[i]
	always := func(*mbudget) *int { one := 1; return &one }
	if s.image != nil {
		fault(always, "gets its image back", func(c *mworld, x *slot) {
			c.ghost.older = with(c.ghost.older, x.image.memberID)
			c.loses(x, *x.image)
			x.image = nil
		})
		fault(always, "gets only etcd/ back", func(c *mworld, x *slot) {
			c.ghost.older = with(c.ghost.older, x.image.memberID)
			d := x.disk
			d.data, d.memberID, d.index = x.image.data, x.image.memberID, x.image.index
			c.loses(x, d)
			x.image = nil
		})
	}
	last := len(w.slots) - 1
	if i == last && s.disk.marker == nil && w.m.spare > 0 {
		for j := range last {
			clone := func(b *mbudget) *int { return &b.clone }
			fault(clone, fmt.Sprintf("gets a copy of the disk of n%d", j), func(c *mworld, x *slot) {
				x.name, x.disk = c.slots[j].name, c.slots[j].disk
				c.ghost.strange, c.ghost.older = true, with(c.ghost.older, x.disk.memberID)
			})
			fault(clone, fmt.Sprintf("is called n%d", j), func(c *mworld, x *slot) {
				x.name, c.ghost.strange = c.slots[j].name, true
			})
		}
	}
}

// cuts breaks and mends wires, in one direction or in both.
func (w *mworld) cuts(i int, fault faulter) {
	budget := func(b *mbudget) *int { return &b.cut }
	for j := range w.slots {
		if j == i {
			continue
		}
		if slices.Contains(w.cut, [2]int{i, j}) {
			free := func(*mbudget) *int { one := 1; return &one }
			fault(free, fmt.Sprintf("reaches n%d again", j), func(c *mworld, _ *slot) {
				c.cut = slices.DeleteFunc(slices.Clone(c.cut), func(p [2]int) bool { return p == [2]int{i, j} })
			})
			continue
		}
		fault(budget, fmt.Sprintf("does not reach n%d", j), func(c *mworld, _ *slot) { c.cut = append(slices.Clone(c.cut), [2]int{i, j}) })
		if i < j {
			fault(budget, fmt.Sprintf("and n%d are cut", j), func(c *mworld, _ *slot) {
				c.cut = append(slices.Clone(c.cut), [2]int{i, j}, [2]int{j, i})
			})
		}
	}
}
