package sign

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The model: a rack of nodes that are cut off from each other at random, a secondary that lags, a parent that follows
// CDS when it likes and whose second server lags, people who give every command, and clocks that are wrong. A
// validator with the worst caches possible must never find the zone bogus.

const (
	tick      = 10 * time.Minute
	modelZone = time.Hour     // the zone's longest TTL
	modelDS   = 2 * time.Hour // the DS set's TTL
	modelRun  = 1500          // ticks: ten days, so that epochs pass
)

// version is what one server says at one time.
type version struct {
	signed  bool
	epoch   uint32
	keys    [2]uint16 // the DNSKEY set, which each of them signs
	active  uint16    // signs the zone
	cds     uint16    // the DS asked for
	deletes bool
}

func (v version) has(tag uint16) bool { return tag != 0 && (v.keys[0] == tag || v.keys[1] == tag) }

func serve(s State) (v version) {
	if !s.Signs() {
		return version{}
	}
	v = version{signed: true, epoch: s.Epoch, deletes: s.Mode == GoingOff}
	for i, k := range s.Keys {
		v.keys[i] = k.Tag
		if k.Phase == Active {
			v.active = k.Tag
		}
	}
	if s.Mode == On && s.Announced {
		v.cds = v.active
	}
	return v
}

func (v version) server(name string) Server {
	s := Server{Name: name, Deletes: v.deletes}
	if v.signed {
		s.Published, s.Signing = slices.DeleteFunc(v.keys[:], func(t uint16) bool { return t == 0 }), []uint16{v.active}
	}
	return s
}

type modelNode struct {
	state  State
	watch  Watch
	facts  Facts
	offset time.Duration // of its clock
	right  bool          // what it believes of its clock
	down   bool
}

type model struct {
	rng    *rand.Rand
	ring   *Ring
	now    time.Time
	nodes  []*modelNode
	second version // the secondary
	parent [2]uint16
	// cut says that two nodes cannot reach each other's admin ports; deaf that a node cannot ask anybody by DNS.
	cut  [3][3]bool
	deaf [3]bool
	// alone says that a node cannot ask the parent.
	alone [3]bool
	// What caches may hold, with the last moment at which it was served.
	data, sets map[version]time.Time
	ds         map[uint16]time.Time
	mutant     func(*View, *Facts)
	log        []string
	reached    map[string]int
}

func newModel(seed uint64, ring *Ring, mutant func(*View, *Facts)) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 1)), ring: ring, now: testTime, mutant: mutant, reached: map[string]int{},
		data: map[version]time.Time{}, sets: map[version]time.Time{}, ds: map[uint16]time.Time{}}
	for range 3 {
		n := &modelNode{right: true, offset: time.Duration(m.rng.IntN(20)-10) * time.Hour}
		if m.rng.IntN(6) == 0 { // years off, and the node knows
			n.right, n.offset = false, time.Duration(m.rng.IntN(2000)-1000)*24*time.Hour
		}
		m.nodes = append(m.nodes, n)
	}
	return m
}

func (m *model) one(in int) bool { return m.rng.IntN(in) == 0 }

func (n *modelNode) clock(m *model) Clock { return Clock{Now: m.now.Add(n.offset), Plausible: n.right} }

// step is one tick; it returns how the zone is bogus, or nothing.
func (m *model) step() string {
	m.now = m.now.Add(tick)
	m.world()
	for i, n := range m.nodes {
		if n.down {
			continue
		}
		for j, o := range m.nodes {
			if i != j && !o.down && !m.cut[i][j] && m.rng.IntN(3) > 0 {
				n.state = Merge(n.state, o.state, n.clock(m))
			}
		}
		v := m.view(i)
		if m.mutant != nil {
			m.mutant(&v, nil)
		}
		n.facts = n.watch.Observe(n.clock(m).Now, v)
		if m.mutant != nil {
			m.mutant(nil, &n.facts)
		}
		before := n.state
		n.state, _ = Advance(n.state, n.facts, n.clock(m).Now)
		m.note(i, "advance", before, n.state)
	}
	return m.judge()
}

