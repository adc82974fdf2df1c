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
	// Followed is set for a cluster that the rack does not run.
	Followed *FollowedStatus `json:"followed,omitempty"`
}

// FollowedStatus is what this node knows of a cluster that the rack does not run.
type FollowedStatus struct {
	Endpoints []string `json:"endpoints"`
	// ClusterID is etcd's; Index dates the member list, see roster.Followed.
	ClusterID string                 `json:"cluster_id,omitempty"`
	Index     uint64                 `json:"index"`
	Members   []FollowedMemberStatus `json:"members"`
	// Fault is why the list may be old.
	Fault string `json:"fault,omitempty"`
	// Refused is why the zone cannot hold the list, so that the cluster's names are not answered for.
	Refused string `json:"refused,omitempty"`
}

// FollowedMemberStatus is one member of it.
type FollowedMemberStatus struct {
	roster.FollowedMember
	Leader  bool   `json:"leader"`
	Version string `json:"version,omitempty"`
	// Error is why it does not count as serving clients.
	Error string `json:"error,omitempty"`
}

func (n *Node) followedStatus(o *Options, cluster string) *FollowedStatus {
	s, refused, ok := n.followers.status(cluster)
	c, configured := o.cluster(cluster)
	if !ok || !configured || c.Outside == nil {
		return nil
	}
	out := &FollowedStatus{Endpoints: c.Outside.Endpoints, ClusterID: s.List.ClusterID, Index: s.List.Index, Members: []FollowedMemberStatus{}, Fault: s.Fault, Refused: refused}
	for _, m := range s.List.Members {
		seen := s.Members[m.ID]
		out.Members = append(out.Members, FollowedMemberStatus{FollowedMember: m, Leader: seen.Leader, Version: seen.Version, Error: seen.Error})
	}
	return out
}

func (n *Node) otherStatus(o *Options, rep srvboot.Report) []ClusterStatus {
	out := []ClusterStatus{}
	for _, c := range n.roster.Load().Clusters {
		if c.Name == n.line.Cluster {
			continue
		}
		s := ClusterStatus{SrvName: c.Name, Birth: c.Knowledge.String(), Nodes: n.nodeStatus(o, rep, c.Name), Members: []string{}, Serving: []string{},
			Followed: n.followedStatus(o, c.Name)}
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
		if f := c.Followed; f != nil {
			if f.Refused != "" {
				problems = append(problems, fmt.Sprintf("the zone cannot answer for %s, its member list cannot be published: %s", clusterWord(c.SrvName), f.Refused))
			} else if c.Birth == roster.Unknown.String() {
				problems = append(problems, fmt.Sprintf("the zone cannot answer for %s, no member list of it was ever seen: %s", clusterWord(c.SrvName), f.Fault))
			} else if f.Fault != "" {
				warnings = append(warnings, fmt.Sprintf("the member list of %s may be old: %s", clusterWord(c.SrvName), f.Fault))
			}
			continue
		}
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
