package srvboot

import (
	"maps"
	"slices"
	"time"
)

// Round is what a proposer remembers of its ballot. It is lost in a crash, on purpose: the next run makes a higher one.
type Round struct {
	Ballot Ballot
	Began  time.Time
	// Digest is that of the ballot; Runs are the runs of the members that were seen before the ballot was chosen.
	Digest string
	Runs   map[string]string
	// Promised holds, by node, what the promising node had accepted; nil for nothing.
	Promised map[string]*Acceptance
	// Genesis is the value of phase two, nil in phase one.
	Genesis *Genesis
	// Accepted are the members that accepted it.
	Accepted map[string]bool
	// Lost says that the ballot cannot succeed any more and another may be made at once.
	Lost bool
}

// Proposal is what a proposer's step looks at.
type Proposal struct {
	Facts
	// Round is the one under way, nil for none.
	Round *Round
	// Moved is when a ballot was last seen to move.
	Moved time.Time
	// NewID makes the UUID of a new genesis.
	NewID  func() string
	Timing Timing
}

// Step is what a proposer does next: save Marker if it is set, then say the messages.
type Step struct {
	Round   *Round
	Marker  *Marker
	Prepare map[string]Prepare
	Accept  map[string]Accept
}

// Propose is T2, one step of it. It is only called while Decide says Birth, so the rules of R1 hold.
func Propose(p Proposal) Step {
	s := look(p.Facts)
	r := p.Round
	switch {
	case r != nil && !r.Lost && s.marker.Promised == r.Ballot && p.Now.Sub(r.Began) < p.Timing.NewBallot:
	case !p.turn(s):
		return Step{}
	default:
		return p.begin(s)
	}
	if r.Genesis == nil && r.promisedByAll() {
		return p.choose(s)
	}
	return Step{Round: r, Prepare: r.prepares(), Accept: r.accepts()}
}

// turn reports whether this node proposes: the first member at any time, each later one after as many periods without
// a moving ballot.
func (p Proposal) turn(s *situation) bool {
	members := s.beginners()
	if last := s.lastAccepted(); last != nil { // of several, none but a member of it can go on
		members = last.Genesis.Members
	}
	i := slices.Index(memberNames(members), p.Home.Node)
	still := p.Now.Sub(p.Moved)
	if len(s.silent) > 0 { // birth waited for them first, see lacking
		still = min(still, p.Now.Sub(p.Facts.Began)-FreshFor)
	}
	if by := s.marker.Promised.Node(); i == 0 && by != "" && by != p.Home.Node {
		return still >= p.Timing.NewBallot // another one's ballot may still succeed
	}
	return i == 0 || i > 0 && still >= time.Duration(i)*p.Timing.NextProposer
}

// begin makes a ballot higher than all that were seen and promises it.
func (p Proposal) begin(s *situation) Step {
	top := s.marker.Promised.N
	runs := map[string]string{}
	for _, a := range s.fresh {
		top = max(top, a.State.Promised.N)
		if acc := a.State.Accepted; acc != nil {
			top = max(top, acc.N)
		}
		runs[a.Node] = a.State.Run
	}
	own := Self{Facts: p.Facts, From: p.Home.Node}
	ballot := NewBallot(top+1, p.Home.Node, p.Run)
	move := OnPrepare(own, Prepare{Format: Format, Ballot: ballot, Digest: s.digest(), Run: p.Run})
	if !move.OK {
		return Step{}
	}
	r := &Round{Ballot: ballot, Began: p.Now, Digest: s.digest(), Runs: map[string]string{},
		Promised: map[string]*Acceptance{p.Home.Node: s.marker.Accepted}}
	for _, name := range s.electors() {
		if name != p.Home.Node {
			r.Runs[name] = runs[name]
		}
	}
	return Step{Round: r, Marker: &move.Marker, Prepare: r.prepares()}
}

// electors are the nodes whose promise a ballot needs: all initial members and those of what is accepted. Where fewer nodes
// suffice, they are all that answer, at least as many as have to, and the members of what was accepted last: any genesis
// that may be born has members among them (newGenesis counts them).
func (s *situation) electors() []string {
	if s.f.Home.someSuffice() {
		names := memberNames(s.answering())
		if last := s.lastAccepted(); last != nil {
			names = append(names, memberNames(last.Genesis.Members)...)
		}
		return sortedNames(names)
	}
	names := memberNames(without(s.f.Home.Initial, s.marker.Excused))
	if g := s.genesis(); g != nil {
		names = append(names, memberNames(g.Members)...)
	}
	for _, a := range s.fresh {
		if acc := a.State.Accepted; acc != nil {
			names = append(names, memberNames(acc.Genesis.Members)...)
		}
	}
	return sortedNames(names)
}

