package zone

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// rackModel is nodes that publish, tell each other what they serve unless they are cut apart, restart, lose disks and
// have clocks that are set, and secondaries that have all of them as primaries.
type rackModel struct {
	t   *testing.T
	rng *rand.Rand
	// now is the true time.
	now time.Time
	// contents are what the nodes may publish; they recur. signers has one signer for each key state, or nils.
	contents []roster.Roster
	signers  []sign.Signer

	nodes       []*modelNode
	secondaries []*modelSecondary
	// meaning is what was fetched under each serial.
	meaning map[uint32][]string
	seen    map[string]int
}

type modelNode struct {
	file    string
	slot    int
	offset  time.Duration
	content int
	signer  int
	publish *Publisher
	store   *Store
	// heard is what the others said last, by slot; deaf are those that do not get through.
	heard map[int]Published
	deaf  map[int]bool
	// highest is the latest serial that it ever served.
	highest uint32
}

type modelSecondary struct {
	serial uint32
	zone   []string
}

func newRackModel(t *testing.T, seed uint64, signed bool) *rackModel {
	m := &rackModel{t: t, rng: rand.New(rand.NewPCG(seed, 31)), now: today, meaning: map[uint32][]string{}, seen: map[string]int{}, signers: []sign.Signer{nil, nil}}
	if signed {
		m.signers = signers(t, today)
	}
	r := dualStack(12)
	for range 5 {
		m.contents = append(m.contents, r)
		r = mutate(m.rng, r)
	}
	dir := t.TempDir()
	for slot := range 3 {
		n := &modelNode{file: filepath.Join(dir, fmt.Sprint(slot)), slot: slot, deaf: map[int]bool{}}
		m.nodes = append(m.nodes, n)
		m.restart(n)
		m.secondaries = append(m.secondaries, &modelSecondary{})
	}
	return m
}

// restart forgets all that is not on disk.
func (m *rackModel) restart(n *modelNode) {
	n.store, n.heard = NewStore(), map[int]Published{}
	n.publish = NewPublisher(n.store, Options{}, NewSerials(n.file, n.slot, func() time.Time { return m.now.Add(n.offset) }))
}

// hear lets a node hear what the others serve now; from those that are cut off it keeps what they said last.
func (m *rackModel) hear(n *modelNode) {
	for _, o := range m.nodes {
		if s := o.store.Load(); o != n && !n.deaf[o.slot] && s != nil {
			n.heard[o.slot] = Published{s.Serial(), s.Digest()}
		}
	}
}

func (m *rackModel) serve(n *modelNode) {
	var peers []Published
	for _, p := range n.heard {
		peers = append(peers, p)
	}
	old := n.store.Load()
	n.publish.SetOptions(Options{Signer: m.signers[n.signer]})
	if _, err := n.publish.Publish(m.contents[n.content], peers); err != nil {
		m.t.Fatal(err)
	}
	s := n.store.Load()
	if old != nil && s.Serial() != old.Serial() && !Later(s.Serial(), old.Serial()) {
		m.t.Fatalf("node %d went from serial %d back to %d", n.slot, old.Serial(), s.Serial())
	}
	if n.highest == 0 || Later(s.Serial(), n.highest) {
		n.highest = s.Serial()
	}
}

// forgettable reports whether a node may lose its disk: what it served lies behind what another node serves or behind
// the clock, which is all that can make up for a disk.
func (m *rackModel) forgettable(n *modelNode) bool {
	if n.highest == 0 || counterAfter(day(m.now.Add(n.offset)), n.highest>>slotBits) && n.offset == 0 {
		return true
	}
	return slices.ContainsFunc(m.nodes, func(o *modelNode) bool {
		s := o.store.Load()
		return o != n && !n.deaf[o.slot] && s != nil && !Later(n.highest, s.Serial())
	})
}

