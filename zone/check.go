package zone

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

const (
	// maxClusterName keeps "_etcd-server-ssl-" and the name within one label of 63 octets (RFC 1035 §2.3.4).
	maxClusterName = 46
	maxLabel       = 63
	// maxName is the longest text of a name with its trailing dot, 255 octets on the wire (RFC 1035 §2.3.4).
	maxName = 254

	minTTL = time.Second
	maxTTL = time.Hour
)

// refusal is an error about the operator's input, with what to do about it.
type refusal struct{ problem, hint string }

func (e *refusal) Error() string { return e.problem }

// Hint returns a command or an edit that gets rid of the error.
func (e *refusal) Hint() string { return e.hint }

func refuse(hint, format string, args ...any) error {
	return &refusal{problem: fmt.Sprintf(format, args...), hint: hint}
}

// check validates the options and fills in their defaults.
func (o Options) check(domain string) (Options, error) {
	o.Contact = dns.CanonicalName(cmp.Or(o.Contact, "hostmaster."+domain))
	if strings.Contains(o.Contact, "@") {
		return o, refuse("write a dot for the @, hostmaster@example.com is hostmaster.example.com",
			"contact %q is a mail address, expected a domain name", o.Contact)
	}
	if _, ok := dns.IsDomainName(o.Contact); !ok || o.Contact == "." {
		return o, refuse("give a name such as hostmaster.example.com", "contact %q is not a domain name", o.Contact)
	}
	if o.TTL != 0 && (o.TTL < minTTL || o.TTL > maxTTL || o.TTL%time.Second != 0) {
		return o, refuse("ttl 30s", "ttl %v is not whole seconds from %v to %v", o.TTL, minTTL, maxTTL)
	}
	return o, nil
}

func checkDomain(domain string) error {
	if domain == "" || domain == "." || !strings.HasSuffix(domain, ".") {
		return refuse("name the zone in the Corefile, as in rack1.example.com { … }",
			"domain %q is not an absolute name below the root", domain)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(domain, "."), ".") {
		if !hostLabel(label) {
			return refuse("use lower-case letters, digits and hyphens", "domain %q has a label %q that no host name may have", domain, label)
		}
	}
	return nil
}

func checkNode(r roster.Roster, n roster.Node) (errs []error) {
	i, _ := nodeAt(r, n.Name)
	switch {
	case !hostLabel(n.Name):
		errs = append(errs, refuse("use lower-case letters, digits and hyphens, at most 63", "node name %q is not a host label", n.Name))
	case strings.Trim(n.Name, "0123456789") == "":
		errs = append(errs, refuse("begin it with a letter", "node name %q has digits only: etcd names strangers like that", n.Name))
	case i+1 < len(r.Nodes) && r.Nodes[i+1].Name == n.Name:
		errs = append(errs, refuse("give each node a name of its own", "node name %q is taken twice", n.Name))
	}
	if len(n.PeerAddrs) > 0 {
		if _, taken := nodeAt(r, n.PeerHost()); taken || !hostLabel(n.PeerHost()) {
			errs = append(errs, refuse("give the node a name that is not another's with -peer, of at most 58 octets",
				"node %q cannot have peer addresses: the name %q is taken or too long", n.Name, n.PeerHost()))
		}
	}
	if owner, ok := node(r, hostNode(n.Name)); ok && owner.PeerHost() == n.Name && owner.Name != n.Name {
		errs = append(errs, refuse("give each node a name of its own", "node name %q is taken twice, by a node and by the peer addresses of %q", n.Name, owner.Name))
	}
	return append(errs, checkAddrs("node "+n.Name, n.Addrs), checkAddrs("peer of node "+n.Name, n.PeerAddrs))
}

func checkSlots(nodes []roster.Node) (errs []error) {
	var owners [roster.MaxSlot + 1]string
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.Slot == roster.NoSlot:
		case n.Slot < 0 || n.Slot > roster.MaxSlot:
			errs = append(errs, refuse("give the node a free slot", "node %q has slot %d, expected 0 to %d", n.Name, n.Slot, roster.MaxSlot))
		case owners[n.Slot] != "":
			errs = append(errs, refuse("give each node a slot of its own: two contents of the zone would get one serial",
				"nodes %q and %q both have slot %d", owners[n.Slot], n.Name, n.Slot))
		default:
			owners[n.Slot] = n.Name
		}
	}
	return errs
}

func checkAddrs(who string, addrs []netip.Addr) error {
	for _, a := range addrs {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
			return refuse("give a unicast address that the other nodes reach, without a zone", "%s: address %v cannot be published", who, a)
		}
	}
	return nil
}

func checkNameServers(r roster.Roster) (errs []error) {
	if len(r.NameServers) == 0 {
		errs = append(errs, refuse("give two nodes an address, or write ns lines", "the zone %s has no name server", r.Domain))
	}
	seen := map[string]bool{}
	for _, ns := range r.NameServers {
		errs = append(errs, checkNameServer(r, ns), checkAddrs("ns "+ns.Name, ns.Addrs))
		if seen[ns.Name] {
			errs = append(errs, refuse("keep one of the lines", "name server %s is listed twice", ns.Name))
		}
		seen[ns.Name] = true
	}
	return errs
}

