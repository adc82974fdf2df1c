package srvboot

import (
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// sight is what may be published of a cluster, as far as its nodes told.
type sight struct {
	view   roster.View
	viewOf Genesis
	unborn time.Time // when every node last said so
}

// look brings the view up to date, and what others hear of it.
func (b *Boot) look() {
	if b.sight.take(b.facts(), b.list) {
		b.say()
		b.tellNews()
	}
	if b.view.Knowledge == roster.Unborn {
		b.at(b.unborn.Add(FreshFor))
	}
}

// take brings the view up to date and reports whether it changed. A born view gives way only to one with a higher
// (generation, applied index).
func (v *sight) take(f Facts, own listDate) (changed bool) {
	view, of := bestView(f, own)
	switch {
	case view.Knowledge == roster.Born:
		if v.view.Knowledge == roster.Born && !of.same(v.viewOf) && view.Generation <= v.view.Generation {
			return false // of another genesis: shown among the answers, kept out of the zone
		}
		next := roster.Newest(f.Home.SrvName, v.view, view)
		if changed = !reflect.DeepEqual(next, v.view); changed {
			v.view, v.viewOf = next, of
		}
	case v.view.Knowledge == roster.Born:
	case view.Knowledge == roster.Unknown && v.stillUnborn(f):
	case v.view.Knowledge != view.Knowledge:
		v.view, changed = view, true
	}
	if view.Knowledge == roster.Unborn {
		v.unborn = f.Now
	}
	return changed
}

// stillUnborn reports whether a denial may stand while nodes accept a genesis: all of them said "unborn" within the
// last ten seconds (R2), and none has said anything else than that it is on the way.
func (v *sight) stillUnborn(f Facts) bool {
	return v.view.Knowledge == roster.Unborn && f.Now.Sub(v.unborn) <= FreshFor && look(f).deciding()
}

// bestView is what this node may publish of its cluster now, and the genesis it is of. Lists come from this node's own
// member and marker, and directly from nodes that are born.
func bestView(f Facts, own listDate) (roster.View, Genesis) {
	s := look(f)
	best, of := roster.View{Cluster: f.Home.SrvName}, Genesis{}
	take := func(v roster.View, g Genesis) {
		if next := roster.Newest(f.Home.SrvName, best, v); !reflect.DeepEqual(next, best) {
			best, of = next, g
		}
	}
	g := s.genesis()
	if g != nil && !s.phase.unborn() && s.phase != Removed {
		if s.phase == Born { // a member that ran may have seen its cluster change since
			take(viewOfGenesis(f.Home, *g), *g)
		}
		take(own.view(f.Home, *g), *g)
	}
	for _, a := range s.born {
		theirs := a.State.Accepted.Genesis
		v := a.State.View
		if g != nil && !g.same(theirs) && theirs.Generation <= g.Generation {
			continue
		}
		if v.Index == 0 && a.State.Phase != Born {
			continue // it started again and its member says nothing yet: what the cluster began with may be part of what it is
		}
		if v.Knowledge == roster.Born && v.Generation == theirs.Generation && len(v.Members) > 0 {
			take(v, theirs)
		}
	}
	if best.Knowledge != roster.Born && s.unborn() {
		best.Knowledge = roster.Unborn
	}
	return best, of
}

// unborn reports whether every node that R1 waits for said, within the last ten seconds, that there is no birth. A
// node that accepted a genesis does not say so: it may be decided.
func (s *situation) unborn() bool {
	return s.all(func(p Phase, evidence []string) bool { return p == Promised || (p == Fresh && len(evidence) == 0) })
}

// deciding is unborn, but some nodes may have accepted.
func (s *situation) deciding() bool {
	return s.all(func(p Phase, evidence []string) bool {
		return p == Promised || p == Accepted || (p == Fresh && len(evidence) == 0)
	})
}

// all reports whether this node and every node that R1 waits for can be heard and says what is asked for.
func (s *situation) all(says func(p Phase, evidence []string) bool) bool {
	if len(s.silent) > 0 || len(s.foreign) > 0 || !s.empty() || s.f.Disk.MemoryError != "" || !says(s.phase, s.f.Disk.Evidence) {
		return false
	}
	for _, a := range s.fresh {
		if !s.isExcused(a.Node) && !says(a.State.Phase, a.State.Evidence) {
			return false
		}
	}
	return true
}

// viewOfGenesis is the member list of a birth, which has index 0.
func viewOfGenesis(h Home, g Genesis) roster.View {
	if len(g.Members) == 0 {
		return roster.View{Cluster: h.SrvName}
	}
	v := roster.View{Cluster: h.SrvName, Knowledge: roster.Born, Generation: g.Generation}
	for _, m := range g.Members {
		v.Members = append(v.Members, rosterMember(h, m.Name, m.PeerURL))
	}
	return v
}

func rosterMember(h Home, node, peerURL string) roster.Member {
	m := roster.Member{Node: node, PeerHost: node, ClientPort: h.ClientPort}
	u, err := url.Parse(peerURL)
	if err != nil {
		return m
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		m.PeerPort = uint16(port)
	}
	if host := u.Hostname(); net.ParseIP(host) == nil {
		m.PeerHost, _, _ = strings.Cut(host, ".")
	}
	return m
}

// entryNode is the node of an entry of a member list. Its peer URL names it; the member's own name is only its word, and until it has
// published it, etcd calls it "0", "1" (client/pkg/srv/srv.go).
func entryNode(e MemberEntry) string {
	if len(e.PeerURLs) == 0 {
		return e.Name
	}
	if node, _, ok := peerPlace(e.PeerURLs[0]); ok {
		return node
	}
	return e.Name
}

// at reports whether a member is in the place of a peer URL: the same, or that of the same node with its other name for raft traffic or
// with another port, as after an edit of the Corefile. A node has one member.
func (e MemberEntry) at(peerURL string) bool {
	node, domain, ok := peerPlace(peerURL)
	return slices.ContainsFunc(e.PeerURLs, func(u string) bool {
		n, d, named := peerPlace(u)
		return u == peerURL || ok && named && n == node && d == domain
	})
}

// peerPlace is the node that the host name of a peer URL is of, be it its second name for raft traffic, and the domain; not ok if the URL
// gives an address.
func peerPlace(peerURL string) (node, domain string, ok bool) {
	u, err := url.Parse(peerURL)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
		return "", "", false
	}
	label, domain, _ := strings.Cut(u.Hostname(), ".")
	return strings.TrimSuffix(label, "-peer"), domain, true
}

