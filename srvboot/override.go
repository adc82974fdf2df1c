package srvboot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// BirthOp is what a person may say about a birth that cannot go on by itself (docs/design/birth.md).
type BirthOp string

const (
	// FinishBirth has a genesis born that a majority of its members accepted, while the others are dead. Any other genesis
	// would need a promise of those who accepted this one.
	FinishBirth BirthOp = "finish"
	// AbandonBirth has so many members of a genesis refuse it for ever that it can never have a majority.
	AbandonBirth BirthOp = "abandon"
	// ExcuseFromBirth takes nodes that were dead on arrival off the list of those that birth waits for.
	ExcuseFromBirth BirthOp = "excuse"
	// PermitBirth is a person's word that blank nodes are new, and were not wiped, after the bundle's permission for birth has
	// ended: a cluster that came into the Corefile later (safety.md R1).
	PermitBirth BirthOp = "permit"
)

// permitFor is how long a person's permission lasts, as long as the bundle's.
const permitFor = 7 * 24 * time.Hour

// BirthOrder is an operator's word about a birth. It is carried out by every node that it concerns, each for itself.
type BirthOrder struct {
	Format int     `json:"format"`
	Op     BirthOp `json:"op"`
	// Genesis is the ID that is finished or abandoned.
	Genesis string `json:"genesis,omitempty"`
	// Without are the nodes to go on without: with FinishBirth all members that did not accept.
	Without []string `json:"without,omitempty"`
}

// OnBirthOrder is a node's own part of an order: what it makes durable, or why not.
func OnBirthOrder(s Self, o BirthOrder) Move {
	name := s.Home.Node
	switch {
	case o.Format > Format:
		return no("%s reads orders up to format %d, not %d", name, Format, o.Format)
	case s.Disk.MemoryError != "":
		return no("%s's memory cannot be used: %s", name, s.Disk.MemoryError)
	case foreignMarker(s.Home, s.Disk.Marker) != "":
		return no("%s's genesis.json is %s", name, foreignMarker(s.Home, s.Disk.Marker))
	}
	m := startMarker(s.Home, s.Disk.Marker)
	if !m.Phase.unborn() {
		return no("%s is %s", name, m.Phase)
	}
	switch o.Op {
	case FinishBirth:
		return finishBirth(m, o)
	case AbandonBirth:
		return abandonBirth(m, o)
	case ExcuseFromBirth:
		return excuseFromBirth(s, m, o)
	case PermitBirth:
		return permitBirth(s, m)
	}
	return no("%s knows no order %q", name, o.Op)
}

func finishBirth(m Marker, o BirthOrder) Move {
	switch {
	case m.Accepted == nil || m.Accepted.Genesis.ID != o.Genesis:
		return no("%s did not accept genesis %s", m.Node, o.Genesis)
	case m.Finished == o.Genesis:
		return Move{OK: true, Marker: m}
	}
	m.Finished = o.Genesis
	return Move{OK: true, Save: true, Marker: m}
}

// abandonBirth keeps the promise: no message of an older ballot is granted again.
func abandonBirth(m Marker, o BirthOrder) Move {
	switch {
	case m.Finished == o.Genesis:
		return no("%s was told to finish genesis %s", m.Node, o.Genesis)
	case slices.Contains(m.Abandoned, o.Genesis):
		return Move{OK: true, Marker: m}
	}
	m.Abandoned = sortedNames(append(slices.Clone(m.Abandoned), o.Genesis))
	if m.Accepted != nil && m.Accepted.Genesis.ID == o.Genesis {
		m.Phase, m.Accepted, m.MemberID, m.Stamp, m.EtcdDevice = Fresh, nil, "", "", 0
	}
	return Move{OK: true, Save: true, Marker: m}
}

func excuseFromBirth(s Self, m Marker, o BirthOrder) Move {
	sit := look(s.Facts)
	if why, _ := sit.againstExcuse(o.Without); why != "" {
		return no("%s: %s", m.Node, why)
	}
	excused := sortedNames(append(slices.Clone(m.Excused), o.Without...))
	if slices.Equal(excused, sortedNames(m.Excused)) {
		return Move{OK: true, Marker: m}
	}
	m.Excused = excused
	return Move{OK: true, Save: true, Marker: m}
}

