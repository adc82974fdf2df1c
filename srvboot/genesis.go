package srvboot

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Self is what a node knows of itself when a message of the genesis protocol arrives.
type Self struct {
	// Facts need no Peers here.
	Facts
	// From is the node that sent the message, by its certificate.
	From string
}

// Move answers a message: the marker to save and the reply to give after it is saved.
type Move struct {
	// OK says that the request is granted once Marker is durable.
	OK bool
	// Save says that Marker differs from the one on disk.
	Save   bool
	Marker Marker
	// Reason says why not, for the operator of the asking node.
	Reason string
}

func no(format string, args ...any) Move { return Move{Reason: fmt.Sprintf(format, args...)} }

// OnPrepare is T1: it promises a ballot higher than all before, if this node agrees with the asking one and is ready.
// A node that knows of a birth never promises; its state in the reply says so.
func OnPrepare(s Self, req Prepare) Move {
	m, why := s.participant(req.Format, req.Ballot)
	if why != "" {
		return no("%s", why)
	}
	switch {
	case req.Run != s.Run:
		return no("%s started or lost its marker since it was asked: make a new ballot", s.Home.Node)
	case req.Digest != effectiveDigest(s.Home, s.Disk.Marker):
		return no("%s has digest %.8s, the ballot %.8s: the Corefiles differ", s.Home.Node,
			effectiveDigest(s.Home, s.Disk.Marker), req.Digest)
	case len(s.Preflight) > 0:
		return no("%s is not ready: %s", s.Home.Node, strings.Join(s.Preflight, "; "))
	case req.Ballot.Less(m.Promised):
		return no("%s promised ballot %d of %s", s.Home.Node, m.Promised.N, m.Promised.Node())
	}
	if m.Phase == Fresh {
		if why := s.notBlank(); why != "" {
			return no("%s %s", s.Home.Node, why)
		}
	}
	if req.Ballot == m.Promised {
		return Move{OK: true, Marker: m}
	}
	m.Promised = req.Ballot
	if m.Phase == Fresh {
		m.Phase = Promised
	}
	return Move{OK: true, Save: true, Marker: m}
}

// OnAccept is T3: it accepts a genesis in the ballot that this disk promised. A disk that promised another ballot, or
// none because it was lost since, refuses: its member might have voted in its earlier life.
func OnAccept(s Self, req Accept) Move {
	m, why := s.participant(req.Format, req.Ballot)
	if why != "" {
		return no("%s", why)
	}
	if m.Promised != req.Ballot {
		return no("%s promised ballot %d of %q, not %d of %q", s.Home.Node,
			m.Promised.N, m.Promised.By, req.Ballot.N, req.Ballot.By)
	}
	if old := m.Accepted; old != nil && old.Ballot == req.Ballot {
		if old.Genesis.ID != req.Genesis.ID {
			return no("%s accepted genesis %s in that ballot", s.Home.Node, old.Genesis.ID)
		}
		return Move{OK: true, Marker: m}
	}
	next, err := accept(m, s.Facts, Acceptance{Ballot: req.Ballot, Genesis: req.Genesis})
	if err != nil {
		return no("%s: %v", s.Home.Node, err)
	}
	return Move{OK: true, Save: true, Marker: next}
}

// participant returns the marker to go on from, or why this node takes no part in a birth.
func (s Self) participant(format int, b Ballot) (Marker, string) {
	name := s.Home.Node
	switch {
	case format > Format:
		return Marker{}, fmt.Sprintf("%s reads messages up to format %d, not %d", name, Format, format)
	case b.N == 0 || b.Node() != s.From || s.From == "":
		return Marker{}, fmt.Sprintf("the ballot is of %q, the sender is %q", b.Node(), s.From)
	case s.Disk.MemoryError != "":
		return Marker{}, name + "'s memory cannot be used: " + s.Disk.MemoryError
	case foreignMarker(s.Home, s.Disk.Marker) != "":
		return Marker{}, name + "'s genesis.json is " + foreignMarker(s.Home, s.Disk.Marker)
	case s.Disk.Data != None && s.Disk.Data != Stamped:
		return Marker{}, fmt.Sprintf("%s has data (%s)", name, s.Disk.Data)
	}
	if t := s.Disk.Seen.Tombstones[name]; t.Removed && t.isIn(s.Home.SrvName) {
		return Marker{}, fmt.Sprintf("%s was removed from cluster %s by a person", name, t.ClusterID)
	}
	m := startMarker(s.Home, s.Disk.Marker)
	if !m.Phase.unborn() {
		return Marker{}, fmt.Sprintf("%s is %s", name, m.Phase)
	}
	return m, ""
}

