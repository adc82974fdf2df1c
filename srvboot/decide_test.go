package srvboot

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// decideNow is the time of the decision cases.
var decideNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// caseFacts are those of a blank n0 of three, whose peers are blank and agree.
func caseFacts() Facts {
	names := simNames(3)
	h := Home{Bundle: "b1", Node: "n0", Initial: simInitial(names...), Ask: names, BirthUntil: decideNow.Add(time.Hour)}
	f := Facts{Now: decideNow, Home: h, Run: "r0", Began: decideNow.Add(-time.Minute), Peers: map[string]Answer{},
		Disk: DiskFacts{Data: None, Identity: Identity{Life: 3, Boot: "boot3", Previous: "boot2", Machine: "m0"}}}
	for _, n := range names[1:] {
		f.Peers[n] = Answer{Node: n, At: decideNow.Add(-time.Second), State: State{Format: Format, Bundle: "b1", Node: n, Run: "r-" + n,
			Phase: Fresh, Digest: h.Digest(), Ask: names, Initial: h.Initial, Ready: true}}
	}
	return f
}

// caseGenesis is the genesis of the decision cases, and the member IDs in it.
func caseGenesis() (Genesis, map[string]string) { return caseGenesisOnce() }

var caseGenesisOnce = sync.OnceValues(func() (Genesis, map[string]string) {
	h := caseFacts().Home
	g, err := newGenesis(h, nil, "6f1c")
	if err != nil {
		panic(err)
	}
	_, ids, _ := IDs(g.Members, g.ID)
	return g, ids
})

type mod func(*Facts)

func disk(d Data) mod { return func(f *Facts) { f.Disk.Data = d } }

// ordered0 is a person's word that this node's member is to go.
func ordered0(f *Facts) {
	g, ids := caseGenesis()
	f.Disk.Seen.Tombstones = map[string]Tombstone{"n0": {Count: 1, Removed: true, ClusterID: g.ClusterID, MemberID: ids["n0"]}}
}

// dated gives the word on this node a date, and makes it one on no member.
func dated(term, count uint64) mod {
	return func(f *Facts) {
		w := f.Disk.Seen.Tombstones["n0"]
		w.Term, w.Count, w.MemberID = term, count, ""
		f.Disk.Seen.Tombstones["n0"] = w
	}
}

// own sets the marker's phase, with the case genesis from accepted on.
func own(p Phase) mod {
	return func(f *Facts) {
		g, ids := caseGenesis()
		if len(f.Home.Initial) == 1 {
			g.Members = f.Home.Initial
		}
		m := startMarker(f.Home, nil)
		m.Phase, m.Promised = p, Ballot{N: 4, By: "n1/r-n1"}
		if p.rank() >= Accepted.rank() {
			m.Accepted, m.MemberID, m.Stamp = &Acceptance{Ballot: m.Promised, Genesis: g}, ids["n0"], "nonce"
		}
		f.Disk.Marker = &m
		if f.Disk.Data == HasMember || f.Disk.Data == Stub {
			f.Disk.MemberID, f.Disk.ClusterID = ids["n0"], g.ClusterID
		}
	}
}

func caseID(node string) string { _, ids := caseGenesis(); return ids[node] }

// n2Data has the data of n2 lie here.
func n2Data(f *Facts) { f.Disk.MemberID = caseID("n2") }

// theirs changes what a peer says.
func theirs(node string, change func(*State)) mod {
	return func(f *Facts) {
		a := f.Peers[node]
		change(&a.State)
		f.Peers[node] = a
	}
}

func phase(p Phase) func(*State) {
	return func(s *State) {
		g, _ := caseGenesis()
		s.Phase = p
		if p.rank() >= Promised.rank() {
			s.Promised = Ballot{N: 4, By: "n1/r-n1"}
		}
		if p.rank() >= Accepted.rank() {
			s.Accepted = &Acceptance{Ballot: s.Promised, Genesis: g}
		}
	}
}

// serving is a running peer whose member serves a list; edit changes it.
func serving(edit func([]MemberEntry) []MemberEntry) func(*State) {
	return func(s *State) {
		phase(Running)(s)
		g, ids := caseGenesis()
		var list []MemberEntry
		for _, m := range g.Members {
			list = append(list, MemberEntry{ID: ids[m.Name], Name: m.Name, PeerURLs: []string{m.PeerURL}})
		}
		if edit != nil {
			list = edit(list)
		}
		s.Member = &MemberState{ID: ids[s.Node], ClusterID: g.ClusterID, Serving: true, Members: list}
	}
}

// clock is this node's, wrong or right; answers are dated by it too. A wrong one must neither shorten the wait for
// the others nor make silence of an answer.
func clock(now time.Time) mod {
	return func(f *Facts) {
		f.Now = now
		for n, a := range f.Peers {
			a.At = now.Add(-time.Second)
			f.Peers[n] = a
		}
	}
}

func successor(s *State) {
	phase(Running)(s)
	acc := *s.Accepted
	acc.Genesis.ID, acc.Genesis.Generation, acc.Genesis.Parent, acc.Genesis.ClusterID = "77aa", 2, "6f1c", "00000000000000ff"
	s.Accepted = &acc
}

// sibling is a running peer of another genesis of the same generation, whose members have the same peer URLs.
func sibling(s *State) {
	serving(nil)(s)
	acc := *s.Accepted
	acc.Genesis.ID, acc.Genesis.ClusterID = "77aa", "00000000000000ff"
	s.Accepted = &acc
}

