package roster

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Followed is the member list of an etcd cluster that the rack does not run, as one of its members told it.
type Followed struct {
	// ClusterID is etcd's, 16 hexadecimal digits. Lists of two clusters have no order.
	ClusterID string `json:"cluster_id"`
	// Generation counts how often the cluster was found to have gone back, by a restore from a snapshot.
	Generation uint64 `json:"generation,omitempty"`
	// Index is a raft index at which the list was the applied one; of two lists of a generation the one with the higher
	// index is newer.
	Index uint64 `json:"index"`
	// Contact says that the sender reaches members of the cluster now, so that its word on who serves counts.
	Contact bool `json:"contact,omitempty"`
	// Members is sorted by ID.
	Members []FollowedMember `json:"members"`
}

// FollowedMember is one member of such a cluster.
type FollowedMember struct {
	// ID is 16 hexadecimal digits. Name is empty until the member has started.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// PeerURLs and ClientURLs are as the member advertises them. There are no client URLs until it has started.
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls,omitempty"`
	Learner    bool     `json:"learner,omitempty"`
	// Serving says that it answers clients now.
	Serving bool `json:"serving,omitempty"`
}

// Same reports whether two lists name the same members with the same URLs, whoever of them serves.
func (f Followed) Same(o Followed) bool {
	return f.ClusterID == o.ClusterID && slices.EqualFunc(f.Members, o.Members, func(a, b FollowedMember) bool {
		return a.ID == b.ID && a.Name == b.Name && a.Learner == b.Learner && slices.Equal(a.PeerURLs, b.PeerURLs) && slices.Equal(a.ClientURLs, b.ClientURLs)
	})
}

// Later reports whether a list of one cluster is newer than another of it.
func (f Followed) Later(o Followed) bool {
	if f.Generation != o.Generation {
		return f.Generation > o.Generation
	}
	return f.Index > o.Index
}

// Follow returns the roster with an outside cluster's members laid over it. An SRV record points to a name: a URL with a
// name keeps it, below the domain or outside of it. A URL with an address gets one below the domain, see nameFor, and the
// roster gets a node of that name and address. What cannot be published is left with port 0. odd says what a person
// should know of.
func (r Roster) Follow(cluster string, f Followed, taken func(label string) bool) (out Roster, odd []string) {
	out = r.normal()
	i := slices.IndexFunc(out.Clusters, func(c Cluster) bool { return c.Name == cluster })
	if i < 0 {
		return out, nil
	}
	c := &out.Clusters[i]
	c.Knowledge, c.Outside, c.Index, c.Members = Born, true, f.Index, nil
	used := out.outsideNames()
	for _, m := range f.Members {
		label := m.nameFor(func(label string) bool { // or it does not fit
			return used[label] || used[label+"-peer"] || taken(label) || taken(label+"-peer") || !isHostName(label+"-peer."+out.Domain)
		})
		used[label], used[label+"-peer"] = true, true
		member, node, why := m.publish(label, out.Domain)
		for _, w := range why {
			odd = append(odd, fmt.Sprintf("member %s of cluster %s %s", cmp.Or(m.Name, m.ID), cluster, w))
		}
		c.Members = append(c.Members, member)
		if len(node.Addrs) > 0 {
			out.Nodes = append(out.Nodes, node)
		}
	}
	return out.normal(), odd
}

// outsideNames are the names that members of outside clusters have.
func (r Roster) outsideNames() map[string]bool {
	used := map[string]bool{}
	for _, c := range r.Clusters {
		for _, m := range c.Members {
			if c.Outside {
				used[m.Node], used[m.Node+"-peer"] = true, true
			}
		}
	}
	return used
}

// nameFor returns the name of the member's node: its own in lower case, mID when that is no host label or taken, and
// else mID-2, mID-3 and so on: a name is taken by one member alone, whatever the lists say, and all nodes that have the
// same lists make the same names.
func (m FollowedMember) nameFor(taken func(label string) bool) string {
	label, fallback := strings.ToLower(m.Name), "m"+m.ID
	if canNameNode(label) && !isFallback(label) && !taken(label) {
		return label
	}
	label = fallback
	for i := 2; taken(label) && i < maxTries; i++ {
		label = fallback + "-" + strconv.Itoa(i)
	}
	return label
}

