package srvboot

import (
	"fmt"
	"maps"
	"slices"
)

// situation is the facts seen through the rules: which answers count, who is silent, who knows of a birth.
type situation struct {
	f      Facts
	marker Marker
	phase  Phase
	// fresh are the answers that count, foreign those of another bundle or srv-name, both in the order of names.
	fresh, foreign []Answer
	// silent are the nodes of R1 without a fresh answer, excused ones left out.
	silent []string
	// born are those fresh answers that know of a birth, the highest generation first.
	born []Answer
	// lives is who serves the member list of the highest generation; nil when nobody does.
	lives *living
}

// living is a node whose member served a linearizable read within the last two seconds.
type living struct {
	Node    string
	List    []MemberEntry
	Applied uint64
}

// look sorts the facts.
func look(f Facts) *situation {
	s := &situation{f: f, phase: Fresh}
	if m := f.Disk.Marker; m != nil {
		s.marker = *m
		s.phase = m.Phase
	}
	if s.phase == "" {
		s.phase = Fresh
	}
	for _, name := range slices.Sorted(maps.Keys(f.Peers)) {
		a := f.Peers[name]
		switch {
		case name == f.Home.Node || !a.Fresh(f.Now, FreshFor) || a.State.Node != name:
		case a.State.Bundle != f.Home.Bundle || a.State.SrvName != f.Home.SrvName || a.State.Format > Format:
			s.foreign = append(s.foreign, a)
		default:
			s.fresh = append(s.fresh, a)
		}
	}
	s.findSilent()
	s.findBorn()
	return s
}

func (s *situation) findSilent() {
	for _, name := range s.askNames() {
		heard := func(a Answer) bool { return a.Node == name }
		if name != s.f.Home.Node && !slices.ContainsFunc(s.fresh, heard) && !slices.ContainsFunc(s.foreign, heard) {
			s.silent = append(s.silent, name)
		}
	}
}

func (s *situation) findBorn() {
	for _, a := range s.fresh {
		if !a.State.Phase.unborn() && a.State.Accepted != nil {
			s.born = append(s.born, a)
		}
	}
	slices.SortStableFunc(s.born, func(a, b Answer) int {
		return int(min(b.State.Accepted.Genesis.Generation, 1<<30)) - int(min(a.State.Accepted.Genesis.Generation, 1<<30))
	})
	for _, a := range s.born {
		g, m := a.State.Accepted.Genesis, a.State.Member
		if m == nil || !m.Serving || len(m.Members) == 0 || g.Generation < s.born[0].State.Accepted.Genesis.Generation {
			continue
		}
		if own := s.genesis(); own != nil && !s.phase.unborn() && !own.same(g) && own.Generation >= g.Generation {
			continue // another genesis is not ours to join
		}
		s.lives = &living{Node: a.Node, List: m.Members, Applied: m.Applied}
		return
	}
}

// genesis returns the genesis that this node accepted, nil without one.
func (s *situation) genesis() *Genesis {
	if s.marker.Accepted == nil {
		return nil
	}
	return &s.marker.Accepted.Genesis
}

// clusterID is that of the own genesis, or of the one that lives for a node without; empty when neither is known.
func (s *situation) clusterID() string {
	if g := s.genesis(); g != nil {
		return g.ClusterID
	}
	for _, a := range s.born {
		if s.lives != nil && a.Node == s.lives.Node {
			return a.State.Accepted.Genesis.ClusterID
		}
	}
	return ""
}

// buried reports whether a person removed this node from its cluster, as far as it knows of one.
func (s *situation) buried() bool {
	return s.ownWord().Removed
}

// ownWord is a person's word on this node in its cluster, as far as it knows of one.
func (s *situation) ownWord() Tombstone {
	seen, node := s.f.Disk.Seen, s.f.Home.Node
	if cluster := s.clusterID(); cluster != "" {
		return seen.word(cluster, node)
	}
	if t := seen.Tombstones[node]; t.isIn(s.f.Home.SrvName) && t.dated() {
		return t
	}
	return Tombstone{}
}

// memberID returns the ID that the marker or else the log gives this node.
func (s *situation) memberID() string {
	if s.marker.MemberID != "" {
		return s.marker.MemberID
	}
	return s.f.Disk.MemberID
}

// digest is what this node compares with the others: once it accepted a genesis that is the truth, not the Corefile.
func (s *situation) digest() string { return effectiveDigest(s.f.Home, s.f.Disk.Marker) }

func effectiveDigest(h Home, m *Marker) string {
	if m != nil && m.Accepted != nil && m.Accepted.Genesis.Digest != "" {
		return m.Accepted.Genesis.Digest
	}
	return h.Digest()
}

