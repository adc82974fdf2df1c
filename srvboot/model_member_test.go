package srvboot

import (
	"fmt"
	"maps"
	"slices"
)

// The second model begins where the first one ends: a cluster is born. It runs the real Decide and Reconcile, the real
// memory of the others and the real orders, with a model of etcd: one history of entries of which every log holds a
// beginning, a member list that is part of it, and leaders who need a quorum of running, linked, intact voters by the
// list that their own log ends with. What it leaves to the model:
//
//   - An answer is used until the next one, however old, or until ten seconds pass without one.
//   - A change takes effect at any time after it was derived, or never; whoever derived it may be told that it failed.
//   - A voter that the leader has no stream to counts as silent for long, and every other period of R10 has passed.
//   - Who took part in a write remembers the others that did: disks are put back by more than five seconds. Members that
//     can elect each other have asked each other before they do: that takes 250 ms, an election 500.
type mworld struct {
	m     *memberModel
	slots []slot
	lists []mlist // the member list by the index that it was made at, ascending
	acked uint64  // entries that were acknowledged
	lead  int     // the slot of the leader, -1 for none; it may have lost its quorum
	added int     // member IDs handed out
	cut   [][2]int
	left  mbudget
	ghost mghosts
	trail *step
}

// mbudget bounds what may happen, and what may go wrong.
type mbudget struct{ crash, wipe, image, clone, cut, write, lead, order, edit int }

// mghosts is what the properties remember and no node knows.
type mghosts struct {
	ran     map[string]bool // member IDs that ever had a log
	out     map[string]bool // nodes that a person removed
	lost    map[string]bool // member IDs whose data was lost
	older   map[string]bool // member IDs whose disk was put back or copied
	strange bool            // two machines have one name
}

type mlist struct {
	at   uint64
	list []MemberEntry
}

// slot is a machine. The upper half survives a crash.
type slot struct {
	name, machine string
	disk          mdisk
	image         *mdisk
	lives         int
	edited        bool

	up, member, patient, told bool
	answers                   map[string]State
	namesake                  *State
	ran                       map[string]bool // names of which a running member was heard
	admission                 *Admission
	welcome                   []string
	pending                   *Change
}

type mdisk struct {
	marker   *Marker
	data     Data
	memberID string // of the log
	index    uint64
	id       Identity
	seen     Seen
	knows    map[string]uint64 // the truth of what this disk was there to see: the index of a member
}

// memberModel is the configuration and, for the mutants, the rules that are broken.
type memberModel struct {
	n       int // members at birth; slots after those are spare machines, named like a new node
	spare   int
	genesis Genesis
	ids     map[string]string
	homes   []Home
	start   mbudget
	loose   bool
	mut     memberMutant
}

// memberMutant breaks rules by lying to them.
type memberMutant struct {
	noStream, twoAtOnce, noQuorum, unsynced, reuse, noRollback, noTombstone, byURL, anyRun bool
}

// scale makes an entry of the model more than what a learner may lag behind.
const scale = 2 * learnerLag

func newMemberModel(n, spare int, b mbudget) *memberModel {
	m := &memberModel{n: n, spare: spare, start: b}
	all, names := simInitial(simNames(n+spare)...), simNames(n)
	for _, g := range all {
		h := Home{Bundle: "b", Node: g.Name, Initial: simInitial(names...), Admitted: all, Ask: simNames(n + spare), BirthUntil: modelTime}
		m.homes = append(m.homes, h)
	}
	g, err := newGenesis(m.homes[0], nil, "G")
	if err != nil {
		panic(err)
	}
	m.genesis = g
	_, m.ids, _ = IDs(g.Members, g.ID)
	return m
}

// world is a healthy cluster; the spare machines are blank and down.
func (m *memberModel) world() *mworld {
	w := &mworld{m: m, acked: 1, left: m.start, ghost: mghosts{ran: map[string]bool{}}}
	var list []MemberEntry
	for i, h := range m.homes {
		s := slot{name: h.Node, machine: fmt.Sprintf("m%d", i), disk: mdisk{data: None}}
		if i < m.n {
			g, id := m.genesis.Members[i], m.ids[h.Node]
			marker := startMarker(h, nil)
			marker.Phase, marker.MemberID, marker.Accepted = Running, id, &Acceptance{Ballot: Ballot{N: 1, By: "n0/r"}, Genesis: m.genesis}
			s.disk = mdisk{marker: &marker, data: HasMember, memberID: id, index: 1}
			list = append(list, MemberEntry{ID: id, Name: g.Name, PeerURLs: []string{g.PeerURL}})
			w.ghost.ran[id] = true
		}
		w.slots = append(w.slots, s)
	}
	w.lists = []mlist{{1, list}}
	for i := range m.n {
		w.begin(i)
		w.slots[i].member = true
	}
	for i := range m.n {
		w.askAll(i)
	}
	return w
}

