package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// StatusFormat is the version of the status document.
const StatusFormat = 1

// Status is what a node says of itself and its rack to the operator.
type Status struct {
	Format  int    `json:"format"`
	Version string `json:"version"`
	Node    string `json:"node"`
	Domain  string `json:"domain"`
	SrvName string `json:"srv_name"`
	// Size is how many of the cluster's nodes are to be members, such as "3 of 4"; empty for all.
	Size   string `json:"size,omitempty"`
	Bundle string `json:"bundle"`
	// BundleGeneration is that of the bundle that the node holds.
	BundleGeneration uint64 `json:"bundle_generation"`
	// OK says that all is well; Problems says what is not.
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings"`
	// Waiting is what the member waits for; empty when it runs. A spare (Plan.Spare) waits although all is well.
	Waiting string `json:"waiting,omitempty"`
	// Plan is the decision in force.
	Plan srvboot.Plan `json:"plan"`
	// Phase is how far this node has come in its cluster's life; Genesis the decision that it was born by.
	Phase   srvboot.Phase `json:"phase"`
	Genesis string        `json:"genesis,omitempty"`
	// Cluster is the etcd cluster ID; Leader the leader's name; Health is healthy, degraded, no-quorum or none.
	Cluster string         `json:"cluster_id,omitempty"`
	Leader  string         `json:"leader,omitempty"`
	Health  string         `json:"health"`
	Nodes   []NodeStatus   `json:"nodes"`
	Members []MemberStatus `json:"members"`
	// Others are the other clusters of the domain, which this node publishes and is no member of.
	Others []ClusterStatus `json:"other_clusters"`
	// Deaths are the latest ends of the member process, newest last.
	Deaths       []srvboot.Death `json:"deaths"`
	Certificates []CertStatus    `json:"certificates"`
	Zone         ZoneStatus      `json:"zone"`
	// Secondaries are those that NOTIFY goes to.
	Secondaries []xfr.SecondaryStatus `json:"secondaries"`
	DNSSEC      DNSSECStatus          `json:"dnssec"`
	// Fronts are the fast paths of DNS, by address.
	Fronts []FrontStatus `json:"fast_paths"`
	// Corefile is the file that serves now; CorefileError says why a newer one does not.
	Corefile      string `json:"corefile"`
	CorefileError string `json:"corefile_error,omitempty"`

	hung int // the process ID of a member that hangs
}

// NodeStatus is one node as this one sees it.
type NodeStatus struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Reachable bool     `json:"reachable"`
	// Gossip is alive, dead or left; empty for a node that gossip never met.
	Gossip string        `json:"gossip,omitempty"`
	Error  string        `json:"error,omitempty"`
	Phase  srvboot.Phase `json:"phase,omitempty"`
	// Genesis is the decision that its cluster was born by, Cluster that cluster's etcd ID; empty before that. A cluster that was restored from
	// a backup has no genesis.
	Genesis string `json:"genesis,omitempty"`
	Cluster string `json:"cluster_id,omitempty"`
	Serial  uint32 `json:"serial,omitempty"`
	// Plan and Reason are what it does and why; a spare's plan is "spare".
	Plan   string `json:"plan,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// MemberStatus is one member of this node's cluster.
type MemberStatus struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls"`
	Learner    bool     `json:"learner"`
	Leader     bool     `json:"leader"`
	Serving    bool     `json:"serving"`
	Version    string   `json:"version,omitempty"`
	PID        int      `json:"pid,omitempty"`
	DBSize     int64    `json:"db_size,omitempty"`
}

