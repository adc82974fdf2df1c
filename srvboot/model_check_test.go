package srvboot

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// key names a world: two worlds with one key behave alike.
func (w *world) key() string {
	var b strings.Builder
	for i := range w.nodes {
		n := &w.nodes[i]
		fmt.Fprint(&b, n.data, n.up, n.member, n.lives, n.edited, n.cluster)
		keyMarker(&b, n.marker)
		keyMarker(&b, n.staged)
		for j := range w.nodes {
			if s, ok := n.answers[j]; ok {
				b.WriteString(strconv.Itoa(j) + s.Run + s.Digest[:4] + strconv.FormatBool(s.Member != nil))
				keyPhase(&b, s.Phase, s.Promised, s.Accepted)
			}
		}
		if r := n.round; r != nil {
			keyPhase(&b, "round", r.Ballot, nil)
			for _, name := range slices.Sorted(maps.Keys(r.Runs)) {
				b.WriteString(name + r.Runs[name])
			}
			for _, name := range slices.Sorted(maps.Keys(r.Promised)) {
				keyPhase(&b, Phase(name), Ballot{}, r.Promised[name])
			}
			fmt.Fprint(&b, len(r.Accepted), r.Lost, r.Genesis != nil)
		}
		b.WriteByte('|')
	}
	for _, k := range slices.Sorted(maps.Keys(w.net)) {
		b.WriteString(k)
	}
	fmt.Fprint(&b, w.left, w.ghost)
	return b.String()
}

func keyMarker(b *strings.Builder, m *Marker) {
	if m == nil {
		b.WriteByte('-')
		return
	}
	keyPhase(b, m.Phase, m.Promised, m.Accepted)
}

func keyPhase(b *strings.Builder, p Phase, promised Ballot, a *Acceptance) {
	b.WriteString(string(p))
	b.WriteString(strconv.FormatUint(promised.N, 10))
	b.WriteString(promised.By)
	if a != nil {
		b.WriteString(strconv.FormatUint(a.N, 10))
		b.WriteString(a.By + a.Genesis.ID)
	}
	b.WriteByte(';')
}

// inspect checks what must hold in every world, and notes who may have voted together.
func (w *world) inspect() {
	if len(w.ghost.born) > 1 && len(w.ghost.wiped) < w.m.tolerates() {
		panic(violation{fmt.Sprintf("P1: born twice: %v", w.ghost.born), w.trail})
	}
	voters := map[string][]string{}
	for i := range w.nodes {
		n := &w.nodes[i]
		if n.cluster != "" && n.marker != nil && n.marker.Accepted != nil && n.marker.Accepted.Genesis.ClusterID != n.cluster {
			panic(violation{"P3: the log is of another cluster than the marker", w.trail})
		}
		if n.up && n.member && n.data == HasMember && n.marker.Accepted != nil {
			g := n.marker.Accepted.Genesis.ID
			voters[g] = append(voters[g], g+"/"+w.homeName(i))
		}
	}
	for _, together := range voters {
		if len(together) < 2 {
			continue
		}
		w.ghost.mixed = maps.Clone(w.ghost.mixed)
		if w.ghost.mixed == nil {
			w.ghost.mixed = map[string]bool{}
		}
		for _, v := range together {
			w.ghost.mixed[v] = true
		}
	}
}

// heal starts everything, delivers everything, and says what stands in the way of health (P9).
func (w *world) heal() string {
	c := w.clone("everything heals")
	c.left = budget{ballot: 1000}
	for i := range c.nodes {
		c.nodes[i].edited = false
		if !c.nodes[i].up {
			c.nodes[i].up = true
			c.nodes[i].lives++
		}
	}
	for turn := range 40 {
		for i := range c.nodes {
			c = c.all(i, c.m.impatient(turn, i))
			for _, key := range slices.Sorted(maps.Keys(c.net)) {
				if n := c.deliver(c.net[key], true); n != nil {
					c = n
				}
			}
		}
	}
	var stuck []string
	for i := range c.nodes {
		if n := &c.nodes[i]; !n.member && !c.spare(i) {
			p := Decide(c.facts(i))
			if len(w.ghost.wiped) > 0 && p.Hint != "" {
				continue
			}
			stuck = append(stuck, fmt.Sprintf("n%d (%s) row %d: %s: %s", i, n.data, p.Row, p.Action, p.Reason))
		}
	}
	return strings.Join(stuck, "; ")
}

// all lets node i ask all, and act until it has nothing to do.
func (w *world) all(i int, impatient bool) *world {
	c := w
	for j := range c.nodes {
		if j != i {
			c = c.clone("asks")
			c.heard(i, j, c.state(j))
		}
	}
	if n := c.act(i, impatient); n != nil {
		c = n
	}
	for range 6 {
		if n := c.act(i, false); n != nil {
			c = n
		}
		if n := c.write(i); n != nil {
			c = n
		}
		c.inspect()
	}
	return c
}

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	if raceDetector {
		return max(1, otherwise/20)
	}
	return otherwise
}

// TestModel explores births with faults, breadth first: from blank disks, and from the turns of a birth where a fault
// hurts most. ETCD_DNS_MODEL_STATES and ETCD_DNS_MODEL_WALKS ask for more.
func TestModel(t *testing.T) {
	t.Parallel()
	limit := fromEnv("ETCD_DNS_MODEL_STATES", 4000)
	worst := budget{crash: 1, wipe: 1, ballot: 1, edit: 1}
	total := 0
	for _, c := range []struct {
		n     int
		b     budget
		loose bool
		from  string
	}{
		{1, budget{crash: 2, wipe: 1, edit: 1, ballot: 1}, true, ""},
		{2, budget{}, true, ""},
		{2, budget{crash: 1, wipe: 1}, false, ""},
		{2, worst, true, ""},
		{2, worst, true, "n0 asks n1; n0 acts; n0>n1 Prepare; n0 acts; n0>n1 Accept; n1 asks n0"},
		{3, budget{}, false, ""},
		{3, budget{crash: 1, wipe: 1}, false, ""},
		{3, worst, false, ""},
		{3, worst, true, promisesN0 + "n0 acts; n0>n1 Accept"},
		{3, worst, true, acceptedN0},
		{3, worst, true, acceptedN0 + starts0 + "n1 asks n0; n1 acts; n1 acts"},
		{3, worst, true, acceptedN0 + starts0 + joins1},
	} {
		m := newModel(c.n, c.b)
		m.loose = c.loose
		found, seen, whole := search(after(m.world(), lines(c.from)), limit, 50)
		total += seen
		t.Logf("n=%d %+v after %d events: %d states, all of them: %v", c.n, c.b, len(lines(c.from)), seen, whole)
		if found != "" {
			t.Errorf("n=%d %+v: %s", c.n, c.b, found)
		}
	}
	t.Logf("%d states explored", total)
}

func TestModelWalks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fromEnv("ETCD_DNS_MODEL_WALKS", 80)) {
		for _, n := range []int{2, 3, 5} {
			m := newModel(n, budget{crash: 3, wipe: (n - 1) / 2, edit: 1, ballot: 3})
			m.loose = true
			if found := walk(m.world(), seed, 250); found != "" {
				t.Fatalf("n=%d seed %d: %s", n, seed, found)
			}
		}
	}
}