// listDate dates the own member's list. The index is the first that the member gave it (MemberState.Listed). It stays until the
// list changes, since the zone changes with it.
type listDate struct {
	entries []MemberEntry
	index   uint64
}

func (l *listDate) take(s MemberState) {
	if s.Listed > 0 && len(s.Members) > 0 && !reflect.DeepEqual(l.entries, s.Members) {
		*l = listDate{entries: slices.Clone(s.Members), index: s.Listed}
	}
}

func (l *listDate) view(h Home, g Genesis) roster.View {
	if l.index == 0 {
		return roster.View{Cluster: h.SrvName}
	}
	v := roster.View{Cluster: h.SrvName, Knowledge: roster.Born, Generation: g.Generation, Index: l.index}
	for _, e := range l.entries {
		if len(e.PeerURLs) == 0 {
			continue
		}
		m := rosterMember(h, entryNode(e), e.PeerURLs[0])
		if len(e.ClientURLs) > 0 {
			if u, err := url.Parse(e.ClientURLs[0]); err == nil {
				if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
					m.ClientPort = uint16(port)
				}
			}
		}
		v.Members = append(v.Members, m)
	}
	slices.SortFunc(v.Members, func(a, b roster.Member) int { return strings.Compare(a.Node, b.Node) })
	return v
}