// empty reports whether etcd/ holds nothing that a member wrote.
func (s *situation) empty() bool { return s.f.Disk.Data == None || s.f.Disk.Data == Stamped }

func (s *situation) isExcused(node string) bool { return slices.Contains(s.marker.Excused, node) }

// askNames are all names that R1 waits for: the own ones and those that a node which counts waits for.
func (s *situation) askNames() []string { return slices.DeleteFunc(s.knownNames(), s.isExcused) }

// knownNames are all names that are asked; an excused node may be back.
func (s *situation) knownNames() []string {
	names := slices.Clone(s.f.Home.Ask)
	for _, a := range s.fresh {
		names = append(names, a.State.Ask...)
	}
	return sortedNames(names)
}

// namedBy are the nodes that wait for a name which this node's configuration does not hold.
func (s *situation) namedBy(name string) []string {
	var by []string
	for _, a := range s.fresh {
		if slices.Contains(a.State.Ask, name) {
			by = append(by, a.Node)
		}
	}
	return by
}

func (s *situation) anyAccepted() bool {
	return s.marker.Accepted != nil ||
		slices.ContainsFunc(s.fresh, func(a Answer) bool { return a.State.Accepted != nil })
}

// decided reports whether the accepted genesis is seen to be born, and by what (T4): a member of it says so itself,
// or every member says that it accepted it in the one ballot to which this node still holds.
func (s *situation) decided() (why string, ok bool) {
	own := s.marker.Accepted
	if own == nil || s.phase != Accepted {
		return "", false
	}
	if s.marker.Finished == own.Genesis.ID {
		return "a person had it finished without its dead members", true
	}
	for _, a := range s.born {
		ran := a.State.Phase == Born || a.State.Phase == Running
		if _, member := own.Genesis.member(a.Node); member && ran && a.State.Accepted.Genesis.same(own.Genesis) {
			return fmt.Sprintf("%s is %s", a.Node, a.State.Phase), true
		}
	}
	if s.marker.Promised != own.Ballot {
		return "", false
	}
	for _, m := range own.Genesis.Members {
		if m.Name != s.f.Home.Node && !s.accepts(m.Name, *own) {
			return "", false
		}
	}
	return fmt.Sprintf("all %d members accepted it in ballot %d of %s",
		len(own.Genesis.Members), own.Ballot.N, own.Ballot.Node()), true
}

// accepts reports whether a node says that it accepted that very acceptance.
func (s *situation) accepts(node string, own Acceptance) bool {
	return slices.ContainsFunc(s.fresh, func(a Answer) bool {
		theirs := a.State.Accepted
		return a.Node == node && a.State.Phase == Accepted && theirs != nil &&
			theirs.Ballot == own.Ballot && theirs.Genesis.ID == own.Genesis.ID
	})
}

// listedURL returns the entry of the living list that is in this node's place.
func (s *situation) listedURL() (MemberEntry, bool) {
	if s.lives == nil {
		return MemberEntry{}, false
	}
	for _, e := range s.lives.List {
		if e.at(s.f.Home.peerURL()) {
			return e, true
		}
	}
	return MemberEntry{}, false
}

// changedLists returns the nodes of genesis g whose member list is no longer that of the birth.
func (s *situation) changedLists(g Genesis) []string {
	var nodes []string
	for _, a := range s.born {
		m := a.State.Member
		if m == nil || len(m.Members) == 0 || !a.State.Accepted.Genesis.same(g) {
			continue
		}
		var urls, born []string
		for _, e := range m.Members {
			urls = append(urls, e.PeerURLs...)
		}
		for _, b := range g.Members {
			born = append(born, b.PeerURL)
		}
		_, listed := (&living{List: m.Members}).byID(s.memberID())
		if !listed || !slices.Equal(sortedNames(urls), sortedNames(born)) {
			nodes = append(nodes, a.Node)
		}
	}
	return nodes
}

func (l *living) byID(id string) (MemberEntry, bool) {
	for _, e := range l.List {
		if e.ID == id {
			return e, true
		}
	}
	return MemberEntry{}, false
}

// members turns the list into what a member boots by.
func (l *living) members() []GenesisMember { return bootMembers(l.List) }

func bootMembers(list []MemberEntry) []GenesisMember {
	var out []GenesisMember
	for _, e := range list {
		if len(e.PeerURLs) > 0 {
			out = append(out, GenesisMember{Name: entryNode(e), PeerURL: e.PeerURLs[0]})
		}
	}
	return sortedMembers(out)
}

func nodesOf(answers []Answer) []string {
	var names []string
	for _, a := range answers {
		names = append(names, a.Node)
	}
	return names
}
