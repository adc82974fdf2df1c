//go:build linux

package lab

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	// addrs are its addresses, at most one of each family. Only the test's own goroutine changes them; others ask at.
	mu    sync.Mutex
	addrs []netip.Addr
	// clock says that the host has a clock of its own, ahead how far that is ahead of the true time, in nanoseconds.
	clock bool
	ahead atomic.Int64
}

// addr6 is the IPv6 address beside an IPv4 one, which stands in the last four groups: 10.0.1.10 → fd00::10:0:1:10.
func addr6(a netip.Addr) netip.Addr {
	return netip.MustParseAddr("fd00::" + strings.ReplaceAll(a.String(), ".", ":"))
}

// The families, as the command ip calls them.
const (
	ipv4 = "-4"
	ipv6 = "-6"
)

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// at is the host's first address now, for goroutines beside the test's.
func (h *host) at() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addrs[0]
}

// in is the host's address of a family; the invalid one if it has none, or if there is no host.
func (h *host) in(family string) netip.Addr {
	if h != nil {
		for _, a := range h.addrs {
			if familyOf(a) == family {
				return a
			}
		}
	}
	return netip.Addr{}
}

// network is the wires: every host hangs on a router of its own link, the hub, so that any one direction between any
// two hosts can be cut there without either of them noticing anything but silence. The kernel modules that drop packets
// on a bridge or an interface are not everywhere; routing rules are.
type network struct {
	prefix string
	hosts  map[string]*host
	// cuts are the present ones with their rules' preferences, and cutsMade how many there ever were.
	cuts     map[cut]int
	cutsMade int
}

// cut is one direction that carries nothing of one family. The zero address stands for everybody.
type cut struct {
	family   string
	from, to netip.Addr
	// transport, udp or tcp, is set if one port alone is cut.
	transport string
	port      int
}

// moved is the cut after a host has another address.
func (c cut) moved(old, to netip.Addr) cut {
	if c.from == old {
		c.from = to
	}
	if c.to == old {
		c.to = to
	}
	return c
}

func (n *network) hub() string { return n.prefix + "-hub" }

func newNetwork(prefix string) (*network, error) {
	n := &network{prefix: prefix, hosts: map[string]*host{}, cuts: map[cut]int{}}
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
func (n *network) add(name, dir string, addrs []netip.Addr) (*host, error) {
	h := &host{name: name, ns: n.prefix + "-" + name, dir: filepath.Join(dir, name), addrs: addrs}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	if err := ip("netns", "add", h.ns); err != nil {
		return nil, err
	}
	if err := ip("link", "add", "eth0", "netns", h.ns, "type", "veth", "peer", "name", name, "netns", n.hub()); err != nil {
		return nil, err
	}
	inside, outside := []string{"link set lo up", "link set eth0 up"}, []string{"link set lo up", "link set " + name + " up"}
	for _, a := range addrs {
		gateway, length, mode := "169.254.0.1", "/32", ""
		if a.Is6() {
			gateway, length, mode = "fe80::1", "/128", " nodad"
		}
		inside = append(inside, "addr add "+a.String()+length+" dev eth0"+mode, "route add default via "+gateway+" dev eth0 onlink")
		outside = append(outside, "addr add "+gateway+length+" dev "+name+mode, "route add "+a.String()+length+" dev "+name)
	}
	if err := ipBatch(h.ns, inside...); err != nil {
		return nil, err
	}
	if err := ipBatch(n.hub(), outside...); err != nil {
		return nil, err
	}
	n.hosts[name] = h
	// A closed port says so each time, not once a second, so that nobody waits for nothing.
	return h, inNetns(h.ns, func() error {
		err := os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0)
		if err == nil && hasIPv6() {
			err = os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0)
		}
		return err
	})
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

// firstPref is the preference of the first cut's rule. Each rule has its own: to the kernel a rule that leaves something open
// is the same as any of its preference that does not, so it would not be added, or another be deleted in its place.
const firstPref = 100

// set makes the hub carry nothing in one direction, or carry it again.
func (n *network) set(c cut, dead bool) error {
	pref, is := n.cuts[c]
	if is == dead {
		return nil
	}
	verb := "del"
	if dead {
		verb, pref = "add", firstPref+n.cutsMade%10000
		n.cutsMade++
		n.cuts[c] = pref
	} else {
		delete(n.cuts, c)
	}
	rule := []string{"-n", n.hub(), c.family, "rule", verb, "pref", strconv.Itoa(pref), "from", orAll(c.from), "to", orAll(c.to)}
	if c.transport != "" {
		rule = append(rule, "ipproto", c.transport, "dport", strconv.Itoa(c.port))
	}
	return ip(append(rule, "blackhole")...)
}

// orAll is an address as a routing rule has it.
func orAll(a netip.Addr) string {
	if !a.IsValid() {
		return "all"
	}
	return a.String()
}

// remove takes everything away again. Every process is killed, so nothing is left that writes into the lab's folder.
func (n *network) remove() error { return removeSpaces(n.prefix) }

// move gives a host another IPv4 address in place of its own, as DHCP might. What is cut stays cut.
func (l *Lab) move(name, addr string) {
	l.t.Helper()
	h, to := l.host(name), netip.MustParseAddr(addr)
	old := h.in(ipv4)
	cuts := slices.Collect(maps.Keys(l.net.cuts))
	for _, c := range cuts {
		if c.from == old || c.to == old {
			l.set(c, false)
		}
	}
	for _, err := range []error{
		ipBatch(h.ns, "addr del "+old.String()+"/32 dev eth0", "addr add "+addr+"/32 dev eth0", "route replace default via 169.254.0.1 dev eth0 onlink"),
		ipBatch(l.net.hub(), "route del "+old.String()+" dev "+name, "route add "+addr+" dev "+name),
	} {
		if err != nil {
			l.t.Fatal(err)
		}
	}
	h.mu.Lock()
	h.addrs[slices.Index(h.addrs, old)] = to
	h.mu.Unlock()
	for _, c := range cuts {
		if c.from == old || c.to == old {
			l.set(c.moved(old, to), true)
		}
	}
}
