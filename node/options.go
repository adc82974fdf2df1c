package node

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// Where a node looks when nothing says otherwise.
const (
	DefaultCorefile = "/etc/etcd-dns/Corefile"
	DefaultBundle   = "/etc/etcd-dns/cluster.bundle"
	DefaultData     = "/var/lib/etcd-dns"
)

// Default TCP ports. 2379 and 2380 are IANA's for etcd; 2378 is the next one down.
const (
	DefaultClientPort = 2379
	DefaultPeerPort   = 2380
	DefaultAdminPort  = 2378
	// DefaultGossipPort is not memberlist's 7946, which MetalLB and Docker Swarm have on such machines.
	DefaultGossipPort = 2388
)

// DefaultRate is NSD's default of its rrl-ratelimit, too.
const DefaultRate = 200

// Options are what a Corefile says of one node, checked, with every default filled in. They are read-only.
type Options struct {
	// Corefile is the absolute path of the file they were read from.
	Corefile string
	// Domain is the discovery domain: lower case, absolute, with its trailing dot. DNSPort is the server block's.
	Domain  string
	DNSPort uint16
	// Bundle and Data are absolute paths.
	Bundle, Data string
	// Name is the `name` line; empty when the name follows from the addresses.
	Name string
	// Nodes are the node lines in the order of the file; Clusters are sorted by name.
	Nodes    []NodeLine
	Clusters []ClusterOptions
	// NameServers are the `ns` lines; empty means the first five nodes with addresses.
	NameServers []roster.NameServer
	// AdminPort is where nodes speak to each other, over mutual TLS; GossipPort where they gossip, over UDP and TCP.
	AdminPort, GossipPort uint16
	// Alike are the lines of the block that every node should have, in the order of the file.
	Alike []string
	// Join are more places where nodes may gossip, and Timing is the block's preset: rack, metro or wan.
	Join   []netip.AddrPort
	Timing string
	// TTL overrides the zone's 30 s; zero keeps the default.
	TTL time.Duration
	// Aliases publishes _etcd._tcp, _etcd-ssl._tcp and _etcdv3._tcp as well.
	Aliases bool
	// TransferInsecure lets the addresses of the transfer directive have the zone without TSIG, and leaves NOTIFY unsigned.
	TransferInsecure bool
	// Contact is the SOA's mailbox as a domain name; empty for hostmaster.DOMAIN.
	Contact string
	// Records are the `record` lines: absolute lower-case names, none that the zone makes itself.
	Records []dns.RR
	// Reverse are the server block's reverse zones, in its order.
	Reverse []zone.Reverse
	// Discovery is the discovery service; nil for none.
	Discovery *DiscoveryOptions
	// NoParent is `parent none`: no zone delegates to this one, and nobody is asked.
	NoParent bool
	// Ephemeral allows birth on a file system that does not outlive a power cut.
	Ephemeral bool
	// Rate is how many answers of one kind a network gets per second over UDP, 0 for no limit. RateExempt are the
	// networks without a limit; the nodes' own addresses have none either.
	Rate       int
	RateExempt []netip.Prefix
	// Warnings are what was accepted though it was not quite right.
	Warnings []string
}

// NodeLine is one `node` line.
type NodeLine struct {
	Name    string
	Addrs   []netip.Addr
	Peers   []netip.Addr
	Cluster string
	Line    int
}

// ClusterOptions are the properties of one cluster.
type ClusterOptions struct {
	// Name is the srv-name, empty for the default cluster.
	Name string
	// Outside is set for a cluster that the rack does not run, and then the rest is not.
	Outside *OutsideOptions
	// Plain is `tls off`.
	Plain                bool
	PeerPort, ClientPort uint16
	// Heartbeat and Election are etcd's intervals. Quota is the backend quota in bytes, zero for etcd's default.
	Heartbeat, Election time.Duration
	Quota               int64
	// Replace is auto, or manual: then a member that lost its disk waits for a person.
	Replace string
	// Size is the `size` line; zero when all of the cluster's nodes are to be members.
	Size Size
}

// Size is how many of a cluster's nodes are to be members.
type Size struct{ Members, Nodes int }

// String is the size as it is written; empty for none.
func (s Size) String() string {
	if s == (Size{}) {
		return ""
	}
	return fmt.Sprintf("%d of %d", s.Members, s.Nodes)
}