func silent(node, err string) mod {
	return func(f *Facts) { f.Peers[node] = Answer{Node: node, Err: err} }
}

// stranger has another machine answer where a node should be.
func stranger(node string) mod {
	return func(f *Facts) { f.Peers[node] = Answer{Node: node, Err: "n9 answers there", Stranger: true} }
}

// renewed2 has n2's member be a later one.
func renewed2(l []MemberEntry) []MemberEntry {
	l[2].ID = "00000000000000aa"
	return l
}

func without0(l []MemberEntry) []MemberEntry { return l[1:] }
func learner0(l []MemberEntry) []MemberEntry {
	l[0].ID, l[0].IsLearner, l[0].Name = "00000000000000aa", true, ""
	return l
}
func voter0(l []MemberEntry) []MemberEntry {
	l = learner0(l)
	l[0].IsLearner = false
	return l
}
func admitted(run string) func(*State) {
	return func(s *State) {
		serving(learner0)(s)
		s.Admission = &Admission{Node: "n0", Run: run, ID: "00000000000000aa", Genesis: s.Accepted.Genesis}
	}
}
func grown(l []MemberEntry) []MemberEntry {
	return append(l, MemberEntry{ID: "00000000000000bb", Name: "n3", PeerURLs: []string{"https://n3.rack1.example.com:2380"}})
}

func seen(node string, s Sighting) mod {
	return theirs(node, func(st *State) { st.Seen = map[string]Sighting{"n0": s} })
}

// connectedWithUs has a node's member say that it is connected with this node's.
func connectedWithUs(node string) mod {
	return func(f *Facts) {
		theirs(node, serving(nil))(f)
		theirs(node, func(s *State) { s.Member.Connected = []string{caseID("n0")} })(f)
	}
}

func told(f *Facts)    { f.ToldRemoved = true }
func learner(f *Facts) { f.Disk.Marker.Learner = true }

// The facts of R9.
func began(ago time.Duration) mod { return func(f *Facts) { f.Began = decideNow.Add(-ago) } }
func moved(f *Facts)              { f.Disk.Identity.MovedFrom = "m9" }
func log50(f *Facts)              { f.Disk.LastIndex = 50 }
func longChain(f *Facts) {
	f.Disk.Identity = Identity{Life: 7, Boot: "boot7", Previous: "boot6", Earlier: []string{"boot5", "boot4", "boot3"}, Machine: "m0"}
}

// quiet makes both peers say for how many seconds they have heard of no run.
func quiet(n1, n2 int) mod {
	return func(f *Facts) {
		theirs("n1", func(s *State) { s.Quiet = n1 })(f)
		theirs("n2", func(s *State) { s.Quiet = n2 })(f)
	}
}

// ranAt makes n1 remember this node's member in a life of its present chain, or a later one, at an index.
func ranAt(life, index uint64) mod {
	return func(f *Facts) {
		_, ids := caseGenesis()
		seen("n1", Sighting{MemberID: ids["n0"], Life: life, Boot: fmt.Sprint("boot", life), Index: index})(f)
	}
}

// serves keeps what n1 remembers.
func serves(f *Facts) { theirs("n1", serving(nil))(f) }

// alone is a cluster of n0 only; it comes before own.
func alone(f *Facts) {
	f.Home.Initial, f.Home.Ask = simInitial("n0"), []string{"n0"}
	f.Peers = map[string]Answer{}
}

// older1 makes this node remember n1 later than n1 is.
func older1(f *Facts) {
	_, ids := caseGenesis()
	f.Disk.Seen = Seen{Nodes: map[string]Sighting{"n1": {MemberID: ids["n1"], Life: 2, Boot: "b", Index: 90}}}
	theirs("n1", func(s *State) { s.Life, s.Boot, s.Reached = 3, "c", 80 })(f)
}

func excused5(s *State) { s.Excused = []string{"n5"} }

func five(l []MemberEntry) []MemberEntry {
	return append(grown(l), MemberEntry{ID: "00000000000000cc", Name: "n4", PeerURLs: []string{"https://n4.rack1.example.com:2380"}})
}

