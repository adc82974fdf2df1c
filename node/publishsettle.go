package node

import (
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// settleTime bounds how long after a birth or a start all members are published as serving. A birth takes a second;
// until each member was heard once, a smaller set would be a guess.
const settleTime = 10 * time.Second

// settling is the time in which the client set of a cluster does not follow the members' health yet: a set that grows
// from one to all while a cluster boots would be a part of it.
type settling struct {
	// born is when this run first knew the cluster born; over is set once every member served since, or did not in time, or
	// those served that a node publishes for which the cluster has settled.
	born time.Time
	over bool
	// told are the members that such nodes published last; empty before one was heard.
	told []string
}

func (s *settling) goesOn() bool { return s != nil && !s.over }

// presumes reports whether a member counts as serving until the cluster has settled: those that are told, or all. A node that
// starts again must not bring back members that the others have long known dead.
func (s *settling) presumes(node string) bool {
	return s.goesOn() && (len(s.told) == 0 || slices.Contains(s.told, node))
}

// withClients says of each member whether it is published for clients. told says it of the clusters that the rack follows.
func (p *publisher) withClients(r roster.Roster, h hearing, told func(cluster, node string) bool) roster.Roster {
	p.settle(r, h)
	least := map[string]verdict{}
	for _, c := range r.Clusters {
		// Members that are held out come before those that do not serve at all.
		least[c.Name] = held
		if slices.ContainsFunc(c.Members, func(m roster.Member) bool { return h.judge(m.Node) == serves }) {
			least[c.Name] = serves
		}
	}
	serving := func(cluster, node string) bool {
		if c, _ := r.Cluster(cluster); c.Outside {
			return told(cluster, node)
		}
		return h.judge(node) >= least[cluster] || p.settling[cluster].presumes(node)
	}
	return r.WithServing(serving, lastServing(p.last, h.report.Answers))
}

// settle says which clusters have settled.
func (p *publisher) settle(r roster.Roster, h hearing) {
	for _, c := range r.Clusters {
		s := p.settling[c.Name]
		if c.Knowledge != roster.Born || c.Outside || s != nil && s.over {
			continue
		}
		if s == nil {
			s = &settling{born: h.now}
			p.settling[c.Name] = s
		}
		s.hear(c, h)
	}
}

// hear takes in what is heard of the cluster. Nodes say whom they publish (State.Clients) only once it has settled for them: at
// a birth, and after the power of all failed, nobody says anything, and all members are waited for.
func (s *settling) hear(c roster.Cluster, h hearing) {
	var members, told []string
	for _, m := range c.Members {
		members = append(members, m.Node)
	}
	well := func(nodes []string) bool {
		return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(node string) bool { return h.judge(node) < held })
	}
	s.over = well(members) || h.now.Sub(s.born) > settleTime
	for _, a := range h.answers() {
		clients := a.State.Clients[c.Name]
		s.over = s.over || well(clients)
		told = append(told, clients...)
	}
	if len(told) > 0 {
		s.told = told
	}
}

// lastServing is what client sets fall back on when no member of a cluster serves: the members that this node published
// last, and those that the other nodes did. The nodes see the last deaths of a cluster in different orders, and end at
// one set all the same, for a union only grows until all have it.
func lastServing(last roster.Roster, answers map[string]srvboot.Answer) roster.Roster {
	last = last.Clone()
	for _, c := range last.Clusters {
		for i := range c.Members {
			m := &c.Members[i]
			for _, a := range answers {
				m.Serving = m.Serving || a.Fresh(time.Now(), staleAnswer) && slices.Contains(a.State.Clients[c.Name], m.Node)
			}
		}
	}
	return last
}
