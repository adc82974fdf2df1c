package srvboot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// hearFor is how long a member of several waits at its start for a majority to say what it remembers (R9).
	hearFor = 10 * time.Second
	// hearAllFor is how long it waits for all: who is connected with a copy of it may be the last one to answer.
	hearAllFor = time.Second
	// quietElsewhere is for how many seconds a node must have heard of no run on another machine.
	quietElsewhere = 10
)

// spawnable turns a start into waiting while what the others remember is not known, or speaks against it (R9).
func (s *situation) spawnable(p Plan) Plan {
	if p.Action == Ask || p.Action == Enroll || p.Action == Existing {
		if w, blocked := amongStrangers(s); blocked {
			w.Row, w.Reason = p.Row, p.Reason+", but "+w.Reason
			return w
		}
	}
	if p.Action != New && p.Action != Restart && p.Action != Existing {
		return p
	}
	for _, check := range [...]func(*situation) (Plan, bool){elsewhere, heard, twice, olderElsewhere} {
		if w, blocked := check(s); blocked {
			w.Row, w.Reason = p.Row, p.Reason+", but "+w.Reason
			return w
		}
	}
	return p
}

// amongStrangers keeps a newcomer out whose Corefile leads to another machine where a member should be: its member would have
// wrong peers, and others might take it for one of theirs. A member that has data already does better with one wrong name than
// not at all.
func amongStrangers(s *situation) (Plan, bool) {
	if s.lives == nil {
		return Plan{}, false
	}
	for _, e := range s.lives.List {
		if a := s.f.Peers[entryNode(e)]; a.Stranger {
			return wait(0, "where this node looks for %s there is another machine: %s", entryNode(e), a.Err).
				hint("compare this Corefile with that of " + s.lives.Node + ": the address of each node is the same on every node").waitsFor(entryNode(e)), true
		}
	}
	return Plan{}, false
}

// electorate are the nodes of the members of this node's cluster by the latest list that was heard of, else by its birth.
func (s *situation) electorate() []string {
	var names []string
	index, g := uint64(0), s.genesis()
	for _, a := range s.born {
		m := a.State.Member
		if m != nil && len(m.Members) > 0 && m.Applied >= index && (g == nil || g.same(a.State.Accepted.Genesis)) {
			names, index = memberNames(bootMembers(m.Members)), m.Applied
		}
	}
	if names == nil && g != nil && len(g.Members) > 0 {
		names = memberNames(g.Members)
	}
	if names == nil {
		names = memberNames(s.f.Home.Initial)
	}
	return names
}

// heard holds a member of several back until all said what they remember of it, after a second until a majority did, this node
// included, and for ten seconds at most: then it may start, since what speaks against it stops it later (Boot.watch), and alone it is no quorum.
func heard(s *situation) (Plan, bool) {
	var missing []string
	names := s.electorate()
	for _, n := range names {
		// Without a phase it has not read its memory, or cannot.
		if n != s.f.Home.Node && !slices.ContainsFunc(s.fresh, func(a Answer) bool { return a.Node == n && a.State.Phase != "" }) {
			missing = append(missing, n)
		}
	}
	waited := s.f.Now.Sub(s.f.Began)
	enough := len(missing) == 0 || len(names)-len(missing) >= quorum(len(names)) && waited >= hearAllFor
	if len(names) < 2 || enough || waited >= hearFor {
		return Plan{}, false
	}
	return wait(0, "its cluster has to say first what it remembers of this node (all within %s, then a majority within %s); no answer of %s yet",
		hearAllFor, hearFor, strings.Join(missing, ", ")).waitsFor(missing...), true
}

// olderElsewhere does not lend a quorum to a member that runs on an older disk.
func olderElsewhere(s *situation) (Plan, bool) {
	node, why := s.othersRolledBack()
	if node == "" {
		return Plan{}, false
	}
	return wait(0, "%s runs on a disk that is older than what was seen of it, and has to stop first: %s", node, why).
		hint("etcd-dns status, on " + node).waitsFor(node), true
}

// elsewhere holds a disk back that comes from another machine: it may be a copy, and the original may run. It does not when so many
// others are sure that those who are left are no quorum with it, and nobody doubts it.
func elsewhere(s *situation) (Plan, bool) {
	id := s.f.Disk.Identity
	if id.MovedFrom == "" || s.f.Moved {
		return Plan{}, false
	}
	names, sure := s.electorate(), 0
	needed := len(names) - quorum(len(names)) + 1
	var why []string
	for _, a := range s.fresh {
		switch {
		case hearsOf(a, s.memberID()):
			why = append(why, a.Node+" hears of a member that runs under its ID")
		case !slices.Contains(names, a.Node):
		case a.State.Quiet < quietElsewhere:
			why = append(why, fmt.Sprintf("%s has heard of no such run for %d s", a.Node, a.State.Quiet))
		default:
			sure++
		}
	}
	if sure >= needed && len(why) == 0 && len(names) > 1 {
		return Plan{}, false
	}
	text := fmt.Sprintf("this is machine %s, and the disk comes from machine %s: %d other members' nodes have to be sure for %d s that the member does not run there any more, and %d are",
		id.Machine, id.MovedFrom, needed, quietElsewhere, sure)
	if len(why) > 0 {
		text += "; " + strings.Join(why, ", ")
	}
	return wait(0, "%s", text).hint("if nothing runs there: etcd-dns run --moved").waitsFor(names...), true
}

// twice holds a member back while another one is connected with it and has seen no run of it later than an earlier one: this disk, or the
// machine with it, is a copy, and the original runs. A run that has just ended passes: its connections end with it. How long the other has
// heard nothing of the run says nothing, for it may look for the original at the copy's address.
func twice(s *situation) (Plan, bool) {
	if s.f.Moved {
		return Plan{}, false
	}
	for _, a := range s.fresh {
		if a.State.Seen[s.f.Home.Node].Boot != s.f.Disk.Identity.Boot && connects(a, s.memberID()) {
			return wait(0, "%s is connected with member %s, which runs elsewhere", a.Node, s.memberID()).
				hint("stop the machine with the older data, see etcd-dns status on " + a.Node + "; if nothing runs there: etcd-dns run --moved").waitsFor(a.Node), true
		}
	}
	return Plan{}, false
}

// hearsOf reports whether a node's member leads and has a stream to the member id, or is connected with it.
func hearsOf(a Answer, id string) bool {
	m := a.State.Member
	return connects(a, id) || m != nil && slices.ContainsFunc(m.Links, func(l Link) bool { return l.ID == id && l.Quiet < quietFor })
}

// connects reports whether a node's member says that it is connected with the member id. What one that hangs said last is too old.
func connects(a Answer, id string) bool {
	m := a.State.Member
	return id != "" && m != nil && !m.Hung && m.ID != id && slices.Contains(m.Connected, id)
}
