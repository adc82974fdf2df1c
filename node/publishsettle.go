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
	// born is when this run first knew the cluster born; over is set once every member served since, or did not in time.
	born time.Time
	over bool
}

func (s *settling) goesOn() bool { return s != nil && !s.over }

// withClients says of each member whether it is published for clients. told says it of the clusters that the rack follows.
func (p *publisher) withClients(r roster.Roster, h hearing, told func(cluster, node string) bool) roster.Roster {
	p.settle(r, func(node string) bool { return h.judge(node) == serves })
	serving := func(cluster, node string) bool {
		if c, _ := r.Cluster(cluster); c.Outside {
			return told(cluster, node)
		}
		return h.judge(node) == serves || p.settling[cluster].goesOn()
	}
	return r.WithServing(serving, lastServing(p.last, h.report.Answers))
}

// settle says which clusters have settled.
func (p *publisher) settle(r roster.Roster, serving func(node string) bool) {
	for _, c := range r.Clusters {
		s := p.settling[c.Name]
		if c.Knowledge != roster.Born || c.Outside || s != nil && s.over {
			continue
		}
		if s == nil {
			s = &settling{born: time.Now()}
			p.settling[c.Name] = s
		}
		all := !slices.ContainsFunc(c.Members, func(m roster.Member) bool { return !serving(m.Node) })
		s.over = all || time.Since(s.born) > settleTime
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