// CertStatus is one of this node's certificates.
type CertStatus struct {
	Slot        string    `json:"slot"`
	Names       []string  `json:"names"`
	Issuer      string    `json:"issuer"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	NextRenewal time.Time `json:"next_renewal"`
	// Error is why it is not what it should be; the published one stays in use.
	Error string `json:"error,omitempty"`
}

// ZoneStatus is the zone that this node serves.
type ZoneStatus struct {
	Name   string `json:"name"`
	Serial uint32 `json:"serial"`
	Digest string `json:"digest"`
	// Birth is unknown, unborn or born, for each srv-name; the default cluster's is "".
	Birth map[string]string `json:"birth"`
	// Parent is what the parent zone delegates; nil while it was not asked, or with `parent none`.
	Parent *ParentStatus `json:"parent,omitempty"`
}

// health values of Status.
const (
	healthy  = "healthy"
	degraded = "degraded"
	noQuorum = "no-quorum"
	noMember = "none"
)

// Status collects the node's own.
func (n *Node) Status() Status {
	o, rep := n.options(), n.report()
	s := Status{
		Format: StatusFormat, Version: n.config.Version, Node: n.name, Domain: o.Domain, SrvName: n.line.Cluster, Bundle: n.bundle.ID(), BundleGeneration: n.latest.Load().Generation(),
		Problems: []string{}, Warnings: append([]string{}, slices.Concat(o.Warnings, n.bundleWarnings(rep), n.places.conflicts(o), n.transfers.warnings(time.Now()), n.gossipWarnings(rep))...), Plan: n.plan(rep), Phase: rep.State.Phase,
		Deaths: append([]srvboot.Death{}, rep.Deaths...), Certificates: certStatus(n.certs.Status()), Corefile: o.Corefile, CorefileError: n.corefileError(),
		Nodes: n.nodeStatus(o, rep, n.line.Cluster), Others: n.otherStatus(o, rep), Members: n.memberStatus(rep), Zone: n.zoneStatus(), Secondaries: n.transfers.notifier.Status(),
		DNSSEC: n.dnssec.status(), Fronts: n.fronts.status(), Health: noMember,
	}
	c, _ := o.cluster(n.line.Cluster)
	s.Size = c.Size.String()
	s.Warnings = append(s.Warnings, sizeEdit(c.Size, rep.State)...)
	if a := rep.State.Accepted; a != nil {
		s.Genesis = a.Genesis.ID
	}
	if m := rep.State.Member; m != nil {
		s.Cluster, s.Health = m.ClusterID, clusterHealth(s.Members)
		s.Leader = nameOf(m.Members, m.Leader)
		s.Plan = srvboot.Plan{Row: rep.Plan.Row, Action: rep.Plan.Action, Reason: "the member runs", MemberID: m.ID}
		if m.Hung {
			s.hung = m.PID
		}
	} else {
		s.Waiting = s.Plan.Reason
	}
	if text := n.bundleFault.Load(); text != nil {
		s.Problems = append(s.Problems, "the bundle is not taken: "+*text)
	}
	if text := n.publisher.fault.Load(); text != nil {
		s.Problems = append(s.Problems, "zone: "+*text)
	}
	if text := n.tokens.trouble.Load(); text != nil {
		s.Problems = append(s.Problems, "discovery: "+*text)
	}
	s.Problems = append(s.Problems, s.problems()...)
	problems, warnings := othersNews(s.Others)
	s.Problems = append(s.Problems, problems...)
	s.Warnings = append(append(s.Warnings, warnings...), n.followers.oddities()...) // a list in JSON, also without any
	s.Warnings = append(s.Warnings, o.otherCorefiles(rep.Answers, time.Now())...)
	if text := s.Zone.Parent.warning(); text != "" {
		s.Warnings = append(s.Warnings, text)
	}
	if h := n.publisher.held.Load(); h.wait > 0 && rep.State.Member != nil && rep.State.Member.Serving {
		s.Warnings = append(s.Warnings, h.warning())
	}
	for _, f := range s.Fronts {
		if f.State == "off" {
			s.Warnings = append(s.Warnings, "no fast path on "+f.Address+", DNS answers at CoreDNS's speed: "+f.Why)
		}
	}
	if missing := n.unpublished(); missing != "" {
		s.Problems = append(s.Problems, missing)
	}
	s.OK = len(s.Problems) == 0
	return s
}

// plan is what the boot loop does next, or what keeps it from beginning.
func (n *Node) plan(rep srvboot.Report) srvboot.Plan {
	if rep.Plan.Action != "" {
		return rep.Plan
	}
	var why error
	for _, c := range n.certs.Status() {
		why = cmp.Or(why, c.Err)
	}
	if life := n.lifeless.Load(); life != nil {
		why = *life
	}
	if why == nil {
		return rep.Plan
	}
	p := srvboot.Plan{Action: srvboot.Wait, Reason: why.Error()}
	var h interface{ Hint() string }
	if errors.As(why, &h) {
		p.Hint = h.Hint()
	}
	return p
}

// problems lists what keeps the node from being well.
func (s *Status) problems() (out []string) {
	if s.CorefileError != "" {
		out = append(out, "the Corefile does not serve: "+s.CorefileError)
	}
	switch {
	case s.Plan.Spare:
	case s.Waiting != "":
		out = append(out, "the member does not run: "+s.Waiting)
	case s.hung != 0:
		out = append(out, fmt.Sprintf("the member process hangs, it has said nothing for two seconds; to have it started again: kill -9 %d", s.hung))
	case s.Health != healthy:
		out = append(out, "the cluster is "+s.Health)
	}
	for _, n := range s.Nodes {
		if !n.Reachable {
			out = append(out, n.Name+" does not answer: "+n.Error)
		}
	}
	out = append(out, s.strangers()...)
	for _, text := range s.DNSSEC.Problems {
		out = append(out, "DNSSEC: "+text)
	}
	for _, c := range s.Certificates {
		if c.Error != "" {
			out = append(out, "certificate "+c.Slot+": "+c.Error)
		}
	}
	return out
}

// strangers names the nodes of another birth of this cluster: they are kept out of the zone and are no part of the quorum.
func (s *Status) strangers() (out []string) {
	own := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.Name == s.Node })
	if own < 0 || s.Nodes[own].Cluster == "" {
		return nil
	}
	for _, n := range s.Nodes {
		if c := s.Nodes[own].Cluster; n.Cluster != "" && n.Cluster != c {
			out = append(out, fmt.Sprintf("%s is of another birth of this cluster, cluster ID %s, and this node of cluster ID %s; where the wrong one is: stop etcd-dns, move its data directory away, start it",
				n.Name, n.Cluster, c))
		}
	}
	return out
}