// maxTries is more than there are names that are taken; below a domain where no name fits there is no end.
const maxTries = 1000

// isFallback reports whether a label has the form of nameFor's for members without a name: those keep theirs, whatever
// another member calls itself.
func isFallback(label string) bool {
	id, ok := strings.CutPrefix(label, "m")
	return ok && len(id) >= 16 && strings.Trim(id[:16], "0123456789abcdef") == ""
}

// maxOutside leaves room for -peer in a label of 63 octets.
const maxOutside = 58

// canNameNode reports whether a node of the roster may have that name.
func canNameNode(label string) bool {
	return isHostLabel(label) && len(label) <= maxOutside && !strings.HasSuffix(label, "-peer") && strings.Trim(label, "0123456789") != ""
}

func (m FollowedMember) publish(label, domain string) (out Member, n Node, odd []string) {
	out = Member{Node: label, Serving: m.Serving && !m.Learner}
	peer, okPeer := firstURL(m.PeerURLs)
	client, okClient := firstURL(m.ClientURLs)
	if !okPeer {
		odd = append(odd, fmt.Sprintf("advertises no peer URL that other machines reach, but %q", m.PeerURLs))
	}
	if !okClient && len(m.ClientURLs) > 0 {
		odd = append(odd, fmt.Sprintf("advertises no client URL that other machines reach, but %q", m.ClientURLs))
	}
	n = Node{Name: label, Slot: NoSlot}
	if okClient {
		out.ClientHost, out.ClientPort, out.PlainClient = client.below(domain), client.port, client.plain
		if client.addr.IsValid() {
			n.Addrs = []netip.Addr{client.addr}
			out.ClientHost = label
		}
	}
	if okPeer {
		out.PeerHost, out.PeerPort, out.PlainPeer = peer.below(domain), peer.port, peer.plain
		switch {
		case !peer.addr.IsValid():
		case len(n.Addrs) == 0:
			n.Addrs = []netip.Addr{peer.addr}
			out.PeerHost = label
		case n.Addrs[0] == peer.addr:
			out.PeerHost = label
		default:
			n.PeerAddrs = []netip.Addr{peer.addr}
			out.PeerHost = n.PeerHost()
		}
	}
	return out, n, odd
}

// place is where a URL points to: an address or else a name, which is absolute.
type place struct {
	addr  netip.Addr
	name  string
	port  uint16
	plain bool
}

// below returns the name in the form of Member.PeerHost.
func (p place) below(domain string) string {
	if label, ok := strings.CutSuffix(p.name, "."+domain); ok {
		return label
	}
	return p.name
}

// firstURL returns the first place that other machines may reach. etcd keeps a member's URLs sorted, so that all nodes
// take the same.
func firstURL(urls []string) (place, bool) {
	for _, text := range urls {
		if p, ok := parsePlace(text); ok {
			return p, true
		}
	}
	return place{}, false
}

// Reachable reports whether a URL that a member advertises may be reached from other machines.
func Reachable(u string) bool { _, ok := parsePlace(u); return ok }

func parsePlace(text string) (p place, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return p, false
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return p, false
	}
	p.port, p.plain = uint16(port), u.Scheme == "http"
	host := strings.ToLower(u.Hostname())
	if a, err := netip.ParseAddr(host); err == nil {
		p.addr = a.Unmap()
		return p, a.Zone() == "" && !p.addr.IsUnspecified() && !p.addr.IsLoopback() && !p.addr.IsMulticast() && !p.addr.IsLinkLocalUnicast()
	}
	p.name = strings.TrimSuffix(host, ".") + "."
	return p, host != "localhost" && isHostName(p.name)
}

// isHostName reports whether an absolute name in lower case is a host's (RFC 1123 §2.1) and fits the wire.
func isHostName(name string) bool {
	if len(name) > 254 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if !isHostLabel(label) {
			return false
		}
	}
	return true
}

func isHostLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && !strings.ContainsFunc(s, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' })
}