func decideCases() []struct {
	name string
	mods []mod
} {
	broken := func(f *Facts) { f.Disk.MemoryError = "unexpected end of JSON input" }
	marker := func(change func(*Marker)) mod { return func(f *Facts) { change(f.Disk.Marker) } }
	lives := theirs("n1", serving(nil))
	return []struct {
		name string
		mods []mod
	}{
		{"1 marker unreadable", []mod{broken}},
		{"1 marker of another node", []mod{own(Running), disk(HasMember), marker(func(m *Marker) { m.Node = "n7" })}},
		{"1 marker of another bundle", []mod{own(Running), marker(func(m *Marker) { m.Bundle = "b9" })}},
		{"1 marker of another srv-name", []mod{own(Running), marker(func(m *Marker) { m.SrvName = "foo" })}},
		{"1 marker of a newer format", []mod{own(Running), marker(func(m *Marker) { m.Format = 2 })}},
		{"2 another run has our name", []mod{func(f *Facts) {
			f.Namesake = Answer{Node: "n0", At: decideNow, State: State{Node: "n0", Run: "other", Life: 9, Machine: "m9"}}
		}}},
		{"2 our own answer is no namesake", []mod{func(f *Facts) {
			f.Namesake = Answer{Node: "n0", At: decideNow, State: State{Node: "n0", Run: "r0"}}
		}}},
		{"3 successor", []mod{disk(HasMember), own(Running), theirs("n1", successor)}},
		{"3 fenced", []mod{own(FencedOff)}},
		{"4 alien", []mod{disk(Alien), own(Running), func(f *Facts) { f.Disk.MemberID, f.Disk.ClusterID = "aa", "bb" }}},
		{"5 broken, lives", []mod{disk(Broken), own(Running), lives}},
		{"5 broken, nobody", []mod{disk(Broken), own(Running), silent("n1", "timeout"), silent("n2", "refused")}},
		{"6 not mounted", []mod{own(Running), func(f *Facts) { f.Disk.DeviceChanged = true }}},
		{"6 disk replaced, lives", []mod{own(Running), lives, func(f *Facts) { f.Disk.DeviceChanged, f.DiskReplaced = true, true }}},
		{"7 removed", []mod{disk(HasMember), own(Removed)}},
		{"7 removed, URL taken by a learner", []mod{disk(HasMember), own(Removed), theirs("n1", serving(learner0))}},
		{"7 the same, and its data is set aside", []mod{own(Removed), theirs("n1", serving(learner0))}},
		{"7 removed, URL taken by a voter", []mod{disk(HasMember), own(Removed), theirs("n1", serving(voter0))}},
		{"7 blank, and a person removed it, by what it remembers alone", []mod{own(Running), ordered0, silent("n1", "timeout"), silent("n2", "refused")}},
		{"18 blank, and a person removed it, and it is listed", []mod{own(Running), ordered0, theirs("n1", serving(nil))}},
		{"7 blank, and a person removed it, and it is not listed", []mod{own(Running), ordered0, theirs("n1", serving(without0))}},
		{"18 blank, and a word on it has a date that raft cannot have", []mod{own(Running), ordered0, dated(maxDate, 1), theirs("n1", serving(nil))}},
		{"19 blank, and a word on it has a date that raft cannot have, nobody serves", []mod{own(Running), ordered0, dated(1, maxDate)}},
		{"7 retired without ever having been a member, and a voter is at its URL", []mod{own(Removed), func(f *Facts) { f.Disk.Marker.MemberID = "" },
			theirs("n1", serving(voter0))}},
		{"7 our ID is no longer listed, and etcd says so", []mod{disk(HasMember), own(Running), theirs("n1", serving(without0)), told}},
		{"7 the same of a learner that is not known to run yet", []mod{disk(HasMember), own(Joining), learner, theirs("n1", serving(without0)), told}},
		{"7 the same of one that a person removed", []mod{disk(HasMember), own(Joining), learner, theirs("n1", serving(without0)), told, ordered0}},
		{"7 the same of one that is known to be removed", []mod{disk(HasMember), own(Removed), learner, theirs("n1", serving(without0)), told}},
		{"7 the same, and another learner is at its URL", []mod{disk(HasMember), own(Joining), learner, theirs("n1", serving(learner0)), told}},
		{"7 the same, and a voter is at its URL", []mod{disk(HasMember), own(Joining), learner, theirs("n1", serving(voter0)), told}},
		{"7 the same of an initial member that is not known to run yet", []mod{disk(HasMember), own(Born), theirs("n1", serving(without0)), told}},
		{"7 our ID is no longer listed, later than we ever were", []mod{disk(HasMember), own(Running), theirs("n1", serving(without0)),
			theirs("n1", func(s *State) { s.Member.Applied = 51 }), func(f *Facts) { f.Disk.Identity.Index, f.Disk.LastIndex = 50, 50 }}},
		{"9 a list that may be older than our addition", []mod{disk(HasMember), own(Running), theirs("n1", serving(without0)),
			theirs("n1", func(s *State) { s.Member.Applied = 50 }), func(f *Facts) { f.Disk.Identity.Index, f.Disk.LastIndex = 50, 50 }}},
		{"8 a later life is remembered", []mod{disk(HasMember), own(Running), seen("n1", Sighting{Life: 4, Boot: "boot4"})}},
		{"8 another run of this life", []mod{disk(HasMember), own(Running), seen("n1", Sighting{Life: 3, Boot: "bootX"})}},
		{"8 another run before this one", []mod{disk(HasMember), own(Running), seen("n1", Sighting{Life: 2, Boot: "bootX"})}},
		{"8 a later life is remembered, lives", []mod{disk(HasMember), own(Running), lives, seen("n1", Sighting{Life: 4, Boot: "boot4"})}},
		{"8 seen running, stamped here, lives", []mod{disk(Stamped), own(Born), lives, func(f *Facts) {
			_, ids := caseGenesis()
			seen("n1", Sighting{MemberID: ids["n0"], Index: 57})(f)
		}}},
		{"8 the chain holds", []mod{disk(HasMember), own(Running), seen("n1", Sighting{Life: 2, Boot: "boot2"})}},
		{"8 seen running, stamped here", []mod{disk(Stamped), own(Born), func(f *Facts) {
			_, ids := caseGenesis()
			seen("n1", Sighting{MemberID: ids["n0"], Index: 57})(f)
		}}},
		{"8 an index beyond our log", []mod{disk(HasMember), own(Running), log50, ranAt(1, 51)}},
		{"8 an index beyond our log, lives", []mod{disk(HasMember), own(Running), log50, ranAt(1, 51), serves}},
		{"8 a later life of a stamped disk", []mod{disk(Stamped), own(Born), ranAt(4, 0)}},
		{"8 a learner's stub, and its leader knew more, lives", []mod{disk(Stub), own(Joining), learner, lives, func(f *Facts) { f.Disk.Identity.Index = 51 }}},
		{"8 only etcd/ is older", []mod{disk(HasMember), own(Running), log50, func(f *Facts) { f.Disk.Identity.Index = 51 }}},
		{"8 only etcd/ is older, a single member", []mod{disk(HasMember), alone, own(Running), log50, func(f *Facts) { f.Disk.Identity.Index = 51 }}},
		{"8 a run long ago that is not in the chain", []mod{disk(HasMember), own(Running), longChain, func(f *Facts) {
			seen("n1", Sighting{Life: 4, Boot: "bootX"})(f)
		}}},
		{"9 a run long ago that is in the chain", []mod{disk(HasMember), own(Running), longChain, func(f *Facts) {
			seen("n1", Sighting{Life: 4, Boot: "boot4"})(f)
		}}},
		{"9 the index of an earlier member of this node", []mod{disk(HasMember), own(Running), log50,
			seen("n1", Sighting{MemberID: "00000000000000aa", Life: 9, Boot: "bootX", Index: 99})}},
		{"9 just started, nobody answers yet", []mod{disk(HasMember), own(Running), began(9 * time.Second), silent("n1", "x"), silent("n2", "x")}},
		{"9 just started, one of two others answers", []mod{disk(HasMember), own(Running), began(0), silent("n2", "x")}},
		{"9 just started, one of two others answers and has not read its memory", []mod{disk(HasMember), own(Running), began(0), silent("n2", "x"),
			theirs("n1", func(s *State) { s.Phase = "" })}},
		{"9 just started, one of four others answers", []mod{disk(HasMember), own(Running), began(0), theirs("n1", serving(five)), silent("n2", "x")}},
		{"9 ten seconds alone", []mod{disk(HasMember), own(Running), began(10 * time.Second), silent("n1", "x"), silent("n2", "x")}},
		{"9 a single member asks nobody", []mod{disk(HasMember), alone, own(Running), began(0)}},
		{"9 another one runs on an older disk", []mod{disk(HasMember), own(Running), lives, older1}},
		{"9 another machine, nobody answers", []mod{disk(HasMember), own(Running), moved, silent("n1", "x"), silent("n2", "x")}},
		{"9 another machine, others have just started", []mod{disk(HasMember), own(Running), moved, quiet(9, 3)}},
		{"9 another machine, one of two is sure", []mod{disk(HasMember), own(Running), moved, quiet(10, 3)}},
		{"9 another machine, one of two is sure and the other silent", []mod{disk(HasMember), own(Running), moved, quiet(60, 60), silent("n2", "x")}},
		{"9 another machine, both others are sure", []mod{disk(HasMember), own(Running), moved, quiet(10, 10)}},
		{"9 another machine, both others are sure, and one is connected with it", []mod{disk(HasMember), own(Running), moved, quiet(10, 10), connectedWithUs("n2")}},
		{"9 restart, and somebody is connected with a run that is not this one", []mod{disk(HasMember), own(Running), quiet(60, 0), connectedWithUs("n2")}},
		{"9 restart, and the connection is with this run, whose member died", []mod{disk(HasMember), own(Running), quiet(60, 0), connectedWithUs("n2"),
			theirs("n2", func(s *State) { s.Seen = map[string]Sighting{"n0": {Boot: "boot"}} }), func(f *Facts) { f.Disk.Identity.Boot = "boot" }}},
		{"9 restart, and somebody is connected with a run of which nobody has heard for long", []mod{disk(HasMember), own(Running), quiet(60, 60), connectedWithUs("n2")}},
		{"9 the same, but that member hangs", []mod{disk(HasMember), own(Running), quiet(60, 60), connectedWithUs("n2"), theirs("n2", func(s *State) { s.Member.Hung = true })}},
		{"9 the same, by the operator's word", []mod{disk(HasMember), own(Running), quiet(60, 60), connectedWithUs("n2"), func(f *Facts) { f.Moved = true }}},
		{"9 restart, one of two others has not answered for a second", []mod{disk(HasMember), own(Running), silent("n2", "x"), began(time.Second - 1)}},
		{"9 restart, one of two others has not answered, for longer", []mod{disk(HasMember), own(Running), silent("n2", "x"), began(time.Second)}},
		{"9 another machine, the leader has a stream to it", []mod{disk(HasMember), own(Running), moved, quiet(60, 60), serves, func(f *Facts) {
			_, ids := caseGenesis()
			theirs("n1", func(s *State) { s.Member.Links = []Link{{ID: ids["n0"], Quiet: 4}} })(f)
		}}},
		{"9 another machine, by the operator's word", []mod{disk(HasMember), own(Running), moved, quiet(0, 0), func(f *Facts) { f.Moved = true }}},
		{"9 another machine, a single member", []mod{disk(HasMember), alone, own(Running), moved}},
		{"13 another machine, stamped", []mod{disk(Stamped), own(Born), moved, quiet(0, 0)}},
		{"13 just started, nobody answers yet", []mod{disk(Stamped), own(Born), began(time.Second), silent("n1", "x"), silent("n2", "x")}},
		{"9 restart alone", []mod{disk(HasMember), own(Running), silent("n1", "timeout"), silent("n2", "timeout")}},
		{"9 restart, checks fail", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Preflight = []string{"ports-free: 2380 is held by etcd (pid 7)"} }}},
		{"9 marker lost, nobody", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Disk.Marker = nil }, silent("n1", "x"), silent("n2", "x")}},
		{"9 marker lost, same genesis", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Disk.Marker = nil }, lives}},
		{"4 marker lost, and the data is another node's that is down", []mod{disk(HasMember), own(Running), n2Data, func(f *Facts) { f.Disk.Marker = nil },
			theirs("n1", phase(Running)), silent("n2", "x")}},
		{"4 marker lost, and the data is that of one that runs and joined later", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Disk.Marker = nil },
			func(f *Facts) { f.Disk.MemberID = "00000000000000aa" }, theirs("n2", serving(nil)), theirs("n2", func(s *State) { s.Member.ID = "00000000000000aa" })}},
		{"4 marker lost, and the data is that of one that is down, by the list of one without a quorum", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Disk.Marker = nil },
			func(f *Facts) { f.Disk.MemberID = "00000000000000aa" }, silent("n2", "x"), theirs("n1", serving(renewed2)), theirs("n1", func(s *State) {
				s.Member.Serving, s.Accepted.Genesis.Members = false, nil
			})}},
		{"4 another node's data, and a marker that was made of it", []mod{disk(HasMember), own(Running), n2Data,
			marker(func(m *Marker) { m.MemberID, m.Stamp = caseID("n2"), "" }), lives}},
		{"9 marker lost, other genesis", []mod{disk(HasMember), own(Running), func(f *Facts) { f.Disk.Marker = nil }, theirs("n1", successor)}},
		{"10 stub, born", []mod{disk(Stub), own(Born)}},
		{"10 stub, joining", []mod{disk(Stub), own(Joining)}},
		{"10 stub, accepted", []mod{disk(Stub), own(Accepted)}},
		{"10 stub, running", []mod{disk(Stub), own(Running)}},
		{"10 stub, running, lives", []mod{disk(Stub), own(Running), lives}},
		{"11 promised", []mod{own(Promised)}},
		{"11 accepted by us only", []mod{own(Accepted)}},
		{"11 accepted, a member silent", []mod{own(Accepted), silent("n2", "connection refused")}},
		{"11 accepted, permission over", []mod{own(Accepted), func(f *Facts) { f.Home.BirthUntil = decideNow }}},
		{"11 promised, permission over", []mod{own(Promised), func(f *Facts) { f.Home.BirthUntil = decideNow }}},
		{"11 accepted, Corefile edited", []mod{own(Accepted), func(f *Facts) { f.Home.Initial = simInitial("n0", "n1") }}},
		{"11 all accepted, but we promised more", []mod{own(Accepted), marker(func(m *Marker) { m.Promised.N = 5 }), theirs("n1", phase(Accepted)), theirs("n2", phase(Accepted))}},
		{"12 all accepted", []mod{own(Accepted), theirs("n1", phase(Accepted)), theirs("n2", phase(Accepted))}},
		{"12 one is born", []mod{disk(Stamped), own(Accepted), theirs("n1", phase(Born)), silent("n2", "timeout")}},
		{"12 born, checks fail", []mod{own(Accepted), theirs("n1", phase(Born)), func(f *Facts) { f.Preflight = []string{"clock: 1970-01-01"} }}},
		{"12 list changed, still ours", []mod{own(Accepted), theirs("n1", serving(grown))}},
		{"12 list changed, nobody serves", []mod{own(Accepted), theirs("n1", serving(grown)), theirs("n1", func(s *State) { s.Member.Serving = false })}},
		{"13 born", []mod{disk(Stamped), own(Born), silent("n1", "x"), silent("n2", "x")}},
		{"14 joining, listed", []mod{disk(Stamped), own(Joining), marker(func(m *Marker) { m.MemberID = "00000000000000aa" }), theirs("n1", serving(learner0))}},
		{"14 joining, not listed", []mod{disk(Stamped), own(Joining), marker(func(m *Marker) { m.MemberID = "00000000000000cc" }), theirs("n1", serving(learner0))}},
		{"15 all blank", nil},
		{"15 the clock at 1970", []mod{clock(time.Unix(60, 0).UTC())}},
		{"15 the clock an hour ahead, within the permission", []mod{clock(decideNow.Add(59 * time.Minute))}},
		{"15 the clock an hour ahead, beyond the permission", []mod{clock(decideNow.Add(61 * time.Minute))}},
		{"15 one silent", []mod{silent("n2", "connection refused")}},
		{"15 answer too old", []mod{func(f *Facts) { a := f.Peers["n2"]; a.At = decideNow.Add(-11 * time.Second); f.Peers["n2"] = a }}},
		{"15 digests differ", []mod{theirs("n2", func(s *State) { s.Initial = simInitial("n0", "n2"); s.Digest = "0123456789" })}},
		{"15 another bundle", []mod{theirs("n2", func(s *State) { s.Bundle = "b2" })}},
		{"15 another srv-name", []mod{theirs("n2", func(s *State) { s.SrvName = "foo" })}},
		{"15 evidence there", []mod{theirs("n2", func(s *State) { s.Evidence = []string{"snapshots/"} })}},
		{"15 evidence there, of a node that was removed while it was blank", []mod{theirs("n2", func(s *State) { s.Phase, s.Evidence = Removed, []string{"genesis.json: phase removed"} })}},
		{"15 evidence here", []mod{func(f *Facts) { f.Disk.Evidence = []string{"etcd.set-aside-1"} }}},
		{"15 permission over", []mod{func(f *Facts) { f.Now = f.Home.BirthUntil.Add(24 * time.Hour) }}},
		{"15 permission over, a person permits", []mod{own(Fresh), func(f *Facts) {
			f.Now = f.Home.BirthUntil.Add(24 * time.Hour)
			f.Disk.Marker.Permitted = f.Now.Add(time.Hour)
			for n, a := range f.Peers {
				a.At = f.Now
				f.Peers[n] = a
			}
		}}},
		{"15 permission over, a person's too", []mod{own(Fresh), func(f *Facts) {
			f.Now = f.Home.BirthUntil.Add(24 * time.Hour)
			f.Disk.Marker.Permitted = f.Now.Add(-time.Hour)
		}}},
		{"15 tmpfs", []mod{func(f *Facts) { f.Disk.Volatile = "tmpfs" }}},
		{"15 tmpfs allowed", []mod{func(f *Facts) { f.Disk.Volatile, f.Home.Ephemeral = "tmpfs", true }}},
		{"15 not ready there", []mod{theirs("n1", func(s *State) { s.Ready, s.NotReady = false, []string{"clock: 1970-01-01"} })}},
		{"15 a name only a peer knows", []mod{theirs("n1", func(s *State) { s.Ask = append(slices.Clone(s.Ask), "n9") })}},
		{"15 excused by all", []mod{own(Fresh), marker(func(m *Marker) { m.Excused = []string{"n2"} }), silent("n2", "dead"),
			theirs("n1", func(s *State) { s.Excused = []string{"n2"} })}},
		{"15 excused here only", []mod{own(Fresh), marker(func(m *Marker) { m.Excused = []string{"n2"} }), silent("n2", "dead")}},
		{"15 not an initial member", []mod{func(f *Facts) { f.Home.Node = "n5"; f.Home.Ask = append(simNames(3), "n5"); blank0(f) }}},
		{"16 not listed", []mod{theirs("n1", serving(without0))}},
		{"17 a learner has our URL", []mod{theirs("n1", serving(learner0))}},
		{"17 a learner was added for this run", []mod{theirs("n1", admitted("r0"))}},
		{"17 a learner was added for an earlier run", []mod{theirs("n1", admitted("r9"))}},
		{"17 a learner was added for this run, after a removal", []mod{own(Removed), theirs("n1", admitted("r0"))}},
		{"17 the learner's ID may have run here", []mod{own(Joining), marker(func(m *Marker) { m.MemberID = "00000000000000aa" }), theirs("n1", admitted("r0"))}},
		{"16 no line for this node", []mod{theirs("n1", serving(nil)), func(f *Facts) { f.Home.Node = "n5"; f.Home.Ask = append(simNames(3), "n5") }}},
		{"16 not listed, and why not", []mod{theirs("n1", serving(without0)), theirs("n1", waiting("n0", "no node line"))}},
		{"16 not listed, and why not, as who led before it hung said", []mod{theirs("n1", serving(without0)), theirs("n1", waiting("n0", "no node line")), theirs("n1", func(s *State) { s.Member.Hung = true })}},
		{"16 not listed, and why not, as who no longer leads said", []mod{theirs("n1", serving(without0)), theirs("n1", waiting("n0", "no node line")), theirs("n1", func(s *State) { s.Member.Leader = "" })}},
		{"16 a check fails", []mod{theirs("n1", serving(without0)), func(f *Facts) { f.Preflight = []string{"clock: 1970-01-01"} }}},
		{"18 blank, a voter has our URL", []mod{lives}},
		{"16 not listed, and a member's address leads elsewhere", []mod{theirs("n1", serving(without0)), stranger("n2")}},
		{"17 a learner was added for this run, and a member's address leads elsewhere", []mod{theirs("n1", admitted("r0")), stranger("n2")}},
		{"9 restart, and a member's address leads elsewhere", []mod{disk(HasMember), own(Running), lives, stranger("n2")}},
		{"18 blank, and the voter that has our URL lives", []mod{lives, func(f *Facts) {
			_, ids := caseGenesis()
			theirs("n1", func(s *State) { s.Member.Links = []Link{{ID: ids["n0"], Quiet: 4}} })(f)
		}}},
		{"18 directory lost", []mod{own(Running), lives}},
		{"18 promised after a wipe", []mod{own(Promised), lives}},
		{"19 born, nobody serves", []mod{theirs("n1", phase(Born))}},
		{"19 directory lost, another genesis of the same generation serves", []mod{own(Running), theirs("n1", sibling), silent("n2", "x")}},
		{"19 directory lost, an earlier genesis serves", []mod{own(Running), marker(func(m *Marker) {
			acc := *m.Accepted
			acc.Genesis.ID, acc.Genesis.ClusterID, acc.Genesis.Generation = "77aa", "00000000000000ff", 2
			m.Accepted = &acc
		}), lives, silent("n2", "x")}},
		{"18 accepted, and another genesis of the same generation was born", []mod{own(Accepted), theirs("n1", sibling), silent("n2", "x")}},
		{"19 directory lost, alone", []mod{own(Born), silent("n1", "x"), silent("n2", "x")}},
		{"15 size, all answer", []mod{sized(3, 4, 3)}},
		{"15 size, one is silent", []mod{sized(3, 4, 3), silent("n3", "timeout")}},
		{"15 size, the first is silent", []mod{sized(3, 4, 3), at("n1"), silent("n0", "timeout")}},
		{"15 size, one is silent so far", []mod{sized(3, 4, 3), silent("n3", "timeout"), began(9 * time.Second)}},
		{"15 size, two are silent", []mod{sized(3, 4, 3), silent("n2", "timeout"), silent("n3", "timeout")}},
		{"15 size, one is silent and has no line", []mod{sized(3, 4, 3), func(f *Facts) { f.Home.Ask = append(simNames(4), "n9") }}},
		{"15 size, one of an odd majority is silent", []mod{sized(3, 5, 5), silent("n4", "timeout")}},
		{"15 size, one is excused, and one is silent", []mod{sized(4, 6, 4), own(Fresh), marker(func(m *Marker) { m.Excused = []string{"n5"} }), silent("n4", "x"), silent("n5", "x"),
			theirs("n1", excused5), theirs("n2", excused5), theirs("n3", excused5)}},
		{"15 size, another size", []mod{sized(3, 4, 3), theirs("n1", func(s *State) { s.Size, s.Digest = 4, "0123456789" })}},
		{"15 size, one that answers is no blank one", []mod{sized(3, 4, 3), silent("n2", "x"), theirs("n3", func(s *State) { s.Evidence = []string{"snapshots/"} })}},
		{"11 size, accepted, one that is no member is silent", []mod{sized(3, 4, 3), own(Accepted), theirs("n1", func(s *State) { s.Digest = caseFacts().Home.Digest() }),
			theirs("n2", func(s *State) { s.Digest = caseFacts().Home.Digest() }), silent("n3", "x")}},
		{"11 size, accepted, a member is silent", []mod{sized(3, 4, 3), own(Accepted), silent("n2", "x")}},
		{"11 size, promised, a member of what another accepted is silent", []mod{sized(3, 4, 3), at("n3"), own(Promised), theirs("n1", phase(Accepted)), silent("n2", "x")}},
		{"16 size, a spare", []mod{sized(3, 4, 3), at("n3"), theirs("n1", servingSized(nil))}},
		{"16 size, a spare, and why it is not let in by a word", []mod{sized(3, 4, 3), at("n3"), theirs("n1", servingSized(nil)), theirs("n1", waiting("n3", "3 are connected"))}},
		{"16 size, a place is free", []mod{sized(3, 4, 3), at("n3"), theirs("n1", servingSized(without0))}},
		{"20 unknown data class", []mod{disk("odd")}},
	}
}