func (w *mworld) clone(what string) *mworld {
	c := *w
	c.slots = slices.Clone(w.slots)
	c.trail = &step{what, w.trail}
	return &c
}

func (w *mworld) path() *step { return w.trail }

// begin starts the process of a slot, as BeginLife does.
func (w *mworld) begin(i int) {
	s := &w.slots[i]
	s.lives++
	old := s.disk.id
	id := Identity{Life: old.Life + 1, Boot: fmt.Sprintf("%d.%d", i, s.lives), Previous: old.Boot, Machine: s.machine, MovedFrom: old.MovedFrom}
	id.Earlier = old.chain()
	id.Earlier = id.Earlier[:min(len(id.Earlier), 4)]
	id.Index = old.Index
	if old.Machine != "" && old.Machine != s.machine && id.MovedFrom == "" {
		id.MovedFrom = old.Machine
	}
	s.disk.id = id
	s.up = true
}

func (w *mworld) run(i int) string { return fmt.Sprintf("r%d.%d", i, w.slots[i].lives) }

// listAt is the member list that a log of that length ends with.
func (w *mworld) listAt(index uint64) []MemberEntry {
	for _, l := range slices.Backward(w.lists) {
		if l.at <= index {
			return l.list
		}
	}
	return nil
}

func (w *mworld) list() []MemberEntry { return w.lists[len(w.lists)-1].list }

// links reports whether two machines reach each other in both directions; reaches, in one.
func (w *mworld) links(i, j int) bool { return w.reaches(i, j) && w.reaches(j, i) }
func (w *mworld) reaches(i, j int) bool {
	return i == j || w.slots[i].up && w.slots[j].up && !slices.Contains(w.cut, [2]int{i, j})
}

// backers are the slots that run a voter of the list at c's end and are linked to c, itself included.
func (w *mworld) backers(c int) (out []int) {
	list := w.listAt(w.slots[c].disk.index)
	counted := map[string]bool{}
	for v, s := range w.slots {
		e, listed := (&living{List: list}).byID(s.disk.memberID)
		if s.up && s.member && listed && !e.IsLearner && w.links(c, v) && s.disk.index <= w.slots[c].disk.index && !counted[e.ID] {
			counted[e.ID] = true
			out = append(out, v)
		}
	}
	return out
}

// leads returns the slot whose member leads a quorum, -1 for none.
func (w *mworld) leads() int {
	if w.lead < 0 || !w.slots[w.lead].member || len(w.backers(w.lead)) < quorum(voters(w.list())) {
		return -1
	}
	return w.lead
}

func (d mdisk) class() Data {
	if d.data == HasMember || d.data == Stub {
		if m := d.marker; m != nil && m.MemberID != "" && m.MemberID != d.memberID {
			return Alien
		}
	}
	return d.data
}

func (w *mworld) home(i int) Home {
	j := slices.IndexFunc(w.m.homes, func(h Home) bool { return h.Node == w.slots[i].name })
	h := w.m.homes[j]
	if w.slots[i].edited {
		h.Admitted = h.Admitted[:len(h.Admitted)-1]
	}
	return h
}

// facts are those of a slot for Decide.
func (w *mworld) facts(i int) Facts {
	s := &w.slots[i]
	d := DiskFacts{Data: s.disk.class(), Marker: s.disk.marker, Identity: s.disk.id, Seen: s.disk.seen, LastIndex: s.disk.index * scale}
	if s.disk.data == HasMember || s.disk.data == Stub {
		d.MemberID, d.ClusterID = s.disk.memberID, w.m.genesis.ClusterID
	}
	if d.Marker == nil && d.Data != None {
		d.Evidence = []string{"etcd/"}
	}
	f := Facts{Now: modelTime, Home: w.home(i), Disk: d, Run: w.run(i), Began: modelTime.Add(-hearAllFor), ToldRemoved: s.told, Peers: map[string]Answer{}}
	if s.patient {
		f.Began = modelTime.Add(-hearFor)
	}
	for name, st := range s.answers {
		f.Peers[name] = Answer{Node: name, At: modelTime, Asked: modelTime, State: st}
	}
	if s.namesake != nil {
		f.Namesake = Answer{Node: s.name, At: modelTime, State: *s.namesake}
	}
	return w.m.mut.lie(f)
}

