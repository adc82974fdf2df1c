package srvboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// leaderFacts are those of n0, which leads a healthy cluster of three with n1 and n2.
func leaderFacts() ChangeFacts {
	f := ChangeFacts{Facts: caseFacts(), ListSince: decideNow.Add(-time.Hour), ClaimSince: map[string]time.Time{}, NearSince: map[string]time.Time{}}
	own(Running)(&f.Facts)
	f.Home.Admitted = simInitial(simNames(4)...)
	f.Disk.Seen = Seen{Nodes: map[string]Sighting{"n1": {Machine: "m2"}, "n2": {Machine: "m2"}}}
	g, ids := caseGenesis()
	f.Self = MemberState{ID: ids["n0"], Leader: ids["n0"], ClusterID: g.ClusterID, Serving: true, Commit: 5000, Applied: 5000}
	for _, m := range g.Members {
		f.Self.Members = append(f.Self.Members, MemberEntry{ID: ids[m.Name], Name: m.Name, PeerURLs: []string{m.PeerURL}})
		if m.Name != "n0" {
			f.Self.Links = append(f.Self.Links, Link{ID: ids[m.Name], Match: 5000})
			theirs(m.Name, serving(nil))(&f.Facts)
		}
	}
	return f
}

type leaderMod func(*ChangeFacts)

func (f *ChangeFacts) links(id string) *Link {
	return &f.Self.Links[slices.IndexFunc(f.Self.Links, func(l Link) bool { return l.ID == id })]
}

// lost makes a node say that it lost its voter's data; the leader has not heard of that voter for so many seconds.
func lost(node string, quiet int) leaderMod {
	return func(f *ChangeFacts) {
		_, ids := caseGenesis()
		theirs(node, func(s *State) {
			phase(Fresh)(s)
			s.Member, s.Accepted, s.Machine = nil, nil, "m2"
			s.Claim = &Claim{PeerURL: simInitial(node)[0].PeerURL, Lost: ids[node]}
		})(&f.Facts)
		f.links(ids[node]).Quiet = quiet
		f.ClaimSince[node] = decideNow.Add(-3 * time.Second)
	}
}

// asks makes n3 ask to join.
func asks(f *ChangeFacts) {
	f.Peers["n3"] = Answer{Node: "n3", At: decideNow, Asked: decideNow, State: State{Format: Format, Bundle: "b1", Node: "n3", Run: "r-n3", Phase: Fresh,
		Claim: &Claim{PeerURL: simInitial("n3")[0].PeerURL}}}
}

// sizedTo gives the cluster a size; nodes have lines by their names.
func sizedTo(size, of int, names ...string) leaderMod {
	return func(f *ChangeFacts) {
		acc := *f.Disk.Marker.Accepted
		acc.Genesis.Size, acc.Genesis.Of = size, of
		f.Disk.Marker.Accepted = &acc
		f.Home.Admitted = simInitial(append(simNames(3), names...)...)
	}
}

// asksAs has a node with that name ask to join.
func asksAs(node string) leaderMod {
	return func(f *ChangeFacts) {
		f.Peers[node] = Answer{Node: node, At: decideNow, Asked: decideNow, State: State{Format: Format, Bundle: "b1", Node: node, Run: "r-" + node, Phase: Fresh,
			Claim: &Claim{PeerURL: simInitial(node)[0].PeerURL}}}
	}
}

// out takes a node's member off the list.
func out(node string) leaderMod {
	return func(f *ChangeFacts) {
		_, ids := caseGenesis()
		f.Self.Members = slices.DeleteFunc(f.Self.Members, func(e MemberEntry) bool { return e.ID == ids[node] })
		f.Self.Links = slices.DeleteFunc(f.Self.Links, func(l Link) bool { return l.ID == ids[node] })
	}
}

const learnerID = "00000000000000aa"

