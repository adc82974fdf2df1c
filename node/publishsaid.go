package node

import (
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// said is what a node tells the others of its verdicts; the publisher makes one in each round.
type said struct {
	at time.Time
	// clients and heard are State.Clients and State.Heard.
	clients map[string][]string
	heard   []string
}

// tell returns what the other nodes are told now. A publisher that stands still must not keep a member alive that died since,
// so what it heard is left out once it is old.
func (p *publisher) tell(now time.Time) (clients map[string][]string, heard []string) {
	s := p.said.Load()
	if s == nil {
		return nil, nil
	}
	if now.Sub(s.at) <= staleAnswer {
		heard = s.heard
	}
	return s.clients, heard
}

// clientsOf are the nodes whose members are published for clients, by srv-name. A cluster that has not settled is left out: what is
// published of it is a guess, which no other node should take over.
func (p *publisher) clientsOf(r roster.Roster) map[string][]string {
	out := map[string][]string{}
	for _, c := range r.Clusters {
		for _, m := range c.Members {
			if m.Serving && !p.settling[c.Name].goesOn() {
				out[c.Name] = append(out[c.Name], m.Node)
			}
		}
	}
	return out
}
