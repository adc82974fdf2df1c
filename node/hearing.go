package node

import (
	"maps"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/gossip"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// staleAnswer is how old a node's last answer may be before its member no longer counts as serving. Nodes are asked
// every second, so this forgives two lost answers.
const staleAnswer = 2500 * time.Millisecond

// lostFor is how long gossip may miss a node that answers before that is told: longer than a node needs to be back after a pause or a cut
// (gossip.Timing, Rejoin).
const lostFor = 20 * time.Second

// hearing is what a node judges by, at one moment, whose members serve clients.
type hearing struct {
	self   string
	report srvboot.Report
	peers  []gossip.Peer
	now    time.Time
	held   bool // the own member is held out, see damping
}

// verdict is what a node makes of one member.
type verdict int

const (
	// unheard means: nobody has said anything of it lately.
	unheard verdict = iota
	// silent means: it does not serve, or its node is gone.
	silent
	// held means: it serves, and is left out because it fell too often.
	held
	// serves means: it answers clients.
	serves
)

// hear takes down what is known at a moment.
func (n *Node) hear(rep srvboot.Report, now time.Time) hearing {
	return hearing{self: n.name, report: rep, peers: n.rumor.Peers(), now: now, held: n.publisher.held.Load().wait > 0}
}

// judge says whether a node's member answers clients now. The node's own fresh answer decides, and gossip's later verdict that it is
// gone comes before that. Without such an answer another node's word counts, for one lost link must not make two client sets:
// its word of what it heard itself (State.Heard), never of what it was told, so that no circle of nodes keeps a dead member
// alive. That is one hop, enough for the one link.
func (h hearing) judge(name string) verdict {
	if v := h.direct(name); v != unheard || h.allGone(name) {
		return v
	}
	for _, a := range h.answers() {
		if slices.Contains(a.State.Heard, name) {
			return serves
		}
	}
	return unheard
}

// direct is the verdict by the node's own word alone.
func (h hearing) direct(name string) verdict {
	if name == h.self {
		return word(h.report.State.Member, h.held)
	}
	a := h.report.Answers[name]
	switch {
	case !a.Fresh(h.now, staleAnswer):
		return unheard
	case h.isGone(a):
		return silent
	}
	return word(a.State.Member, a.State.Member != nil && a.State.Member.HeldOut)
}

// word is the verdict on what a member says of itself.
func word(m *srvboot.MemberState, heldOut bool) verdict {
	switch {
	case m == nil || !m.Serving:
		return silent
	case heldOut:
		return held
	}
	return serves
}

// heard are the nodes whose members this one heard serving itself, sorted.
func (h hearing) heard() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(h.report.Answers)) {
		if name != h.self && h.direct(name) == serves {
			out = append(out, name)
		}
	}
	if h.direct(h.self) == serves {
		out = append(out, h.self)
	}
	slices.Sort(out)
	return out
}

// answers are the fresh ones of other nodes that are not gone.
func (h hearing) answers() (out []srvboot.Answer) {
	for name, a := range h.report.Answers {
		if name != h.self && a.Fresh(h.now, staleAnswer) && !h.isGone(a) {
			out = append(out, a)
		}
	}
	return out
}

// isGone reports whether the run that gave an answer is gone by the verdict of gossip, and has not answered a question since that was put after
// it. Where a firewall keeps gossip apart the admin port decides: gossip never met that run, or it goes on answering.
func (h hearing) isGone(a srvboot.Answer) bool {
	p, met := h.run(a)
	answers := a.Err == "" && a.Asked.After(p.Since)
	return met && p.Status != gossip.Alive && !answers
}

// run is what gossip says of the run that gave an answer, if it ever met that.
func (h hearing) run(a srvboot.Answer) (p gossip.Peer, met bool) {
	i := slices.IndexFunc(h.peers, func(p gossip.Peer) bool { return p.Name == a.Node && p.Boot == a.State.Gossip })
	if i < 0 {
		return gossip.Peer{}, false
	}
	return h.peers[i], true
}

// apart are the nodes that go on answering long after gossip lost them, sorted.
func (h hearing) apart() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(h.report.Answers)) {
		a := h.report.Answers[name]
		p, met := h.run(a)
		lost := met && p.Status == gossip.Dead && a.Asked.Sub(p.Since) > lostFor
		if name != h.self && a.Fresh(h.now, staleAnswer) && lost {
			out = append(out, name)
		}
	}
	return out
}

// allGone reports whether gossip knows runs of a node, and every one of them is gone.
func (h hearing) allGone(name string) (gone bool) {
	for _, p := range h.peers {
		if p.Name != name {
			continue
		}
		if p.Status == gossip.Alive {
			return false
		}
		gone = true
	}
	return gone
}