// learns adds n3 as a learner that runs and is at an index.
func learns(match uint64, near time.Duration) leaderMod {
	return func(f *ChangeFacts) {
		asks(f)
		f.Self.Members = append(f.Self.Members, MemberEntry{ID: learnerID, PeerURLs: []string{simInitial("n3")[0].PeerURL}, IsLearner: true})
		f.Self.Links = append(f.Self.Links, Link{ID: learnerID, Match: match})
		theirs("n3", func(s *State) { s.Claim, s.Member = nil, &MemberState{ID: learnerID, IsLearner: true} })(&f.Facts)
		if near > 0 {
			f.NearSince[learnerID] = decideNow.Add(-near)
		}
	}
}

// refused has etcd refuse a node's removal.
func refused(node string) leaderMod {
	return func(f *ChangeFacts) {
		_, ids := caseGenesis()
		f.Refused = append(f.Refused, Refusal{ids[node], "etcdserver: unhealthy cluster, said of " + node})
	}
}

// othersTurn has the last step have been a removal that failed.
func othersTurn(f *ChangeFacts) { f.OthersTurn = true }

// retired has a node that lost its data say that it was removed.
func retired(node string) leaderMod {
	return func(f *ChangeFacts) {
		theirs(node, func(s *State) { s.Phase, s.Claim.Retired = Removed, true })(&f.Facts)
	}
}

// tombstone has every node know that a person removed one.
func tombstone(node string) leaderMod {
	return func(f *ChangeFacts) {
		g, ids := caseGenesis()
		if f.Disk.Seen.Tombstones == nil {
			f.Disk.Seen.Tombstones = map[string]Tombstone{}
		}
		f.Disk.Seen.Tombstones[node] = Tombstone{Count: 1, Removed: true, ClusterID: g.ClusterID, MemberID: ids[node]}
		for _, n := range []string{"n1", "n2"} {
			theirs(n, func(s *State) { s.Tombstones = f.Disk.Seen.Tombstones })(&f.Facts)
		}
	}
}

// otherURL has a node ask for its second name for raft traffic.
func otherURL(f *ChangeFacts) {
	theirs("n2", func(s *State) { s.Claim.PeerURL = "https://n2-peer.rack1.example.com:2380" })(&f.Facts)
}

// connected makes one node's member say that it is connected with another one's.
func connected(one, other string) leaderMod {
	return func(f *ChangeFacts) {
		_, ids := caseGenesis()
		theirs(one, func(s *State) { s.Member.Connected = []string{ids[other]} })(&f.Facts)
	}
}

func edit(f func(*ChangeFacts)) leaderMod { return f }

// changed dates the last change of the membership.
func changed(ago time.Duration) leaderMod {
	return func(f *ChangeFacts) { f.ListSince = decideNow.Add(-ago) }
}

// lostLearner makes n3 say that it does not hold what it was given.
func lostLearner(f *ChangeFacts) {
	theirs("n3", func(s *State) { s.Member, s.Claim = nil, &Claim{PeerURL: simInitial("n3")[0].PeerURL, Lost: learnerID} })(&f.Facts)
}

