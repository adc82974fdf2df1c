package srvboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The model runs the real Decide, OnPrepare, OnAccept and Propose of n nodes against every order of events. What it
// leaves to the model is the network, the disks and the passing of time:
//
//   - Messages of the protocol stay in the network for ever, so each may be lost (never delivered), delayed and
//     duplicated. A reply is taken in or lost. Any cut, one-way ones too, is a network that does not deliver.
//   - An answer to State is used until the next one, however old: an answer never goes stale by itself.
//   - A node crashes between any two durable writes. While it is down its disk, its etcd directory, its write-ahead
//     log or its marker may be lost.
//   - A ballot may be given up at any time, and a later member may propose at any time.
type world struct {
	m     *model
	nodes []mnode
	net   map[string]mmsg
	left  budget
	ghost ghosts
	trail *step
}

type step struct {
	what string
	prev *step
}

// budget bounds what may go wrong.
type budget struct{ crash, wipe, edit, ballot int }

// ghosts is what the properties remember and no node knows.
type ghosts struct {
	born  []string        // genesis IDs that were ever born, sorted
	wiped map[int]bool    // nodes whose disk or marker was ever lost
	mixed map[string]bool // "G/node": it may have voted together with another member of G
}

// mnode is one node: the upper half survives a crash.
type mnode struct {
	marker  *Marker
	data    Data
	cluster string // of the write-ahead log
	lives   int
	edited  bool

	up      bool
	member  bool // a member process runs
	answers map[int]State
	round   *Round
	staged  *Marker // mutant: what was said but not persisted
}

type mmsg struct {
	from, to int
	run      string
	prepare  *Prepare
	accept   *Accept
}

// model is the configuration and, for the mutants, the rules that are broken.
type model struct {
	n     int
	homes [2][]Home // as configured, edited
	start budget
	// loose asks node by node, otherwise a node asks all at once.
	loose bool
	mut   mutant
}

type mutant struct {
	noBallots, noStamp, majority, gossip, noWAL, noPersist, noRun, unpromised bool
}

var modelTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newModel(n int, b budget) *model {
	m := &model{n: n, start: b}
	names := simNames(n)
	for _, name := range names {
		h := Home{Bundle: "b", Node: name, Initial: simInitial(names...), Ask: names, BirthUntil: modelTime.Add(time.Hour)}
		m.homes[0] = append(m.homes[0], h)
		h.Initial = simInitial(names...)
		h.Initial[n-1].PeerURL = "https://moved.rack1.example.com:2380"
		m.homes[1] = append(m.homes[1], h)
	}
	return m
}

func (m *model) world() *world {
	w := &world{m: m, nodes: make([]mnode, m.n), net: map[string]mmsg{}, left: m.start}
	for i := range w.nodes {
		w.nodes[i] = mnode{data: None, up: true, lives: 1}
	}
	return w
}

func (w *world) clone(what string) *world {
	c := *w
	c.nodes = slices.Clone(w.nodes)
	c.ghost.born = slices.Clone(w.ghost.born)
	c.trail = &step{what, w.trail}
	return &c
}

func (w *world) run(i int) string { return fmt.Sprintf("r%d", w.nodes[i].lives) }

func (w *world) home(i int) Home {
	h := w.m.homes[0][i]
	if w.nodes[i].edited {
		h = w.m.homes[1][i]
	}
	if w.m.mut.gossip { // whom this node has not heard itself, gossip calls dead, and it believes that
		var dead []string
		for j := range w.nodes {
			if _, heard := w.nodes[i].answers[j]; !heard && j != i {
				dead = append(dead, w.homeName(j))
			}
		}
		h.Initial = without(h.Initial, dead)
		h.Ask = memberNames(h.Initial)
	}
	return h
}

// disk is what the node reads from its disk.
func (w *world) disk(i int) DiskFacts {
	n := &w.nodes[i]
	d := DiskFacts{Data: n.data, Marker: n.marker, ClusterID: n.cluster}
	if n.staged != nil {
		d.Marker = n.staged
	}
	if n.marker == nil && n.data != None {
		d.Evidence = []string{"etcd/"}
	}
	mut := w.m.mut
	if m := d.Marker; m != nil && (mut.noStamp && n.data == None || mut.noWAL && n.data == Broken) && !m.Phase.unborn() {
		born := *m
		born.Phase = Born
		d.Marker, d.Data = &born, Stamped
	}
	return d
}

func (w *world) facts(i int) Facts {
	f := Facts{Now: modelTime, Home: w.home(i), Disk: w.disk(i), Run: w.run(i), Peers: map[string]Answer{}}
	for j, s := range w.nodes[i].answers {
		f.Peers[s.Node] = Answer{Node: w.homeName(j), At: modelTime, State: s}
	}
	return f
}

func (w *world) homeName(i int) string { return w.m.homes[0][i].Node }

// state is what a node says of itself.
func (w *world) state(i int) State {
	d := w.disk(i)
	h := w.home(i)
	s := State{Format: Format, Bundle: h.Bundle, Node: h.Node, Run: w.run(i), Phase: Fresh, Digest: effectiveDigest(h, d.Marker),
		Ask: h.Ask, Evidence: d.Evidence, Ready: true}
	if m := d.Marker; m != nil {
		s.Phase, s.Promised, s.Accepted = m.Phase, m.Promised, m.Accepted
	}
	if w.nodes[i].member && w.nodes[i].data == HasMember && s.Accepted != nil {
		s.Member = &MemberState{ID: d.MemberID, ClusterID: s.Accepted.Genesis.ClusterID, Applied: 1}
	}
	return s
}