// permitBirth is dated on every disk of its own: whoever is wiped later has it no more.
func permitBirth(s Self, m Marker) Move {
	if len(s.Disk.Evidence) > 0 {
		return no("%s speaks of an earlier life: %s", m.Node, strings.Join(s.Disk.Evidence, ", "))
	}
	m.Permitted = s.Now.Add(permitFor).UTC().Truncate(time.Second)
	return Move{OK: true, Save: true, Marker: m}
}

// againstPermit says why a birth may not be permitted, as far as this node knows, and what to do instead.
func (s *situation) againstPermit() (why, hint string) {
	for _, check := range [...]func(*situation) (Plan, bool){ownEvidence, foreigners, silence, othersEvidence, digests} {
		if p, blocked := check(s); blocked {
			return p.Reason, p.Hint
		}
	}
	if len(s.silent) > 0 { // also where fewer suffice for a birth
		return "every node has to answer; waiting for " + strings.Join(s.silent, ", "), "start it there: systemctl start etcd-dns"
	}
	return "", ""
}

// againstExcuse says why birth may not go on without these nodes, as far as this one knows, and what to do instead.
func (s *situation) againstExcuse(names []string) (why, hint string) {
	if len(names) == 0 {
		return "no node is named", "etcd-dns recover birth --without NAME"
	}
	if id, ok := s.anyGenesis(); ok {
		return fmt.Sprintf("genesis %s is accepted by a node", id), "etcd-dns status names the command that finishes or abandons it"
	}
	for _, n := range names {
		switch {
		case n == s.f.Home.Node || slices.ContainsFunc(s.fresh, func(a Answer) bool { return a.Node == n }):
			return n + " answers, so it is not dead", "etcd-dns status, on " + n
		case !slices.Contains(s.askNames(), n) && !s.isExcused(n):
			return fmt.Sprintf("birth does not wait for %q but for %s", n, strings.Join(s.askNames(), ", ")), "etcd-dns status"
		}
	}
	// Two halves of a rack must not each go on without the other.
	const renew = "make a new rack of the nodes that work: etcd-dns init"
	all, size := s.f.Home.Initial, s.f.Home.Size
	switch rest := len(without(all, append(slices.Clone(s.marker.Excused), names...))); {
	case 2*rest <= len(all):
		return fmt.Sprintf("%d of the %d initial members would be left, and it takes more than half", rest, len(all)), renew
	case rest < size:
		return fmt.Sprintf("%d of the %d nodes would be left, and the cluster is to have %d members", rest, len(all), size), renew
	}
	return "", ""
}

// anyGenesis returns the ID of a genesis that somebody who can be heard accepted.
func (s *situation) anyGenesis() (string, bool) {
	if g := s.genesis(); g != nil {
		return g.ID, true
	}
	for _, a := range s.fresh {
		if a.State.Accepted != nil {
			return a.State.Accepted.Genesis.ID, true
		}
	}
	return "", false
}