func reconcileCases() []struct {
	name string
	mods []leaderMod
} {
	_, ids := caseGenesis()
	saved := edit(func(f *ChangeFacts) { f.Saved = ids["n2"] })
	return []struct {
		name string
		mods []leaderMod
	}{
		{"all is well", nil},
		{"another member leads", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Self.Leader = ids["n1"] })}},
		{"nobody leads", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Self.Leader = "" })}},
		{"a voter is down and says nothing", []leaderMod{edit(func(f *ChangeFacts) { silent("n2", "timeout")(&f.Facts); f.links(ids["n2"]).Quiet = 900 })}},
		{"a blank node, no snapshot yet", []leaderMod{lost("n2", 60)}},
		{"a blank node, snapshot taken", []leaderMod{lost("n2", 60), saved}},
		{"a blank node, snapshot taken for another", []leaderMod{lost("n2", 60), edit(func(f *ChangeFacts) { f.Saved = ids["n1"] })}},
		{"a blank node, no snapshot possible", []leaderMod{lost("n2", 60), edit(func(f *ChangeFacts) { f.NoSnapshot = "no space left on device" })}},
		{"a blank node that counts itself as removed", []leaderMod{lost("n2", 60), saved, retired("n2")}},
		{"a blank node that counts itself as removed, and a person lets it in", []leaderMod{lost("n2", 60), saved, retired("n2"), edit(func(f *ChangeFacts) {
			f.Welcomed = []string{"n2"}
		})}},
		{"a blank node whose member still talks", []leaderMod{lost("n2", 4), saved}},
		{"a blank node whose member has been silent for long enough", []leaderMod{lost("n2", quietFor), saved}},
		{"a blank node whose member has just talked, no snapshot yet", []leaderMod{lost("n2", 0)}},
		{"a blank node whose member still talks, no snapshot yet", []leaderMod{lost("n2", 1)}},
		{"a blank node that no link is known of", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Self.Links = f.Self.Links[:1] })}},
		{"a blank node, its answer is old", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			a := f.Peers["n2"]
			a.At = decideNow.Add(-11 * time.Second)
			f.Peers["n2"] = a
		})}},
		{"a blank node, replace manual", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Manual = true })}},
		{"a blank node without a line", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Home.Admitted = simInitial("n0", "n1") })}},
		{"a blank node, the membership just changed", []leaderMod{lost("n2", 60), saved, changed(settleFor - time.Nanosecond)}},
		{"a blank node, the membership changed ten seconds ago", []leaderMod{lost("n2", 60), saved, changed(settleFor)}},
		{"a blank node, since when the members are what they are is not known", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.ListSince = time.Time{} })}},
		{"a blank node, the third is down too", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.links(ids["n1"]).Quiet = 1 })}},
		{"two of five are blank, the first one's snapshot is taken", []leaderMod{edit(func(f *ChangeFacts) {
			f.Self.Members = append(f.Self.Members, MemberEntry{ID: "a", PeerURLs: []string{simInitial("n4")[0].PeerURL}}, MemberEntry{ID: "b", PeerURLs: []string{simInitial("n5")[0].PeerURL}})
			f.Self.Links = append(f.Self.Links, Link{ID: "a"}, Link{ID: "b"})
			for node, id := range map[string]string{"n4": "a", "n5": "b"} {
				a := f.Peers["n1"]
				a.Node, a.State.Node, a.State.Member = node, node, &MemberState{ID: id}
				f.Peers[node] = a
			}
		}), lost("n1", 4), lost("n2", 4), edit(func(f *ChangeFacts) { f.Saved = ids["n1"] })}},
		{"two of three are blank", []leaderMod{lost("n1", 60), lost("n2", 60), saved}},
		{"a blank machine under a known name", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Machine = "m9" })(&f.Facts)
		})}},
		{"a blank machine under a known name, after five minutes", []leaderMod{lost("n2", 600), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Machine = "m9" })(&f.Facts)
			f.ClaimSince["n2"] = decideNow.Add(-5 * time.Minute)
		})}},
		{"a blank machine under a known name, a moment before that", []leaderMod{lost("n2", 600), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Machine = "m9" })(&f.Facts)
			f.ClaimSince["n2"] = decideNow.Add(time.Nanosecond - 5*time.Minute)
		})}},
		{"a blank machine under a name whose machine nobody knows", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Disk.Seen = Seen{} })}},
		{"a blank machine under a name whose machine the others know", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			f.Disk.Seen = Seen{}
			theirs("n1", func(s *State) { s.Seen = map[string]Sighting{"n2": {MemberID: "1", Machine: "m9"}} })(&f.Facts)
		})}},
		{"a blank node whose voter another one is connected with", []leaderMod{lost("n2", 60), saved, connected("n1", "n2")}},
		{"a blank node, and a voter that may be connected with its member is not heard", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { silent("n1", "x")(&f.Facts) })}},
		{"a blank node, and the last answer of a voter is three seconds old", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			a := f.Peers["n1"]
			a.At = decideNow.Add(-3 * time.Second)
			f.Peers["n1"] = a
		})}},
		{"a blank node, and the last answer of a voter is older than three seconds", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			a := f.Peers["n1"]
			a.At = decideNow.Add(-3*time.Second - 1)
			f.Peers["n1"] = a
		})}},
		{"a blank node, a voter is not heard, and a person lets it in", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			silent("n1", "x")(&f.Facts)
			f.Welcomed = []string{"n2"}
		})}},
		{"the same, and a person let it in before the last one was", []leaderMod{lost("n2", 60), saved, connected("n1", "n2"), edit(func(f *ChangeFacts) { f.Welcomed = []string{"n2"} })}},
		{"a blank node, no snapshot could be taken, and a person lets it in", []leaderMod{lost("n2", 60), edit(func(f *ChangeFacts) {
			f.NoSnapshot, f.Welcomed = "no space left on device", []string{"n2"}
		})}},
		{"a node claims the voter of another", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Claim = &Claim{PeerURL: simInitial("n1")[0].PeerURL, Lost: ids["n1"]} })(&f.Facts)
		})}},
		{"a blank node with another URL, which only its Corefile has", []leaderMod{lost("n2", 60), saved, otherURL}},
		{"a blank node with another URL", []leaderMod{lost("n2", 60), saved, otherURL, edit(func(f *ChangeFacts) {
			f.Home.Admitted[2].PeerURL = "https://n2-peer.rack1.example.com:2380"
		})}},
		{"a node claims by an old list", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Claim.Lost = learnerID })(&f.Facts)
		})}},
		{"a node claims while its member runs", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Member = &MemberState{ID: ids["n2"]} })(&f.Facts)
		})}},
		{"a blank node of another bundle", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			theirs("n2", func(s *State) { s.Bundle = "b2" })(&f.Facts)
		})}},
		{"one of two is blank", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) {
			f.Self.Members = slices.DeleteFunc(f.Self.Members, func(e MemberEntry) bool { return e.ID == ids["n1"] })
		})}},
		{"alarm", []leaderMod{lost("n2", 60), saved, edit(func(f *ChangeFacts) { f.Self.Alarms = []string{"CORRUPT at " + ids["n1"]} })}},
		{"a new node", []leaderMod{asks}},
		{"a new node that asked before the last change, which may be what it asked for", []leaderMod{asks, changed(0)}},
		{"a new node whose last learners had to be taken out", []leaderMod{asks, edit(func(f *ChangeFacts) { f.NotBefore = map[string]time.Time{"n3": decideNow.Add(19 * time.Second)} })}},
		{"the same, and a person let it in before the last one was", []leaderMod{asks, edit(func(f *ChangeFacts) {
			f.NotBefore, f.Welcomed = map[string]time.Time{"n3": decideNow.Add(19 * time.Second)}, []string{"n3"}
		})}},
		{"a new node, and a voter waits to be replaced until the members have settled", []leaderMod{lost("n2", 60), asks, changed(settleFor - time.Second)}},
		{"a new node, and too few voters were asked since this one leads", []leaderMod{asks, edit(func(f *ChangeFacts) { f.LeadSince = decideNow.Add(time.Nanosecond) })}},
		{"a new node, and one of two voters was asked since this one leads", []leaderMod{asks, edit(func(f *ChangeFacts) {
			f.LeadSince = decideNow.Add(time.Nanosecond)
			a := f.Peers["n1"]
			a.Asked = f.LeadSince
			f.Peers["n1"] = a
		})}},
		{"a new node, and the voters' nodes have a word on it that is not written down here", []leaderMod{asks, edit(func(f *ChangeFacts) {
			g, _ := caseGenesis()
			for _, n := range []string{"n1", "n2"} {
				theirs(n, func(s *State) {
					s.Tombstones = map[string]Tombstone{"n3": {Count: 1, Removed: true, ClusterID: g.ClusterID}}
				})(&f.Facts)
			}
		})}},
		{"a new node, and the others' nodes do not say that their members run", []leaderMod{asks, edit(func(f *ChangeFacts) {
			for _, n := range []string{"n1", "n2"} {
				theirs(n, func(s *State) { s.Member = nil })(&f.Facts)
			}
		})}},
		{"a new node that a person lets in, and too few voters were asked since this one leads", []leaderMod{asks, edit(func(f *ChangeFacts) {
			f.LeadSince, f.Self.Term, f.Welcomed = decideNow.Add(time.Nanosecond), 7, []string{"n3"}
			f.Disk.Seen.Tombstones = map[string]Tombstone{"n3": {Term: 7, Count: 1, Welcome: 1, ClusterID: f.Self.ClusterID}}
		})}},
		{"the same, and an earlier leader was told", []leaderMod{asks, edit(func(f *ChangeFacts) {
			f.LeadSince, f.Self.Term, f.Welcomed = decideNow.Add(time.Nanosecond), 7, []string{"n3"}
			f.Disk.Seen.Tombstones = map[string]Tombstone{"n3": {Term: 6, Count: 1, Welcome: 1, ClusterID: f.Self.ClusterID}}
		})}},
		{"a new node without a line", []leaderMod{asks, edit(func(f *ChangeFacts) { f.Home.Admitted = simInitial(simNames(3)...) })}},
		{"a new node with another address", []leaderMod{asks, edit(func(f *ChangeFacts) { f.Home.Admitted[3].PeerURL = "https://n3-peer.rack1.example.com:2380" })}},
		{"a new node, a voter is down", []leaderMod{asks, edit(func(f *ChangeFacts) { f.links(ids["n2"]).Quiet = 1 })}},
		{"a removal that did not take place", []leaderMod{tombstone("n2")}},
		{"a removal that did not take place, and one of two others has a later word", []leaderMod{tombstone("n2"), edit(func(f *ChangeFacts) {
			g, _ := caseGenesis()
			theirs("n1", func(s *State) { s.Tombstones = map[string]Tombstone{"n2": {Count: 2, ClusterID: g.ClusterID}} })(&f.Facts)
		})}},
		{"a removal that did not take place, and the others were asked before this one led", []leaderMod{tombstone("n2"), edit(func(f *ChangeFacts) {
			f.LeadSince = decideNow.Add(time.Nanosecond)
		})}},
		{"a removal that failed", []leaderMod{tombstone("n2"), refused("n2")}},
		{"a removal that failed, and another one", []leaderMod{tombstone("n1"), tombstone("n2"), refused("n1")}},
		{"two removals that failed, that of n2 longer ago", []leaderMod{tombstone("n1"), tombstone("n2"), refused("n2"), refused("n1")}},
		{"a removal that has just failed, and a new node", []leaderMod{tombstone("n2"), refused("n2"), othersTurn, asks}},
		{"a removal that has just failed, another one, and a new node", []leaderMod{tombstone("n1"), tombstone("n2"), refused("n2"), othersTurn, asks}},
		{"a removal of the leader that has just failed, and a new node", []leaderMod{tombstone("n0"), refused("n0"), othersTurn, asks}},
		{"a removal of the leader and one of its heir", []leaderMod{tombstone("n0"), tombstone("n2")}},
		{"a removal of all", []leaderMod{tombstone("n0"), tombstone("n1"), tombstone("n2")}},
		{"a removal that failed, and a new node that could not be added meanwhile", []leaderMod{tombstone("n2"), refused("n2"), asks}},
		{"a removal of a member that the node had before", []leaderMod{tombstone("n2"), edit(func(f *ChangeFacts) {
			t := f.Disk.Seen.Tombstones["n2"]
			t.MemberID = learnerID
			f.Disk.Seen.Tombstones["n2"] = t
		})}},
		{"a removal from the cluster of another birth", []leaderMod{tombstone("n2"), edit(func(f *ChangeFacts) {
			t := f.Disk.Seen.Tombstones["n2"]
			t.ClusterID = "00000000000000ff"
			f.Disk.Seen.Tombstones["n2"] = t
		})}},
		{"a removal that did not take place, of the leader", []leaderMod{tombstone("n0")}},
		{"a removal that did not take place, and would take the quorum", []leaderMod{tombstone("n2"), edit(func(f *ChangeFacts) { f.links(ids["n1"]).Quiet = 1 })}},
		{"a new node and a blank one", []leaderMod{asks, lost("n2", 60), saved}},
		{"a new node, and a blank one of which the leader has just heard and that needs no snapshot", []leaderMod{asks, lost("n2", 2), edit(func(f *ChangeFacts) {
			f.NoSnapshot, f.Welcomed = "no space left on device", []string{"n2"}
		})}},
		{"a new node and a blank one that waits", []leaderMod{asks, lost("n2", 2), saved}},
		{"of a size, a spare", []leaderMod{sizedTo(3, 4, "n3"), asks}},
		{"of a size, a spare, and a voter is down", []leaderMod{sizedTo(3, 4, "n3"), asks, edit(func(f *ChangeFacts) { silent("n2", "x")(&f.Facts); f.links(ids["n2"]).Quiet = 900 })}},
		{"of a size, a spare and a blank voter", []leaderMod{sizedTo(3, 4, "n3"), asks, lost("n2", 60), saved}},
		{"of a size, a spare, and a member was removed", []leaderMod{sizedTo(3, 4, "n3"), asks, out("n2"), tombstone("n2")}},
		{"of a size, two spares, and a member was removed", []leaderMod{sizedTo(3, 5, "n3", "n4"), asks, asksAs("n4"), out("n2"), tombstone("n2")}},
		{"of a size, a spare, and the member that was removed asks", []leaderMod{sizedTo(3, 4, "a9"), asksAs("a9"), out("n2"), tombstone("n2"), asksAs("n2")}},
		{"of a size, a spare before a blank voter that was removed", []leaderMod{sizedTo(3, 4, "a9"), asksAs("a9"), out("n2"), asksAs("n2")}},
		{"of a size, a spare before one that joined later and is blank", []leaderMod{sizedTo(4, 5, "a9", "n3"), asksAs("a9"), asksAs("n3"), edit(func(f *ChangeFacts) {
			f.Disk.Seen.Nodes["n3"] = Sighting{MemberID: learnerID}
		})}},
		{"of a size, a spare that a person lets in", []leaderMod{sizedTo(3, 4, "n3"), asks, edit(func(f *ChangeFacts) { f.Welcomed = []string{"n3"} })}},
		{"of a size, more members than that", []leaderMod{sizedTo(2, 3, "n3"), asks}},
		{"of a size, the marker was made again", []leaderMod{asks, edit(func(f *ChangeFacts) {
			f.Disk.Marker.Accepted = &Acceptance{Genesis: Genesis{ClusterID: f.Self.ClusterID}}
			f.Home.Size = 3
		})}},
		{"a learner is behind", []leaderMod{learns(100, 0)}},
		{"a learner is one entry too far behind", []leaderMod{learns(3999, time.Minute)}},
		{"a learner has just caught up", []leaderMod{learns(4000, promoteAfter-time.Nanosecond)}},
		{"a learner has caught up", []leaderMod{learns(4000, promoteAfter)}},
		{"a learner has caught up, and its node is not heard", []leaderMod{learns(4500, time.Minute), edit(func(f *ChangeFacts) { silent("n3", "timeout")(&f.Facts) })}},
		{"a learner has caught up, and too few voters were asked since this one leads", []leaderMod{learns(4500, time.Minute), edit(func(f *ChangeFacts) { f.LeadSince = decideNow.Add(time.Nanosecond) })}},
		{"a learner beside a blank voter", []leaderMod{learns(100, 0), lost("n2", 60), saved}},
		{"a learner beside a blank voter, for almost ten minutes", []leaderMod{learns(100, 0), lost("n2", 60), changed(learnerPatience - time.Nanosecond)}},
		{"a learner beside a blank voter, for ten minutes, no snapshot yet", []leaderMod{learns(100, 0), lost("n2", 60), changed(learnerPatience)}},
		{"a learner beside a blank voter, for ten minutes", []leaderMod{learns(100, 0), lost("n2", 60), saved, changed(learnerPatience)}},
		{"a learner beside a blank voter, for ten minutes, no snapshot possible", []leaderMod{learns(100, 0), lost("n2", 60), changed(learnerPatience),
			edit(func(f *ChangeFacts) { f.NoSnapshot = "no space left on device" })}},
		{"a learner beside a blank voter that the leader heard a moment ago, for ten minutes", []leaderMod{learns(100, 0), lost("n2", quietFor-1), changed(learnerPatience)}},
		{"a learner beside a blank voter, for ten minutes, and it has caught up", []leaderMod{learns(4500, time.Minute), lost("n2", 60), changed(learnerPatience)}},
		{"a learner beside a blank voter that must not be replaced, for ten minutes", []leaderMod{learns(100, 0), lost("n2", 60), changed(learnerPatience),
			edit(func(f *ChangeFacts) { f.Manual = true })}},
		{"a learner beside a new node, for an hour", []leaderMod{learns(100, 0), asksAs("n4"), changed(time.Hour)}},
		{"a learner is silent", []leaderMod{learns(100, 0), edit(func(f *ChangeFacts) { f.links(learnerID).Quiet = 119 })}},
		{"a learner is silent for long", []leaderMod{learns(100, 0), edit(func(f *ChangeFacts) { f.links(learnerID).Quiet = 120 })}},
		{"a learner's node does not know yet that it was let in", []leaderMod{learns(0, 0), lostLearner, changed(learnerKnown - time.Nanosecond)}},
		{"a learner's node lost it", []leaderMod{learns(0, 0), lostLearner, changed(learnerKnown)}},
		{"a learner's node lost it, as it said three seconds ago", []leaderMod{learns(0, 0), lostLearner, changed(time.Minute), edit(func(f *ChangeFacts) {
			a := f.Peers["n3"]
			a.At = decideNow.Add(-connectedFor - time.Nanosecond)
			f.Peers["n3"] = a
		})}},
		{"a learner's node lost it, and it was silent for long before", []leaderMod{learns(0, 0), lostLearner, changed(learnerKnown - time.Nanosecond), edit(func(f *ChangeFacts) {
			f.links(learnerID).Quiet = learnerLost
		})}},
	}
}

func TestReconcileTable(t *testing.T) {
	var out strings.Builder
	for _, c := range reconcileCases() {
		f := leaderFacts()
		for _, m := range c.mods {
			m(&f)
		}
		n := Reconcile(f)
		fmt.Fprintln(&out, c.name)
		if n.Change != nil {
			fmt.Fprintf(&out, "  -> %s %s%s of %s\n  reason: %s\n", n.Change.Op, n.Change.ID, n.Change.PeerURL, n.Change.Node, n.Change.Reason)
		}
		if n.Ordered != "" {
			fmt.Fprintf(&out, "  by the removal of %s\n", n.Ordered)
		}
		if n.Save != "" {
			fmt.Fprintf(&out, "  -> snapshot for %s\n", n.Save)
		}
		for _, node := range slices.Sorted(maps.Keys(n.Waits)) {
			fmt.Fprintf(&out, "  %s waits: %s\n", node, n.Waits[node])
		}
	}
	golden(t, "testdata/decide/reconcile.txt", out.String())
}