// pull is a secondary that looks at a node: it takes what is later than what it has (RFC 1982), the changes if the node
// has them, else the zone (RFC 1995 §4).
func (m *rackModel) pull(sec *modelSecondary, n *modelNode) {
	v := n.store.Version()
	if v == nil || sec.serial != 0 && !Later(v.SOA().Serial, sec.serial) {
		return
	}
	serial := v.SOA().Serial
	whole := lines(append(slices.Collect(v.Records()), v.SOA()))
	changes, ok := v.Since(sec.serial)
	if sec.serial == 0 || !ok {
		m.seen["full"]++
		sec.zone = whole
	} else {
		m.seen["incremental"]++
		at := sec.serial
		for _, d := range changes {
			if d.From.Serial != at {
				m.t.Fatalf("a change leads from %d, want from %d", d.From.Serial, at)
			}
			at = d.To.Serial
			sec.zone = apply(m.t, sec.zone, append(slices.Clip(d.Removed), dns.RR(d.From)), append(slices.Clip(d.Added), dns.RR(d.To)))
		}
		if at != serial || !slices.Equal(sec.zone, whole) {
			m.t.Fatalf("IXFR from %d of node %d gives\n%v\nat %d, want\n%v\nat %d", sec.serial, n.slot, sec.zone, at, whole, serial)
		}
	}
	sec.serial = serial
	if was, ok := m.meaning[serial]; ok && !slices.Equal(was, whole) {
		m.t.Fatalf("serial %d names\n%v\nand\n%v", serial, was, whole)
	}
	m.meaning[serial] = whole
}

// Clocks that nodes have: right, a little off, never set, and so far ahead that they are believed, or not.
var offsets = []time.Duration{0, 0, time.Hour, -time.Hour, -24 * time.Hour, time.Unix(0, 0).Sub(today), 300 * 24 * time.Hour, 10 * 365 * 24 * time.Hour}

func (m *rackModel) step() {
	m.now = m.now.Add(time.Duration(m.rng.IntN(90)) * time.Second)
	n := m.nodes[m.rng.IntN(len(m.nodes))]
	other := m.rng.IntN(len(m.nodes))
	switch m.rng.IntN(20) {
	case 0, 1, 2:
		n.content = m.rng.IntN(len(m.contents))
	case 3:
		n.signer = m.rng.IntN(len(m.signers))
	case 4:
		n.deaf[other] = true
	case 5:
		n.deaf[other], m.nodes[other].deaf[n.slot] = true, true
	case 6:
		clear(n.deaf)
	case 7:
		m.restart(n)
		m.seen["restart"]++
	case 8:
		n.offset = offsets[m.rng.IntN(len(offsets))]
	case 9, 10:
		if m.forgettable(n) {
			m.lose(n)
		}
	case 11, 12, 13:
		m.hear(n)
	case 14:
		m.pull(m.secondaries[m.rng.IntN(len(m.secondaries))], n)
	default:
		m.serve(n)
		m.pull(m.secondaries[m.rng.IntN(len(m.secondaries))], n)
	}
}

// lose takes a node's disk away.
func (m *rackModel) lose(n *modelNode) {
	if err := os.Remove(n.file); err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	m.restart(n)
	m.hear(n)
	m.serve(n)
	m.seen["lost disk"]++
}

// settle heals everything and gives all nodes one content.
func (m *rackModel) settle() {
	for _, n := range m.nodes {
		clear(n.deaf)
		n.content, n.signer = m.nodes[0].content, m.nodes[0].signer
	}
	for range 4 {
		for _, i := range m.rng.Perm(len(m.nodes)) {
			m.hear(m.nodes[i])
			m.serve(m.nodes[i])
			for _, sec := range m.secondaries {
				m.pull(sec, m.nodes[i])
			}
		}
	}
	want := m.nodes[0].store.Version()
	whole := lines(append(slices.Collect(want.Records()), want.SOA()))
	for _, n := range m.nodes {
		v := n.store.Version()
		if got := lines(append(slices.Collect(v.Records()), v.SOA())); !slices.Equal(got, whole) {
			m.t.Fatalf("node %d serves\n%v\nnode 0\n%v", n.slot, got, whole)
		}
	}
	for i, sec := range m.secondaries {
		if !slices.Equal(sec.zone, whole) {
			m.t.Fatalf("secondary %d has\n%v\nthe nodes\n%v", i, sec.zone, whole)
		}
	}
	m.seen["settled"]++
}

// TestOneSerialOneContentInARack runs the model with random faults: one serial never names two contents among those that
// a secondary fetched, IXFR is never wrong, and in the end all nodes and secondaries have one zone.
func TestOneSerialOneContentInARack(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			seen := map[string]int{}
			for seed := range map[bool]uint64{false: 80, true: 20}[signed] {
				m := newRackModel(t, seed, signed)
				for range 5 {
					for range 80 {
						m.step()
					}
					m.settle()
				}
				for what, n := range m.seen {
					seen[what] += n
				}
			}
			t.Log(seen)
			for _, what := range []string{"full", "incremental", "restart", "lost disk", "settled"} {
				if seen[what] < 50 {
					t.Errorf("%s: %d times, too few", what, seen[what])
				}
			}
		})
	}
}