func (m *model) note(i int, what string, before, after State) {
	if before.Equal(after) {
		return
	}
	m.log = append(m.log, fmt.Sprintf("%s node %d %s: %s", m.now.Format(time.DateTime), i, what, short(after)))
	switch {
	case len(before.Keys) == 2 && len(after.Keys) == 1 && after.Mode == On:
		m.reached["rolled over"]++
	case before.Mode == GoingOff && after.Mode == Off:
		m.reached["off"]++
	case !before.Announced && after.Announced:
		m.reached["announced"]++
	}
}

// world changes what the nodes do not control.
func (m *model) world() {
	for i := range m.nodes {
		if m.one(60) {
			m.nodes[i].down = !m.nodes[i].down && m.one(2)
		}
		m.deaf[i] = m.one(200) || m.deaf[i] && !m.one(6)
		m.alone[i] = m.one(150) || m.alone[i] && !m.one(12)
		for j := range m.nodes {
			if m.one(80) {
				m.cut[i][j] = !m.cut[i][j] && m.one(2)
			}
		}
	}
	if i := m.rng.IntN(3); m.one(3) && !m.nodes[i].down {
		m.second = serve(m.nodes[i].state)
	}
	m.parent[1] = m.parent[0] // up to a tick late
	if m.one(12) {
		m.follow()
	}
	if m.one(300) {
		m.parent[0] = 0 // a person removes the DS
	}
	if m.one(120) {
		m.command(m.rng.IntN(3))
	}
}

// follow is the parent reading CDS from one name server, as RFC 7344 §4.1 lets it: what it reads must validate.
func (m *model) follow() {
	all := m.servers()
	if len(all) == 0 {
		return
	}
	v := all[m.rng.IntN(len(all))]
	if m.parent[0] != 0 && !v.has(m.parent[0]) {
		return
	}
	switch {
	case v.deletes:
		m.parent[0] = 0
	case v.cds != 0:
		m.parent[0] = v.cds
	}
}

func (m *model) command(i int) {
	n, before := m.nodes[i], m.nodes[i].state
	if n.down {
		return
	}
	var err error
	switch m.rng.IntN(4) {
	case 0, 1:
		n.state, err = SwitchOn(before, m.ring, n.clock(m))
	case 2:
		n.state, err = RollOver(before, m.ring, n.clock(m))
	case 3:
		if m.one(3) {
			n.state, err = SwitchOff(before)
		}
	}
	if err != nil {
		n.state = before
	}
	m.note(i, "command", before, n.state)
}

// servers are the versions that anybody can fetch now.
func (m *model) servers() (out []version) {
	for _, n := range m.nodes {
		if !n.down {
			out = append(out, serve(n.state))
		}
	}
	return append(out, m.second)
}

// view is what node i sees.
func (m *model) view(i int) View {
	v := View{ZoneTTL: modelZone, Plausible: m.nodes[i].right, Commands: m.nodes[i].state.Commands}
	if m.deaf[i] {
		v.Servers = []Server{{Name: "all", Err: "timeout"}}
		v.Parent.Err = "timeout"
		return v
	}
	for j, n := range m.nodes {
		s := serve(n.state).server(fmt.Sprint(j))
		if n.down {
			s = Server{Name: fmt.Sprint(j), Err: "timeout"}
		}
		v.Servers = append(v.Servers, s)
	}
	v.Servers = append(v.Servers, m.second.server("secondary"))
	if m.alone[i] {
		v.Parent.Err = "timeout"
		return v
	}
	for _, tag := range m.parent {
		if tag == 0 {
			v.Parent.Sets = append(v.Parent.Sets, nil)
			continue
		}
		v.Parent.Sets, v.Parent.TTL = append(v.Parent.Sets, []uint16{tag}), uint32(modelDS/time.Second)
	}
	return v
}