// choose takes the genesis that was accepted in the highest ballot, always if there is one, else a new one, and
// accepts it.
func (p Proposal) choose(s *situation) Step {
	next := *p.Round
	var best *Acceptance
	for _, a := range next.Promised {
		if a != nil && (best == nil || best.Ballot.Less(a.Ballot)) {
			best = a
		}
	}
	if best != nil {
		if !next.promisedBy(best.Genesis.Members) { // it was not known when the ballot was made
			next.Lost = true
			return Step{Round: &next}
		}
		next.Genesis = &best.Genesis
	} else {
		if _, late := permission(s); late {
			return Step{Round: p.Round}
		}
		g, err := newGenesis(p.Home, p.leftOut(s), p.NewID())
		if err != nil || g.Digest != next.Digest {
			next.Lost = true
			return Step{Round: &next}
		}
		next.Genesis = &g
	}
	m, err := accept(startMarker(p.Home, p.Disk.Marker), p.Facts, Acceptance{Ballot: next.Ballot, Genesis: *next.Genesis})
	if err != nil { // not a member of it, or abandoned here: leave it to its members
		return Step{Round: p.Round}
	}
	next.Accepted = map[string]bool{p.Home.Node: true}
	return Step{Round: &next, Marker: &m, Accept: next.accepts()}
}

// leftOut are the nodes that a new genesis does not have as members: those excused and, of a size, those that did not promise.
func (p Proposal) leftOut(s *situation) []string {
	names := slices.Clone(s.marker.Excused)
	for _, m := range p.Home.Initial {
		if _, promised := p.Round.Promised[m.Name]; !promised && p.Home.Size > 0 {
			names = append(names, m.Name)
		}
	}
	return names
}

func (r *Round) promisedBy(members []GenesisMember) bool {
	return !slices.ContainsFunc(members, func(m GenesisMember) bool { _, ok := r.Promised[m.Name]; return !ok })
}

func (r *Round) promisedByAll() bool {
	for name := range r.Runs {
		if _, ok := r.Promised[name]; !ok {
			return false
		}
	}
	return true
}

// prepares are the requests of phase one that were not granted yet.
func (r *Round) prepares() map[string]Prepare {
	out := map[string]Prepare{}
	for name, run := range r.Runs {
		if _, ok := r.Promised[name]; !ok && r.Genesis == nil {
			out[name] = Prepare{Format: Format, Ballot: r.Ballot, Digest: r.Digest, Run: run}
		}
	}
	return out
}

// accepts are the requests of phase two that were not granted yet.
func (r *Round) accepts() map[string]Accept {
	out := map[string]Accept{}
	if r.Genesis == nil {
		return out
	}
	for _, m := range r.Genesis.Members {
		if !r.Accepted[m.Name] {
			out[m.Name] = Accept{Format: Format, Ballot: r.Ballot, Genesis: *r.Genesis}
		}
	}
	return out
}

// OnPromise returns the round after a reply to its Prepare.
func (r *Round) OnPromise(from string, b Ballot, reply Reply) *Round {
	if b != r.Ballot || r.Genesis != nil {
		return r
	}
	next := *r
	if !reply.OK {
		// A node that started anew, or that knows of a ballot of an earlier run of this node, asks for a new one now.
		next.Lost = r.Lost || reply.State.Run != r.Runs[from] ||
			r.Ballot.Less(reply.State.Promised) && reply.State.Promised.Node() == r.Ballot.Node()
		return &next
	}
	next.Promised = maps.Clone(r.Promised)
	next.Promised[from] = reply.State.Accepted
	return &next
}

// OnAccepted returns the round after a reply to its Accept.
func (r *Round) OnAccepted(from string, b Ballot, reply Reply) *Round {
	if b != r.Ballot || r.Genesis == nil {
		return r
	}
	next := *r
	if !reply.OK {
		next.Lost = r.Lost || reply.State.Promised.Less(r.Ballot) && reply.State.Phase.unborn() // its disk was lost
		return &next
	}
	next.Accepted = maps.Clone(r.Accepted)
	next.Accepted[from] = true
	return &next
}