// state is what a slot says of itself to a node.
func (w *mworld) state(i int, to string) State {
	s, f := &w.slots[i], w.facts(i)
	st := State{Format: Format, Bundle: f.Home.Bundle, Node: s.name, Run: w.run(i), Phase: Fresh, Digest: effectiveDigest(f.Home, s.disk.marker),
		Ask: f.Home.Ask, Evidence: f.Disk.Evidence, Ready: true, Life: s.disk.id.Life, Boot: s.disk.id.Boot, Chain: s.disk.id.chain(),
		Machine: s.disk.id.Machine, Reached: s.disk.index * scale, Admission: s.admission, Tombstones: s.disk.seen.Tombstones}
	if m := s.disk.marker; m != nil {
		st.Phase, st.Accepted = m.Phase, m.Accepted
	}
	if see, ok := s.disk.seen.Nodes[to]; ok { // what it remembers of others would multiply the states
		st.Seen = map[string]Sighting{to: see}
	}
	if s.patient && !s.ran[to] {
		st.Quiet = quietElsewhere
	}
	if s.member {
		self := w.self(i)
		st.Member = &self
	} else {
		st.Claim = Decide(f).Claim
	}
	return st
}

// self is the report of a slot's member.
func (w *mworld) self(i int) MemberState {
	s := w.slots[i]
	list := w.listAt(s.disk.index)
	own, listed := (&living{List: list}).byID(s.disk.memberID)
	m := MemberState{ID: s.disk.memberID, ClusterID: w.m.genesis.ClusterID, Applied: s.disk.index * scale, Members: list, IsLearner: own.IsLearner}
	l := w.leads()
	if w.lead == i {
		l = i // it believes so until it misses the others for an election time
	}
	if l < 0 || !listed || !w.links(i, l) {
		return m
	}
	m.Leader, m.Commit, m.Serving = w.slots[l].disk.memberID, w.acked*scale, !own.IsLearner && s.disk.index == w.acked && w.leads() >= 0
	if l != i {
		return m
	}
	for _, e := range list {
		if e.ID == m.ID {
			continue
		}
		link := Link{ID: e.ID, Quiet: learnerLost}
		for j, o := range w.slots {
			if o.member && o.disk.memberID == e.ID && w.links(i, j) {
				link.Quiet, link.Match = 0, o.disk.index*scale
			}
		}
		m.Links = append(m.Links, link)
	}
	return m
}

// heard takes in what another slot says.
func (w *mworld) heard(i, j int) {
	s, st := &w.slots[i], w.state(j, w.slots[i].name)
	if st.Node == s.name {
		s.namesake = &st
		return
	}
	s.answers, s.ran = maps.Clone(s.answers), maps.Clone(s.ran)
	if s.answers == nil {
		s.answers, s.ran = map[string]State{}, map[string]bool{}
	}
	s.answers[st.Node] = st
	merged, _ := withTombstones(s.disk.seen.Tombstones, st.Tombstones)
	s.disk.seen.Tombstones = merged
	if st.Member != nil {
		s.ran[st.Node] = true
	}
	w.remembers(i, st)
}

// remembers writes down what was heard.
func (w *mworld) remembers(i int, st State) {
	if st.Member == nil {
		return
	}
	d := &w.slots[i].disk
	d.knows = maps.Clone(d.knows)
	if d.knows == nil {
		d.knows = map[string]uint64{}
	}
	d.knows[st.Member.ID] = max(d.knows[st.Member.ID], st.Member.Applied/scale)
	seen := &d.seen
	seen.Nodes = maps.Clone(seen.Nodes)
	if seen.Nodes == nil {
		seen.Nodes = map[string]Sighting{}
	}
	seen.Nodes[st.Node] = sighted(seen.Nodes[st.Node], st, st.Member.Applied)
}

// askAll asks every machine that is reached.
func (w *mworld) askAll(i int) {
	for j := range w.slots {
		if j != i && w.slots[j].up && w.reaches(i, j) {
			w.heard(i, j)
		}
	}
}