// events are all that may happen next.
func (w *world) events() []event[*world] {
	var out []event[*world]
	for i := range w.nodes {
		node := w.homeName(i)
		if w.nodes[i].up {
			out = append(out, w.asks(i)...)
			out = append(out, event[*world]{node + " acts", func() *world { return w.act(i, false) }})
			if w.left.ballot > 0 {
				out = append(out, event[*world]{node + " gives up", func() *world { return w.act(i, true) }})
			}
			out = append(out, event[*world]{node + " writes", func() *world { return w.write(i) }})
		}
		out = append(out, w.faults(i)...)
	}
	for _, key := range slices.Sorted(maps.Keys(w.net)) {
		m := w.net[key]
		out = append(out, event[*world]{key + " with reply", func() *world { return w.deliver(m, true) }},
			event[*world]{key + " without reply", func() *world { return w.deliver(m, false) }})
	}
	return out
}

// asks refreshes what node i knows.
func (w *world) asks(i int) []event[*world] {
	if !w.m.loose {
		return []event[*world]{{w.homeName(i) + " asks all", func() *world { return w.askAll(i) }}}
	}
	var out []event[*world]
	for j := range w.nodes {
		if j != i && w.nodes[j].up {
			out = append(out, event[*world]{w.homeName(i) + " asks " + w.homeName(j), func() *world {
				c := w.clone(fmt.Sprintf("n%d asks n%d", i, j))
				c.heard(i, j, w.state(j))
				return c
			}})
		}
		if _, heard := w.nodes[i].answers[j]; heard && w.m.sized() {
			out = append(out, event[*world]{w.homeName(i) + " misses " + w.homeName(j), func() *world { return w.misses(i, j) }})
		}
	}
	return out
}

func (w *world) askAll(i int) *world {
	c := w.clone(fmt.Sprintf("n%d asks all", i))
	for j := range w.nodes {
		if j != i && w.nodes[j].up {
			c.heard(i, j, w.state(j))
		}
	}
	return c
}

func (w *world) heard(i, j int, s State) {
	n := &w.nodes[i]
	if old, ok := n.answers[j]; ok && s.before(old) {
		return
	}
	n.answers = maps.Clone(n.answers)
	if n.answers == nil {
		n.answers = map[int]State{}
	}
	n.answers[j] = s
}

// act decides and does one durable thing. With patience at its end a node gives up its ballot, or proposes in its turn.
func (w *world) act(i int, impatient bool) *world {
	if w.nodes[i].member {
		return nil
	}
	f := w.facts(i)
	p := Decide(f)
	if p.Action == New && !slices.Contains([]int{10, 12, 13}, p.Row) || p.Action == Birth && p.Row != 11 && p.Row != 15 {
		panic(violation{fmt.Sprintf("P11: row %d says %s", p.Row, p.Action), w.trail})
	}
	if impatient && p.Action != Birth {
		return nil
	}
	c := w.clone(fmt.Sprintf("n%d row %d %s (%v)", i, p.Row, p.Action, impatient))
	n := &c.nodes[i]
	switch p.Action {
	case Birth:
		return c.propose(i, f, impatient)
	case New:
		c.executeNew(i, p)
	case Restart:
		n.member = true
	case Rebuild:
		m := rebuild(f)
		n.marker = &m
	case SetAside:
		n.data, n.cluster = None, ""
	default:
		return nil
	}
	return c
}

func (w *world) executeNew(i int, p Plan) {
	n := &w.nodes[i]
	m := *w.disk(i).Marker
	switch {
	case n.data == Stub && m.Phase == Born:
		m.Phase = Accepted
		n.marker = &m
	case m.Phase == Accepted && n.data == None:
		n.data = Stamped
	case m.Phase == Accepted:
		born := bear(m, 1)
		n.marker, n.staged = &born, nil
		if !slices.Contains(w.ghost.born, p.Genesis.ID) {
			w.ghost.born = append(w.ghost.born, p.Genesis.ID)
			slices.Sort(w.ghost.born)
		}
	default:
		if n.marker == nil || n.marker.Phase.unborn() {
			panic(violation{"P2: spawned as new without a durable birth", w.trail})
		}
		if w.ghost.mixed[p.Genesis.ID+"/"+w.homeName(i)] {
			panic(violation{"P2: new again under an ID that may have voted", w.trail})
		}
		n.data, n.member, n.cluster = Stub, true, p.Genesis.ClusterID
	}
}

func (w *world) path() *step { return w.trail }

// violation is what the search stops at.
type violation struct {
	what  string
	trail *step
}

func (v violation) String() string {
	var lines []string
	for s := v.trail; s != nil; s = s.prev {
		lines = append(lines, s.what)
	}
	slices.Reverse(lines)
	return v.what + "\n  " + strings.Join(lines, "\n  ")
}

// write is the member's log getting entries, then the marker saying so.
func (w *world) write(i int) *world {
	n := w.nodes[i]
	if !n.member || n.data == HasMember && n.marker.Phase == Running {
		return nil
	}
	c := w.clone(fmt.Sprintf("n%d's member writes", i))
	if n.data == Stub {
		c.nodes[i].data = HasMember
		return c
	}
	m := *n.marker
	m.Phase = Running
	c.nodes[i].marker = &m
	return c
}