// judge lets the validator combine anything that some cache may still hold.
func (m *model) judge() string {
	for _, v := range m.servers() {
		m.data[v], m.sets[v] = m.now, m.now
	}
	for _, tag := range m.parent {
		m.ds[tag] = m.now
	}
	forget(m.data, m.now.Add(-modelZone))
	forget(m.sets, m.now.Add(-KeyTTL*time.Second))
	forget(m.ds, m.now.Add(-modelDS))
	for tag := range m.ds {
		if tag == 0 {
			continue // RFC 4035 §4.3: without a DS the zone is insecure, and anything goes
		}
		for set := range m.sets {
			if !set.has(tag) {
				return fmt.Sprintf("DS %d, but the DNSKEY set is %+v", tag, set)
			}
			for data := range m.data {
				switch {
				case !data.signed:
					return fmt.Sprintf("DS %d, but the data is not signed", tag)
				case !set.has(data.active):
					return fmt.Sprintf("the data is signed by %d, the DNSKEY set is %+v", data.active, set)
				case m.now.Before(Inception(data.epoch)) || m.now.After(Expiration(data.epoch)):
					return fmt.Sprintf("the signatures are of %s", EpochStart(data.epoch))
				}
			}
		}
	}
	return ""
}

func forget[K comparable](cache map[K]time.Time, before time.Time) {
	for k, at := range cache {
		if at.Before(before) {
			delete(cache, k)
		}
	}
}

// run returns how and when the zone was bogus; an empty string if never.
func (m *model) run() string {
	for range modelRun {
		if bogus := m.step(); bogus != "" {
			return bogus
		}
	}
	return ""
}

func TestNeverBogus(t *testing.T) {
	ring, reached := newTestRing(t, 7), map[string]int{}
	runs := 200
	if testing.Short() {
		runs = 40
	}
	for seed := range uint64(runs) {
		m := newModel(seed, ring, nil)
		if bogus := m.run(); bogus != "" {
			t.Fatalf("seed %d, %s: %s\n%s", seed, m.now, bogus, join(m.log))
		}
		for k, n := range m.reached {
			reached[k] += n
		}
	}
	t.Log(reached)
	for _, k := range []string{"announced", "rolled over", "off"} {
		if reached[k] < runs/10 {
			t.Errorf("%q was reached %d times in %d runs: the model shows too little", k, reached[k], runs)
		}
	}
}

func join(lines []string) (out string) {
	for _, l := range lines[max(0, len(lines)-40):] {
		out += l + "\n"
	}
	return out
}

// Each shortcut that somebody may be tempted to take is one that the model catches.
func TestModelCatchesShortcuts(t *testing.T) {
	ring := newTestRing(t, 7)
	long := func(at map[uint16]time.Time) {
		for tag := range at {
			at[tag] = at[tag].Add(-1000 * time.Hour)
		}
	}
	for name, mutant := range map[string]func(*View, *Facts){
		"DNSKEY sets are not waited for": func(_ *View, f *Facts) {
			if f != nil {
				long(f.Published)
			}
		},
		"cached data is not waited for": func(_ *View, f *Facts) {
			if f != nil {
				long(f.Signing)
			}
		},
		"the DS TTL is not waited for": func(_ *View, f *Facts) {
			if f != nil && !f.NoDS.IsZero() {
				f.NoDS = f.NoDS.Add(-1000 * time.Hour)
			}
		},
		"the old DS is not waited for": func(_ *View, f *Facts) {
			if f != nil {
				long(f.DS)
			}
		},
		"silent servers count as well": func(v *View, _ *Facts) {
			if v != nil {
				v.Servers = slices.DeleteFunc(v.Servers, func(s Server) bool { return s.Err != "" })
			}
		},
		"only one server is asked": func(v *View, _ *Facts) {
			if v != nil {
				v.Servers = v.Servers[:1]
			}
		},
		"a silent parent has no DS": func(_ *View, f *Facts) {
			if f != nil && f.ParentErr != "" {
				f.ParentErr, f.NoDS = "", testTime.Add(-1000*time.Hour)
			}
		},
		"what the servers ask the parent for is not looked at": func(_ *View, f *Facts) {
			if f != nil {
				f.Deleting = testTime
			}
		},
		"every clock is right": func(v *View, _ *Facts) {
			if v != nil {
				v.Plausible = true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(1000) {
				m := newModel(seed, ring, mutant)
				if bogus := m.run(); bogus != "" {
					t.Logf("seed %d: %s", seed, bogus)
					return
				}
			}
			t.Error("not caught")
		})
	}
}