func blank0(f *Facts) {
	s := f.Peers["n1"].State
	s.Node = "n0"
	f.Peers["n0"] = Answer{Node: "n0", At: decideNow, State: s}
}

func TestDecideTable(t *testing.T) {
	var out strings.Builder
	for _, c := range decideCases() {
		f := caseFacts()
		for _, m := range c.mods {
			m(&f)
		}
		// IDs of the log follow the marker when the case set the data first.
		p := Decide(f)
		if row := strings.Fields(c.name)[0]; row != fmt.Sprint(p.Row) && !strings.Contains(c.name, "no namesake") &&
			!strings.Contains(c.name, "chain holds") && !strings.Contains(c.name, "disk replaced") && !strings.Contains(c.name, "not listed") {
			t.Errorf("%s: row %d", c.name, p.Row)
		}
		fmt.Fprintf(&out, "%s\n  -> row %d: %s\n  reason: %s\n", c.name, p.Row, p.Action, p.Reason)
		if p.Hint != "" {
			fmt.Fprintf(&out, "  hint: %s\n", p.Hint)
		}
		if p.Claim != nil {
			fmt.Fprintf(&out, "  claim: %s, lost %q\n", p.Claim.PeerURL, p.Claim.Lost)
		}
		if len(p.For) > 0 {
			fmt.Fprintf(&out, "  for: %s\n", strings.Join(p.For, " "))
		}
	}
	golden(t, "testdata/decide/table.txt", out.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll("testdata/decide", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and read the difference\n%s", path, got)
	}
}

// totalSays are the things that a peer may say in TestDecideTotal.
func totalSays() []mod {
	return []mod{
		nil,
		silent("n1", "timeout"),
		theirs("n1", phase(Promised)), theirs("n1", phase(Accepted)), theirs("n1", phase(Born)), theirs("n1", phase(Running)),
		theirs("n1", serving(nil)), theirs("n1", serving(without0)), theirs("n1", serving(learner0)), theirs("n1", serving(grown)),
		theirs("n1", phase(Removed)), theirs("n1", phase(FencedOff)), theirs("n1", phase(Joining)), theirs("n1", successor),
		theirs("n1", func(s *State) { s.Bundle = "b2" }), theirs("n1", func(s *State) { s.Digest = "" }),
		theirs("n1", admitted("r0")), theirs("n1", func(s *State) { s.Phase, s.Accepted = Born, nil }), theirs("n1", func(s *State) { *s = State{} }),
	}
}

// sized makes the rack one of four or more nodes of which size become members once so many answered; all are blank and agree.
func sized(size, nodes, answers int) mod {
	return func(f *Facts) {
		names := simNames(nodes)
		f.Home.Initial, f.Home.Ask, f.Home.Size, f.Home.Answers = simInitial(names...), names, size, answers
		for _, n := range names[1:] {
			f.Peers[n] = Answer{Node: n, At: decideNow.Add(-time.Second), State: State{Format: Format, Bundle: "b1", Node: n, Run: "r-" + n,
				Phase: Fresh, Digest: f.Home.Digest(), Ask: names, Initial: f.Home.Initial, Size: size, Ready: true}}
		}
	}
}

// at is another node than n0, of the same rack; what n0 said before was its own.
func at(node string) mod {
	return func(f *Facts) {
		own := f.Peers[node]
		own.Node, own.State.Node = f.Home.Node, f.Home.Node
		f.Peers[f.Home.Node] = own
		delete(f.Peers, node)
		f.Home.Node = node
	}
}

// servingSized is a running peer of a cluster born with n0 to n2 of a size.
// waiting has a node's member lead, and the node say why another one waits.
func waiting(node, why string) func(*State) {
	return func(s *State) {
		m := *s.Member
		m.Leader = m.ID
		s.Member, s.Waits = &m, map[string]string{node: why}
	}
}

func servingSized(edit func([]MemberEntry) []MemberEntry) func(*State) {
	return func(s *State) {
		serving(edit)(s)
		acc := *s.Accepted
		acc.Genesis.Size, acc.Genesis.Of = 3, 4
		s.Accepted = &acc
	}
}

// second makes what n1 says be said by n2.
func second(m mod) mod {
	return func(f *Facts) {
		f.Peers["n1"], f.Peers["n2"] = f.Peers["n2"], f.Peers["n1"]
		m(f)
		f.Peers["n1"], f.Peers["n2"] = f.Peers["n2"], f.Peers["n1"]
		for n, a := range f.Peers {
			a.Node = n
			if a.State.Node != "" {
				a.State.Node = n
			}
			f.Peers[n] = a
		}
	}
}

// totalExtras are the other facts of TestDecideTotal.
func totalExtras() []mod {
	return []mod{
		nil, func(f *Facts) { f.Disk.MemoryError = "bad" }, func(f *Facts) { f.Disk.DeviceChanged = true },
		func(f *Facts) { f.Preflight = []string{"clock"} }, func(f *Facts) { f.Home.BirthUntil = time.Time{} },
		func(f *Facts) { f.Disk.Evidence = []string{"snapshots/"} }, func(f *Facts) { f.Disk.Marker = nil },
		func(f *Facts) { f.Home.Initial, f.Home.Ask = nil, nil },
		func(f *Facts) {
			if f.Disk.Marker != nil {
				f.Disk.Marker.Accepted = nil
			}
		},
	}
}

// TestDecideTotal decides every combination of data, phase and what each of two peers says.
func TestDecideTotal(t *testing.T) {
	says := totalSays()
	count := 0
	for _, data := range []Data{None, Stamped, Stub, HasMember, Alien, Broken, "", "odd"} {
		for _, p := range []Phase{"", Fresh, Promised, Accepted, Born, Joining, Running, Removed, FencedOff, "odd"} {
			for _, a := range says {
				for i, b := range says {
					for _, extra := range totalExtras() {
						if extra != nil && i > 6 {
							continue
						}
						f := caseFacts()
						disk(data)(&f)
						own(p)(&f)
						if a != nil {
							a(&f)
						}
						if b != nil {
							second(b)(&f)
						}
						if extra != nil {
							extra(&f)
						}
						count++
						total(t, f, Decide(f))
					}
				}
			}
		}
	}
	t.Logf("%d combinations", count)
}

// total checks what holds for every plan.
func total(t *testing.T, f Facts, p Plan) {
	t.Helper()
	bad := func(why string) {
		t.Fatalf("%s: %+v\nfor data %s marker %+v", why, p, f.Disk.Data, f.Disk.Marker)
	}
	switch {
	case p.Row < 1 || p.Row > 20 || p.Action == "" || p.Reason == "":
		bad("no complete plan")
	case p.Action == New && !slices.Contains([]int{10, 12, 13}, p.Row):
		bad("new from a row that may not say so")
	case p.Action == New && (p.Genesis == nil || f.Disk.Marker == nil || f.Disk.Marker.Accepted == nil):
		bad("new without an accepted genesis")
	case p.Action == New && (f.Disk.Data == HasMember || f.Disk.Data == Broken || f.Disk.Data == Alien):
		bad("new on data")
	case p.Action == Birth && p.Row != 11 && p.Row != 15:
		bad("birth from a row that may not say so")
	case (p.Row >= 16 || p.Row == 8 && p.Action != SetAside) && !slices.Contains([]Action{Wait, Idle, Ask, Enroll}, p.Action):
		bad("a row of joining does something else")
	case (p.Action == Ask || p.Claim != nil && p.Row != 7) && (p.Action != Ask || p.Claim == nil) || p.Claim != nil && f.Disk.Data != None && f.Disk.Data != Stamped || (p.Action == Ask || p.Action == Enroll) && f.Disk.Data != None && f.Disk.Data != Stamped:
		bad("a claim without an empty disk")
	case p.Action == Enroll && (p.Genesis == nil || f.Disk.Marker != nil && f.Disk.Marker.MemberID == p.MemberID):
		bad("an ID is taken that this disk knows already")
	case (p.Action == New || p.Action == Restart || p.Action == Existing || p.Action == Birth) && len(f.Preflight) > 0:
		bad("started past a failed check")
	}
}
