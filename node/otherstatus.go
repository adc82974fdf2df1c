package node

import (
	"fmt"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// ClusterStatus is a cluster of the domain that this node is no member of.
type ClusterStatus struct {
	SrvName string `json:"srv_name"`
	// Birth is unknown, unborn or born.
	Birth string       `json:"birth"`
	Nodes []NodeStatus `json:"nodes"`
	// Members are the nodes of its members, and Serving those that are published for clients; both empty before birth.
	Members []string `json:"members"`
	Serving []string `json:"serving"`
}

func (n *Node) otherStatus(o *Options, rep srvboot.Report) []ClusterStatus {
	out := []ClusterStatus{}
	for _, c := range n.roster.Load().Clusters {
		if c.Name == n.line.Cluster {
			continue
		}
		s := ClusterStatus{SrvName: c.Name, Birth: c.Knowledge.String(), Nodes: n.nodeStatus(o, rep, c.Name), Members: []string{}, Serving: []string{}}
		for _, m := range c.Members {
			s.Members = append(s.Members, m.Node)
			if m.Serving {
				s.Serving = append(s.Serving, m.Node)
			}
		}
		out = append(out, s)
	}
	return out
}

// othersNews says what is amiss with other clusters. That this node cannot answer for one is a problem of its own; that
// a node of another cluster is down is for that cluster's nodes to raise.
func othersNews(others []ClusterStatus) (problems, warnings []string) {
	for _, c := range others {
		if c.Birth == roster.Unknown.String() {
			problems = append(problems, fmt.Sprintf("the zone cannot answer for %s: it is not known yet whether it is born", clusterWord(c.SrvName)))
		}
		for _, node := range c.Nodes {
			if !node.Reachable {
				warnings = append(warnings, fmt.Sprintf("%s of %s does not answer: %s", node.Name, clusterWord(c.SrvName), node.Error))
			}
		}
	}
	return problems, warnings
}

// clusterWord names a cluster in a sentence.
func clusterWord(srvName string) string {
	if srvName == "" {
		return "the default cluster"
	}
	return "cluster " + srvName
}