func checkNameServer(r roster.Roster, ns roster.NameServer) error {
	if !hostName(ns.Name) {
		return refuse("ns ns1.example.com.", "name server %q is not an absolute, lower-case host name", ns.Name)
	}
	if ns.Name == r.Domain {
		return refuse("name a node, as in ns infra0."+r.Domain, "name server %s is the zone itself, whose addresses follow the members' health", ns.Name)
	}
	if !dns.IsSubDomain(r.Domain, ns.Name) {
		if len(ns.Addrs) > 0 {
			return refuse("ns "+ns.Name, "name server %s lies outside of %s, so its addresses cannot be published here", ns.Name, r.Domain)
		}
		return nil
	}
	addrs, isNode := hostAddrs(r, ns.Name)
	if isNode && len(ns.Addrs) > 0 {
		return refuse("ns "+ns.Name, "name server %s is a node and has its addresses from there", ns.Name)
	}
	if len(addrs) == 0 && len(ns.Addrs) == 0 {
		return refuse("ns "+ns.Name+" ADDRESS, or an address on its node line", "name server %s has no address", ns.Name)
	}
	return nil
}

// hostAddrs returns the addresses of a name that a node owns.
func hostAddrs(r roster.Roster, name string) ([]netip.Addr, bool) {
	label, below := strings.CutSuffix(name, "."+r.Domain)
	if n, ok := node(r, label); below && ok {
		return n.Addrs, true
	}
	if n, ok := node(r, hostNode(label)); below && ok && len(n.PeerAddrs) > 0 && n.PeerHost() == label {
		return n.PeerAddrs, true
	}
	return nil, false
}

// hostNode returns the name of the node that a host label belongs to, if its label is not its name.
func hostNode(label string) string { return strings.TrimSuffix(label, "-peer") }

func checkCluster(r roster.Roster, c roster.Cluster) (errs []error) {
	i, _ := clusterAt(r, c.Name)
	if i+1 < len(r.Clusters) && r.Clusters[i+1].Name == c.Name {
		errs = append(errs, refuse("keep one of the blocks", "cluster %q is listed twice", c.Name))
	}
	if c.Name != "" && (!hostLabel(c.Name) || len(c.Name) > maxClusterName) {
		errs = append(errs, refuse("use lower-case letters, digits and hyphens, at most 46", "cluster name %q is not a host label of at most %d octets", c.Name, maxClusterName))
	}
	if c.Name == "ssl" || strings.HasPrefix(c.Name, "ssl-") {
		errs = append(errs, refuse("choose a name that does not begin with ssl",
			"cluster name %q would collide with the TLS names of another cluster", c.Name))
	}
	if c.Knowledge < roster.Unknown || c.Knowledge > roster.Born {
		errs = append(errs, refuse("report it: etcd-dns made this roster", "cluster %q has knowledge %d", c.Name, int(c.Knowledge)))
	}
	if c.Knowledge != roster.Born {
		return errs
	}
	if len(c.Members) == 0 {
		errs = append(errs, refuse("etcd-dns status", "cluster %q is born and has no members", c.Name))
	}
	seen, hosts := map[string]bool{}, map[string]bool{}
	for _, m := range c.Members {
		errs = append(errs, checkMember(c, m))
		if seen[m.Node] {
			errs = append(errs, refuse("etcd-dns etcdctl member list", "member %q is listed twice in cluster %q", m.Node, c.Name))
		}
		// Whoever runs an outside cluster may have two members on one machine.
		if hosts[m.PeerHost] && !c.Outside {
			errs = append(errs, refuse("etcd-dns etcdctl member list", "two members of cluster %q have the peer host %q", c.Name, m.PeerHost))
		}
		seen[m.Node], hosts[m.PeerHost] = true, true
	}
	return errs
}

func checkMember(c roster.Cluster, m roster.Member) error {
	if c.Outside {
		for _, h := range []string{m.PeerHost, m.ClientLabel()} {
			if name, _ := strings.CutSuffix(h, "."); h != "" && !hostName(name+".") {
				return refuse("report it: etcd-dns made this roster", "member %q of cluster %q has the host %q", m.Node, c.Name, h)
			}
		}
		return nil
	}
	if !hostLabel(m.Node) || !hostLabel(m.PeerHost) {
		return refuse("etcd-dns etcdctl member list", "member %q of cluster %q with peer host %q: not host labels", m.Node, c.Name, m.PeerHost)
	}
	if m.PeerPort == 0 || m.ClientPort == 0 {
		return refuse("etcd-dns etcdctl member list", "member %q of cluster %q has peer port %d and client port %d, expected 1 to 65535", m.Node, c.Name, m.PeerPort, m.ClientPort)
	}
	return nil
}

// tooLong refuses a name that does not fit the wire (RFC 1035 §2.3.4).
func tooLong(name string) error {
	return refuse("choose a shorter domain or cluster name", "the name %s has %d octets, at most %d fit", name, len(name)+1, maxWire)
}

// hostLabel reports whether s is a lower-case label of a host name (RFC 952, RFC 1123 §2.1).
func hostLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// hostName reports whether s is an absolute host name.
func hostName(s string) bool {
	name, absolute := strings.CutSuffix(s, ".")
	if !absolute || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel(label) {
			return false
		}
	}
	return true
}