// OutsideOptions say where the member list of a cluster comes from that the rack does not run.
type OutsideOptions struct {
	// Endpoints are client URLs with a port, at least one.
	Endpoints []string
	// CA, Cert and Key are absolute paths, or empty.
	CA, Cert, Key string
	// ID is the etcd cluster ID that is meant, 16 hexadecimal digits, or empty.
	ID string
}

// maxNodes is how many nodes a domain has at most: each has a slot of its own in the zone's serials.
const maxNodes = roster.MaxSlot + 1

// maxNameServers is how many nodes stand in the NS set by default. More name servers do not make a small zone safer,
// and with five the referral still fits a 512-octet answer (RFC 1034 §4.1 asks for at least two).
const maxNameServers = 5

// node returns the line of that name.
func (o *Options) node(name string) (NodeLine, bool) {
	for _, n := range o.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeLine{}, false
}

// cluster returns the options of the cluster with that srv-name.
func (o *Options) cluster(name string) (ClusterOptions, bool) {
	for _, c := range o.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return ClusterOptions{}, false
}

// members returns the nodes of a cluster as initial members with their peer URLs.
func (o *Options) members(cluster string) []srvboot.GenesisMember {
	c, _ := o.cluster(cluster)
	var out []srvboot.GenesisMember
	for _, n := range o.Nodes {
		if n.Cluster == cluster {
			out = append(out, srvboot.GenesisMember{Name: n.Name, PeerURL: o.peerURL(n.roster(0), c)})
		}
	}
	return out
}

// host returns a label's name below the domain, without the trailing dot, as URLs carry it.
func (o *Options) host(label string) string { return label + "." + strings.TrimSuffix(o.Domain, ".") }

// peerURL is exactly the SRV target with its port, so that etcd's comparisons are string-equal and need no DNS.
func (o *Options) peerURL(n roster.Node, c ClusterOptions) string {
	return fmt.Sprintf("%s://%s:%d", c.scheme(), o.host(n.PeerHost()), c.PeerPort)
}

func (o *Options) clientURL(name string, c ClusterOptions) string {
	return fmt.Sprintf("%s://%s:%d", c.scheme(), o.host(name), c.ClientPort)
}

func (c ClusterOptions) scheme() string {
	if c.Plain {
		return "http"
	}
	return "https"
}

// roster returns the line as a node of the roster.
func (n NodeLine) roster(slot int) roster.Node {
	return roster.Node{Name: n.Name, Addrs: n.Addrs, PeerAddrs: n.Peers, Slot: slot}
}

// peerAddrs are the addresses that raft traffic uses.
func (n NodeLine) peerAddrs() []netip.Addr {
	if len(n.Peers) > 0 {
		return n.Peers
	}
	return n.Addrs
}

// Roster returns the part of the zone that the configuration alone decides; no cluster in it is known to be born.
// slot gives each node's fixed number.
func (o *Options) Roster(slot func(name string) int) roster.Roster {
	r := roster.Roster{Domain: o.Domain}
	for _, s := range o.NameServers {
		if !strings.HasSuffix(s.Name, "."+o.Domain) {
			s.Addrs = nil // glue for a name outside the zone is its own zone's to give (RFC 1034 §4.2.1)
		}
		r.NameServers = append(r.NameServers, s)
	}
	for _, n := range o.Nodes {
		r.Nodes = append(r.Nodes, n.roster(slot(n.Name)))
		if len(o.NameServers) == 0 && len(n.Addrs) > 0 && len(r.NameServers) < maxNameServers {
			r.NameServers = append(r.NameServers, roster.NameServer{Name: n.Name + "." + o.Domain})
		}
	}
	for _, c := range o.Clusters {
		r.Clusters = append(r.Clusters, roster.Cluster{Name: c.Name, Plain: c.Plain, Outside: c.Outside != nil})
	}
	return r.Clone()
}

// File returns the path of a file below the data directory.
func (o *Options) File(name string) string { return filepath.Join(o.Data, name) }

// Socket is where the node's own command line reaches it; only root and the node's user may connect.
func (o *Options) Socket() string { return filepath.Join(o.Data, "run", "admin.sock") }
