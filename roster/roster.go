// Package roster holds who the cluster's nodes are, from every source, as one comparable value.
//
// It imports the standard library alone, so that every other package may speak of nodes and members without pulling
// in a name server, a certificate authority or etcd.
package roster

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Knowledge says how much a node knows of a cluster's birth. What may be published of the cluster hangs on it:
// an incomplete set of SRV records boots a second cluster, and a denial out of ignorance is cached by resolvers.
type Knowledge int

const (
	// Unknown means: some node that must be asked has not answered, so nothing may be published or denied.
	Unknown Knowledge = iota
	// Unborn means: every node that must be asked said so within the last ten seconds.
	Unborn
	// Born means: a genesis is known to be born; Members is complete.
	Born
)

// String returns the word used in logs and in status.
func (k Knowledge) String() string {
	return [...]string{"unknown", "unborn", "born"}[k]
}

// MaxSlot is the highest slot number of a node; slots occupy the low six bits of a zone serial.
const MaxSlot = 63

// NoSlot is the slot of a machine that the zone names and that mints no serials, because it does not run etcd-dns.
const NoSlot = -1

// Node is one machine that runs etcd-dns.
type Node struct {
	// Name is the node's host label below the domain: lower case, no dots.
	Name string
	// Addrs are its addresses in the order of configuration; empty while none is known.
	Addrs []netip.Addr
	// PeerAddrs, when set, carry the raft traffic, and live at NAME-peer below the domain.
	PeerAddrs []netip.Addr
	// Slot is the node's fixed number, 0 to MaxSlot, never given to another node of the domain; or NoSlot.
	Slot int
}

// PeerHost returns the host label that the SRV records for peers point to.
func (n Node) PeerHost() string {
	if len(n.PeerAddrs) > 0 {
		return n.Name + "-peer"
	}
	return n.Name
}

// OnePerFamily returns the first IPv4 and then the first IPv6 address: those that are published of a list. etcd compares
// what a name resolves to with one URL.
func OnePerFamily(addrs []netip.Addr) (out []netip.Addr) {
	for _, want4 := range []bool{true, false} {
		if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == want4 }); i >= 0 {
			out = append(out, addrs[i])
		}
	}
	return out
}

// NameServer is one entry of the zone's NS set.
type NameServer struct {
	// Name is an absolute, lower-case domain name with its trailing dot.
	Name string
	// Addrs are set only for a name server inside the zone that is not one of its nodes.
	Addrs []netip.Addr
}

// Member is one etcd member as the zone publishes it.
type Member struct {
	// Node is the name of the node it runs on.
	Node string
	// PeerHost is the host label that its peer URL names, see Node.PeerHost.
	PeerHost string
	// PeerPort and ClientPort are its TCP ports.
	PeerPort, ClientPort uint16
	// Serving says that it answers clients now.
	Serving bool

	// The rest is set for members of outside clusters only; see Followed.

	// ClientHost is what its client URL names, in the form of PeerHost; empty for the node's own name. A host with a
	// trailing dot, also as PeerHost, is an absolute name outside of the domain.
	ClientHost string `json:",omitempty"`
	// PlainPeer and PlainClient say that its URLs are without TLS.
	PlainPeer   bool `json:",omitempty"`
	PlainClient bool `json:",omitempty"`
}

// ClientLabel returns the host that the SRV records for clients point to, in the form of PeerHost.
func (m Member) ClientLabel() string { return cmp.Or(m.ClientHost, m.Node) }

// Cluster is a set of members, named by its srv-name.
type Cluster struct {
	// Name is the srv-name suffix; the default cluster has none.
	Name string
	// Plain says that the cluster speaks without TLS, so it publishes the names without -ssl, and only those.
	Plain bool
	// Outside says that the rack does not run the cluster: its members' URLs are what they are, and Plain says nothing.
	Outside bool `json:",omitempty"`
	// Knowledge says whether Members may be published.
	Knowledge Knowledge
	// Generation and Index date Members: the genesis generation and the raft index at which the list was applied.
	Generation, Index uint64
	// Members is sorted by node name.
	Members []Member
}

// Roster is everything that the zone is compiled from.
type Roster struct {
	// Domain is the discovery domain: absolute, lower case, with its trailing dot.
	Domain string
	// Nodes is sorted by name.
	Nodes []Node
	// NameServers is in the order of configuration; the first is the SOA's MNAME.
	NameServers []NameServer
	// Clusters is sorted by name, so the default cluster is first.
	Clusters []Cluster
}

// Equal reports whether two rosters compile to the same zone.
func (r Roster) Equal(o Roster) bool { return reflect.DeepEqual(r.normal(), o.normal()) }

// Node returns the node of that name.
func (r Roster) Node(name string) (Node, bool) {
	for _, n := range r.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Cluster returns the cluster of that srv-name.
func (r Roster) Cluster(name string) (Cluster, bool) {
	for _, c := range r.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return Cluster{}, false
}

// Clone returns a deep copy in normal order: nodes, clusters and members sorted by name. Addresses and name servers
// keep the order of configuration, which is meaningful.
func (r Roster) Clone() Roster { return r.normal() }

func (r Roster) normal() Roster {
	out := Roster{Domain: strings.ToLower(r.Domain)}
	for _, n := range r.Nodes {
		n.Addrs = slices.Clone(n.Addrs)
		n.PeerAddrs = slices.Clone(n.PeerAddrs)
		out.Nodes = append(out.Nodes, n)
	}
	for _, s := range r.NameServers {
		s.Addrs = slices.Clone(s.Addrs)
		out.NameServers = append(out.NameServers, s)
	}
	for _, c := range r.Clusters {
		c.Members = slices.Clone(c.Members)
		slices.SortFunc(c.Members, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
		out.Clusters = append(out.Clusters, c)
	}
	slices.SortFunc(out.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Clusters, func(a, b Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
