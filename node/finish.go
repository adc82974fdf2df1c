package node

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// finish fills in the defaults and checks what only the whole block can tell.
func (p *stanza) finish() (*Options, error) {
	o := p.o
	o.Bundle = cmp.Or(o.Bundle, DefaultBundle)
	o.Data = cmp.Or(o.Data, DefaultData)
	o.AdminPort, o.GossipPort = cmp.Or(o.AdminPort, DefaultAdminPort), cmp.Or(o.GossipPort, DefaultGossipPort)
	for i, at := range o.Join {
		if at.Port() == 0 {
			o.Join[i] = netip.AddrPortFrom(at.Addr(), o.GossipPort)
		}
	}
	if len(o.Nodes) == 0 {
		return nil, p.errorf("no node lines", "write one line `node NAME ADDRESS` for each machine")
	}
	p.finishClusters()
	for _, check := range []func() error{p.checkOwnName, p.checkClusters, p.checkSizes, p.checkNameServers, p.checkRecords, p.warnReverse, p.finishDiscovery} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// finishClusters adds the default cluster when it has nodes, and the defaults of every cluster.
func (p *stanza) finishClusters() {
	o := p.o
	if slices.ContainsFunc(o.Nodes, func(n NodeLine) bool { return n.Cluster == "" }) {
		o.Clusters = append(o.Clusters, ClusterOptions{Size: p.all.Size})
	}
	rack := presets["rack"]
	for i := range o.Clusters {
		c := &o.Clusters[i]
		if c.Outside != nil {
			continue
		}
		c.Plain = c.Plain || p.all.Plain
		c.PeerPort = cmp.Or(c.PeerPort, p.all.PeerPort, DefaultPeerPort)
		c.ClientPort = cmp.Or(c.ClientPort, p.all.ClientPort, DefaultClientPort)
		c.Heartbeat = cmp.Or(c.Heartbeat, p.all.Heartbeat, rack[0])
		c.Election = cmp.Or(c.Election, p.all.Election, rack[1])
		c.Quota = cmp.Or(c.Quota, p.all.Quota)
		c.Replace = cmp.Or(c.Replace, p.all.Replace, "auto")
	}
	slices.SortFunc(o.Clusters, func(a, b ClusterOptions) int { return strings.Compare(a.Name, b.Name) })
}

func (p *stanza) checkOwnName() error {
	if p.o.Name == "" {
		return nil
	}
	if _, ok := p.o.node(p.o.Name); ok {
		return nil
	}
	return p.errorAt(p.seen["/name"], didYouMean(p.o.Name, p.o.names()), "name %s has no node line", p.o.Name)
}

func (o *Options) names() []string {
	var out []string
	for _, n := range o.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// minElectionBeats is etcd's rule (server/embed/config.go, Validate): the election timeout is at least five
// heartbeats.
const minElectionBeats = 5

func (p *stanza) checkClusters() error {
	for _, c := range p.o.Clusters {
		if c.Outside != nil {
			continue
		}
		if c.Election < minElectionBeats*c.Heartbeat {
			return p.errorf("election %s is less than five times heartbeat %s", "raise election, or write timing rack", c.Election, c.Heartbeat)
		}
		used := map[uint16]string{}
		for _, u := range []struct {
			what string
			port uint16
		}{{"DNS", p.o.DNSPort}, {"the admin port", p.o.AdminPort}, {"the gossip port", p.o.GossipPort}, {"peer_port", c.PeerPort}, {"client_port", c.ClientPort}} {
			if other, twice := used[u.port]; twice {
				return p.errorf("port %d serves both %s and %s", "give each its own port", u.port, other, u.what)
			}
			used[u.port] = u.what
		}
		if !slices.ContainsFunc(p.o.Nodes, func(n NodeLine) bool { return n.Cluster == c.Name }) {
			return p.errorAt(p.blocks[c.Name], "write its node lines into its block", "cluster %s has no nodes", c.Name)
		}
	}
	return nil
}

// checkNameServers makes the names of `ns` lines absolute. A word without a dot is a node or a name below the
// domain, and then needs an address from one or the other. Of a name outside the zone the address is for NOTIFY alone.
func (p *stanza) checkNameServers() error {
	o := p.o
	if len(o.NameServers) == 0 && !slices.ContainsFunc(o.Nodes, func(n NodeLine) bool { return len(n.Addrs) > 0 }) {
		return p.errorf("no node line has an address, so that the zone has no name server", "write ns NAME ADDRESS for two machines whose addresses stay, or the addresses on their node lines")
	}
	for i := range o.NameServers {
		s := &o.NameServers[i]
		if !strings.Contains(strings.TrimSuffix(s.Name, "."), ".") {
			s.Name = dns.Fqdn(s.Name) + o.Domain
		}
		s.Name = dns.CanonicalName(s.Name)
		label, below := strings.CutSuffix(s.Name, "."+o.Domain)
		if !below {
			continue
		}
		n, isNode := o.node(label)
		switch {
		case isNode && len(n.Addrs) == 0:
			return p.errorf("name server %s is a node without an address", "add its address to its node line", s.Name)
		case isNode:
			s.Addrs = nil
		case len(s.Addrs) == 0:
			return p.errorf("name server %s lies in the zone and has no address", "write ns NAME ADDRESS", s.Name)
		}
	}
	return nil
}

// didYouMean names the known word nearest to one that is not known.
func didYouMean(word string, known []string) string {
	best, at := "", min(len(word)/2, 3)+1 // further than half its letters, or three, is another word
	for _, k := range known {
		if d := editDistance(word, k); d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return "one of: " + strings.Join(known, ", ")
	}
	return "did you mean " + best + "?"
}

// editDistance is Levenshtein's, by octets.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			corner, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, corner+cost)
		}
	}
	return row[len(b)]
}
