//go:build linux

package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// The hosts that are not nodes, and their addresses.
const (
	parentHost   = "parent"
	resolverHost = "resolver"
	clientHost   = "client"
)

var (
	parentAddr   = netip.MustParseAddr("10.0.0.53")
	resolverAddr = netip.MustParseAddr("10.0.0.2")
	clientAddr   = netip.MustParseAddr("10.0.0.7")
)

// host is one machine of the lab.
type host struct {
	name string
	// ns is the network namespace, dir the folder of the host's files.
	ns, dir string
	addr    netip.Addr
	// clock says that the host has a clock of its own, ahead how far that is ahead of the true time, in nanoseconds.
	clock bool
	ahead atomic.Int64
}

// addr6 is the host's IPv6 address: the IPv4 one in the last four groups' place, 10.0.1.10 → fd00::10:0:1:10.
func (h *host) addr6() netip.Addr {
	return netip.MustParseAddr("fd00::" + strings.ReplaceAll(h.addr.String(), ".", ":"))
}

// network is the wires: every host hangs on a router of its own link, the hub, so that any one direction between any
// two hosts can be cut there without either of them noticing anything but silence. The kernel modules that drop packets
// on a bridge or an interface are not everywhere; routing rules are.
type network struct {
	prefix string
	hosts  map[string]*host
	cuts   map[cut]bool
}

// cut is one direction that carries nothing. The zero address stands for everybody.
type cut struct{ from, to netip.Addr }

func (n *network) hub() string { return n.prefix + "-hub" }

func newNetwork(prefix string) (*network, error) {
	n := &network{prefix: prefix, hosts: map[string]*host{}, cuts: map[cut]bool{}}
	if err := ip("netns", "add", n.hub()); err != nil {
		return nil, err
	}
	// /proc/sys/net is that of the thread's own namespace.
	return n, inNetns(n.hub(), func() error {
		err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
		if err == nil && hasIPv6() {
			err = os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
		}
		return err
	})
}

// hasIPv6 says whether this kernel speaks IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// add makes a host and its link.
func (n *network) add(name, dir string, addr netip.Addr) (*host, error) {
	h := &host{name: name, ns: n.prefix + "-" + name, dir: filepath.Join(dir, name), addr: addr}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	if err := ip("netns", "add", h.ns); err != nil {
		return nil, err
	}
	if err := ip("link", "add", "eth0", "netns", h.ns, "type", "veth", "peer", "name", name, "netns", n.hub()); err != nil {
		return nil, err
	}
	inside := []string{
		"link set lo up", "link set eth0 up",
		"addr add " + addr.String() + "/32 dev eth0",
		"route add default via 169.254.0.1 dev eth0 onlink",
	}
	outside := []string{
		"link set lo up", "link set " + name + " up",
		"addr add 169.254.0.1/32 dev " + name,
		"route add " + addr.String() + "/32 dev " + name,
	}
	if hasIPv6() {
		inside = append(inside,
			"addr add "+h.addr6().String()+"/128 dev eth0 nodad",
			"route add default via fe80::1 dev eth0 onlink")
		outside = append(outside,
			"addr add fe80::1/64 dev "+name+" nodad",
			"route add "+h.addr6().String()+"/128 dev "+name)
	}
	if err := ipBatch(h.ns, inside...); err != nil {
		return nil, err
	}
	if err := ipBatch(n.hub(), outside...); err != nil {
		return nil, err
	}
	n.hosts[name] = h
	// A closed port says so each time, not once a second, so that nobody waits for nothing.
	return h, inNetns(h.ns, func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0) })
}

// etc writes a file that the host's processes see in /etc in place of the machine's, which must have one too.
func (h *host) etc(name, text string) error {
	if _, err := os.Stat("/etc/" + name); err != nil {
		return nil //nolint:nilerr // there is no file to mount over, so the host sees none either
	}
	dir := filepath.Join("/etc/netns", h.ns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}

// set makes the hub carry nothing in one direction, or carry it again.
func (n *network) set(c cut, dead bool) error {
	if n.cuts[c] == dead {
		return nil
	}
	n.cuts[c] = dead
	verb := "add"
	if !dead {
		verb = "del"
		delete(n.cuts, c)
	}
	if err := ip(n.rule("-4", verb, c)...); err != nil || !hasIPv6() {
		return err
	}
	return ip(n.rule("-6", verb, cut{n.six(c.from), n.six(c.to)})...)
}

// six finds the IPv6 address of the host that has the IPv4 address a.
func (n *network) six(a netip.Addr) netip.Addr {
	for _, h := range n.hosts {
		if h.addr == a {
			return h.addr6()
		}
	}
	return netip.Addr{}
}

// rule is the command that adds or deletes the hub's routing rule for a cut.
func (n *network) rule(family, verb string, c cut) []string {
	from, to := "all", "all"
	if c.from.IsValid() {
		from = c.from.String()
	}
	if c.to.IsValid() {
		to = c.to.String()
	}
	return []string{"-n", n.hub(), family, "rule", verb, "pref", "100", "from", from, "to", to, "blackhole"}
}

// remove takes everything away again. Every process is killed, so nothing is left that writes into the lab's folder.
func (n *network) remove() error { return removeSpaces(n.prefix) }