// notBlank says what keeps a node without a promise from giving its first one (R1).
func (s Self) notBlank() string {
	switch {
	case len(s.Disk.Evidence) > 0:
		return "speaks of an earlier life: " + strings.Join(s.Disk.Evidence, ", ")
	case s.Disk.Volatile != "" && !s.Home.Ephemeral:
		return "has its data on " + s.Disk.Volatile + ", without ephemeral yes"
	case !s.Now.Before(s.birthUntil()):
		return fmt.Sprintf("holds that the permission for birth ended at %s", stamp(s.birthUntil()))
	}
	return ""
}

// startMarker returns a copy of the marker, or the one that a node without has in mind.
func startMarker(h Home, m *Marker) Marker {
	if m == nil {
		return Marker{Format: Format, Bundle: h.Bundle, SrvName: h.SrvName, Node: h.Node, Phase: Fresh}
	}
	out := *m
	if out.Phase == "" {
		out.Phase = Fresh
	}
	return out
}

// accept writes an acceptance into the marker. The stamp's nonce is fixed here, so that a stamp found later is known
// to be of this acceptance.
func accept(m Marker, f Facts, a Acceptance) (Marker, error) {
	g := a.Genesis
	if slices.Contains(m.Abandoned, g.ID) {
		return m, fmt.Errorf("genesis %s was abandoned here", g.ID)
	}
	if _, ok := g.member(m.Node); !ok {
		return m, fmt.Errorf("genesis %s does not name this node", g.ID)
	}
	ids, err := checkGenesis(g)
	if err != nil {
		return m, err
	}
	m.Phase, m.Promised, m.Accepted, m.MemberID = Accepted, a.Ballot, &a, ids[m.Node]
	if m.Stamp == "" {
		sum := sha256.Sum256([]byte(g.ID + "/" + m.Node + "/" + f.Run))
		m.Stamp = hex.EncodeToString(sum[:16])
	}
	return m, nil
}

// checkGenesis returns the member IDs by name of a well-formed birth.
func checkGenesis(g Genesis) (map[string]string, error) {
	if g.ID == "" || g.Generation != 1 || len(g.Members) == 0 {
		return nil, fmt.Errorf("genesis %q of generation %d with %d members is no birth", g.ID, g.Generation, len(g.Members))
	}
	if !slices.Equal(sortedMembers(g.Members), g.Members) || len(memberNames(g.Members)) != len(g.Members) {
		return nil, fmt.Errorf("the members of genesis %s are not sorted by name, each once", g.ID)
	}
	if sized := g.Size > 0 || g.Of > 0; sized && (g.Size != len(g.Members) || g.Size > g.Of || 2*g.Size <= g.Of) {
		return nil, fmt.Errorf("genesis %s has %d members, and a size of %d of %d", g.ID, len(g.Members), g.Size, g.Of)
	}
	cluster, ids, err := IDs(g.Members, g.ID)
	if err != nil {
		return nil, fmt.Errorf("genesis %s: %w", g.ID, err)
	}
	if cluster != g.ClusterID {
		return nil, fmt.Errorf("genesis %s says cluster ID %s, its members give %s", g.ID, g.ClusterID, cluster)
	}
	return ids, nil
}

// newGenesis makes a birth of the initial members, without those left out; of a size, of the first of them.
func newGenesis(h Home, leftOut []string, id string) (Genesis, error) {
	g := Genesis{ID: id, Generation: 1, Members: without(h.Initial, leftOut), Digest: h.Digest()}
	if h.Size > 0 {
		if len(g.Members) < h.Size {
			return Genesis{}, fmt.Errorf("a cluster of %d members cannot begin with %d", h.Size, len(g.Members))
		}
		g.Members, g.Size, g.Of = g.Members[:h.Size], h.Size, len(h.Initial)
	}
	cluster, _, err := IDs(g.Members, id)
	if err != nil {
		return Genesis{}, err
	}
	g.ClusterID = cluster
	return g, nil
}

// bear is T4 once the birth was seen: the marker of a node whose member may start as new.
func bear(m Marker, device uint64) Marker {
	m.Phase, m.EtcdDevice = Born, device
	return m
}