// planBirthOrder returns the nodes that have to carry an order out, or why it is refused.
func (s *situation) planBirthOrder(o BirthOrder) (tell []string, r OrderReply) {
	refuse := func(hint, format string, args ...any) ([]string, OrderReply) {
		return nil, OrderReply{Text: fmt.Sprintf(format, args...), Hint: hint}
	}
	if born := nodesOf(s.born); len(born) > 0 || !s.phase.unborn() {
		if len(born) == 0 {
			born = []string{s.f.Home.Node}
		}
		return refuse("a node that is gone is removed by: etcd-dns member remove NAME", "the cluster is born: %s says so", born[0])
	}
	if o.Op == ExcuseFromBirth {
		if why, hint := s.againstExcuse(o.Without); why != "" {
			return refuse(hint, "%s", why)
		}
		if i := slices.IndexFunc(s.silent, func(n string) bool { return !slices.Contains(o.Without, n) }); i >= 0 {
			return refuse(s.birthHint(), "%s does not answer either, and has to be told or to be left out too", s.silent[i])
		}
		return sortedNames(append(nodesOf(s.fresh), s.f.Home.Node)), r
	}
	if o.Op == PermitBirth {
		if why, hint := s.againstPermit(); why != "" {
			return refuse(hint, "%s", why)
		}
		return sortedNames(append(nodesOf(s.fresh), s.f.Home.Node)), r
	}
	v := s.votes(o.Genesis)
	if v.genesis == nil {
		return refuse("etcd-dns status shows the one that is accepted, if any", "no node that answers accepted genesis %q", o.Genesis)
	}
	n := len(v.genesis.Members)
	switch missing := v.missing(); {
	case o.Op == AbandonBirth && len(v.reachable) < n-quorum(n)+1:
		return refuse("start the others", "%d of its %d members answer, and %d have to refuse it", len(v.reachable), n, n-quorum(n)+1)
	case o.Op == AbandonBirth:
		return v.reachable, r
	case o.Op != FinishBirth:
		return refuse("etcd-dns recover birth --help", "unknown order %q", o.Op)
	case len(v.accepted) < v.genesis.finishers():
		return refuse(s.birthHint(), "%d of its %d members accepted genesis %s, and it takes %d", len(v.accepted), n, o.Genesis, v.genesis.finishers())
	case !slices.Equal(missing, sortedNames(o.Without)):
		return refuse("etcd-dns recover birth --finish "+o.Genesis+withoutFlags(missing), "the members that did not accept it are %s, not %s",
			strings.Join(missing, ", "), strings.Join(sortedNames(o.Without), ", "))
	}
	for _, name := range o.Without {
		if slices.Contains(v.reachable, name) {
			return refuse("etcd-dns status, on "+name, "%s answers, so it can accept it by itself", name)
		}
	}
	return v.accepted, r
}

func withoutFlags(names []string) string {
	out := ""
	for _, n := range names {
		out += " --without " + n
	}
	return out
}

// votes are the members of a genesis, as far as they can be heard, this node included.
type votes struct {
	genesis             *Genesis
	reachable, accepted []string // sorted
}

func (s *situation) votes(id string) (v votes) {
	all := append(slices.Clone(s.fresh), Answer{Node: s.f.Home.Node, State: State{Phase: s.phase, Accepted: s.marker.Accepted}})
	for _, a := range all {
		if acc := a.State.Accepted; acc != nil && acc.Genesis.ID == id && v.genesis == nil {
			v.genesis = &acc.Genesis
		}
	}
	if v.genesis == nil {
		return v
	}
	for _, a := range all {
		if _, member := v.genesis.member(a.Node); !member {
			continue
		}
		v.reachable = append(v.reachable, a.Node)
		if a.State.Accepted != nil && a.State.Accepted.Genesis.ID == id {
			v.accepted = append(v.accepted, a.Node)
		}
	}
	v.reachable, v.accepted = sortedNames(v.reachable), sortedNames(v.accepted)
	return v
}

// missing are the members that did not accept.
func (v votes) missing() []string {
	return slices.DeleteFunc(memberNames(v.genesis.Members), func(n string) bool { return slices.Contains(v.accepted, n) })
}

// birthHint is the command that leads out when the silent nodes never come back.
func (s *situation) birthHint() string {
	const start = "start it there: systemctl start etcd-dns; if it is dead for good: "
	id, accepted := s.anyGenesis()
	if !accepted {
		if why, _ := s.againstExcuse(s.silent); why == "" {
			return start + "etcd-dns recover birth" + withoutFlags(s.silent)
		}
		return start + "make a new rack of the nodes that work: etcd-dns init"
	}
	v := s.votes(id)
	switch n := len(v.genesis.Members); {
	case len(v.accepted) >= v.genesis.finishers():
		return start + "etcd-dns recover birth --finish " + id + withoutFlags(v.missing())
	case len(v.reachable) >= n-quorum(n)+1 && s.f.Home.someSuffice() && len(s.answering()) >= s.f.Home.Answers:
		return start + "etcd-dns recover birth --abandon " + id // birth goes on without the silent ones
	case len(v.reachable) >= n-quorum(n)+1:
		return start + "etcd-dns recover birth --abandon " + id + ", then: etcd-dns recover birth" + withoutFlags(s.silent)
	}
	return start + "make a new rack of the nodes that work: etcd-dns init"
}
