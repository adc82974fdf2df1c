//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Options say what kind of rack to build. The zero value is the guide's: three TLS nodes at rack1.example.com.
type Options struct {
	// Nodes is how many nodes infra0, infra1 … there are, 3 unless set.
	Nodes int
	// Later is how many more nodes there are that init does not know; the test gives them their lines.
	Later int
	// Domain is the discovery domain, a name below example.com; rack1.example.com unless set.
	Domain string
	// SrvName is the name of the cluster, empty for the default one.
	SrvName string
	// Foo is how many of the nodes, the last ones, are in the cluster foo instead.
	Foo int
	// Plain makes a cluster without TLS.
	Plain bool
	// IPv6 makes parent, resolver and nodes known by an IPv6 address as well. IPv6Only gives no host an IPv4 one.
	IPv6, IPv6Only bool
	// Clocks gives each node a clock that SetClock sets.
	Clocks bool
	// Init are more arguments for etcd-dns init.
	Init []string
	// Edit, when set, changes the Corefile that init wrote, for one node.
	Edit func(node, corefile string) string
}

// Lab is one rack with its parent, resolver and client. Its methods fail the test that made it; those that only look
// (Query, Result, Log, Sequence) may be called from any goroutine.
type Lab struct {
	t testing.TB
	Options
	dir    string
	net    *network
	nodes  map[string]*node
	names  []string
	flavor flavor
	// parent is NSD; serial that of example.com.
	parent *process
	serial uint32
}

// flavor is what runs on the nodes: the product, or the stand-in that the lab proves itself with.
type flavor interface {
	// prepare writes the configuration of every node and returns the records for the parent zone.
	prepare(l *Lab) (records string)
	// argv is the command that runs the node n, env more of its environment.
	argv(l *Lab, n *node) (argv, env []string)
}

// labs numbers the labs of this process.
var labs atomic.Int64

// New builds a lab around the product: the nodes are initialized and delegated to, and stopped. It is gone, with
// every process in it, when the test ends.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	need(t)
	bin := product
	if o.Clocks {
		bin = clockedProduct
	}
	return build(t, o, &productFlavor{bin: needProduct(t, bin)})
}

func build(t testing.TB, o Options, f flavor) *Lab {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Domain == "" {
		o.Domain = "rack1.example.com"
	}
	l := &Lab{t: t, Options: o, nodes: map[string]*node{}, flavor: f}
	prefix := fmt.Sprintf("%s-%d", processName(), labs.Add(1))
	l.dir = filepath.Join(processDir(), prefix)
	t.Cleanup(l.close)
	var err error
	if l.net, err = newNetwork(prefix); err != nil {
		t.Fatal(err)
	}
	if (o.IPv6 || o.IPv6Only) && !hasIPv6() {
		unable(t, "this kernel speaks no IPv6")
	}
	l.addHosts()
	l.serveParent(f.prepare(l))
	l.startResolver()
	return l
}

// addHosts makes every host with its resolver configuration.
func (l *Lab) addHosts() {
	l.t.Helper()
	l.addHost(parentHost, parentAddr)
	l.addHost(resolverHost, resolverAddr)
	l.addHost(clientHost, clientAddr)
	for i := range l.Nodes + l.Later {
		name := fmt.Sprintf("infra%d", i)
		h := l.addHost(name, netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)}))
		l.names = append(l.names, name)
		l.nodes[name] = &node{host: h}
		if l.Clocks {
			if err := h.addClock(); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

// addHost makes a host with an address and, unless that is one of IPv6, the IPv6 one that goes with it; in a lab of IPv6
// with the latter alone.
func (l *Lab) addHost(name string, addr netip.Addr) *host {
	l.t.Helper()
	h, err := l.net.add(name, l.dir, l.addresses(addr))
	resolvConf := ""
	for _, a := range l.known(l.addresses(resolverAddr)) {
		resolvConf += "nameserver " + a.String() + "\n"
	}
	for file, text := range map[string]string{
		"resolv.conf":   resolvConf,
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"nsswitch.conf": "hosts: files dns\n",
		"machine-id":    fmt.Sprintf("%032x\n", addr.AsSlice()),
	} {
		if err == nil {
			err = h.etc(file, text)
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

// addresses are those of a host's interface.
func (l *Lab) addresses(addr netip.Addr) []netip.Addr {
	switch {
	case addr.Is6():
		return []netip.Addr{addr}
	case l.IPv6Only:
		return []netip.Addr{addr6(addr)}
	case hasIPv6():
		return []netip.Addr{addr, addr6(addr)}
	}
	return []netip.Addr{addr}
}

func (l *Lab) host(name string) *host {
	h := l.net.hosts[name]
	if h == nil {
		panic("lab: no host " + name)
	}
	return h
}

// close ends the lab. When the test failed it first shows what every node said last.
func (l *Lab) close() {
	if l.net == nil {
		return
	}
	if l.t.Failed() {
		for _, n := range l.names {
			log := without(without(l.Log(n), `"logger":"etcd"`), historyAddr.String()+":")
			l.t.Logf("the end of %s's log, etcd's own lines and the history's transfers left out:\n%s", n, tail(log, 40))
		}
	}
	if err := l.net.remove(); err != nil {
		l.t.Error(err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		l.t.Error(err)
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// without leaves out the lines that contain the text.
func without(text, drop string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, drop) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Cut makes a and b deaf to each other: packets are lost without a word, as on a broken wire.
func (l *Lab) Cut(a, b string) {
	l.t.Helper()
	l.CutFrom(a, b)
	l.CutFrom(b, a)
}

// CutFrom loses what a sends to b, and nothing that b sends to a.
func (l *Lab) CutFrom(a, b string) {
	l.t.Helper()
	l.setCut(l.host(a), l.host(b), true)
}

// Heal ends what Cut and CutFrom did between a and b.
func (l *Lab) Heal(a, b string) {
	l.t.Helper()
	l.setCut(l.host(a), l.host(b), false)
	l.setCut(l.host(b), l.host(a), false)
}

// CutNode pulls the host's only cable; HealNode plugs it in again.
func (l *Lab) CutNode(name string) {
	l.t.Helper()
	l.setCut(l.host(name), nil, true)
	l.setCut(nil, l.host(name), true)
}

// HealNode ends what CutNode did.
func (l *Lab) HealNode(name string) {
	l.t.Helper()
	l.setCut(l.host(name), nil, false)
	l.setCut(nil, l.host(name), false)
}

// BlockDNS loses all queries to a node, as a firewall does that has forgotten port 53, and nothing else; UnblockDNS ends that.
func (l *Lab) BlockDNS(name string) {
	l.t.Helper()
	l.setBoth(name, 53, true)
}

// UnblockDNS ends what BlockDNS did.
func (l *Lab) UnblockDNS(name string) {
	l.t.Helper()
	l.setBoth(name, 53, false)
}

// setBoth loses, or no longer loses, what is sent to a port of a node over UDP and TCP.
func (l *Lab) setBoth(name string, port int, dead bool) {
	l.t.Helper()
	for _, transport := range []string{"udp", "tcp"} {
		l.setPort(name, transport, port, dead)
	}
}

// BlockTCP loses what is sent to one TCP port of a node, from everybody else; what the node itself asks of others is answered.
// UnblockTCP ends that.
func (l *Lab) BlockTCP(name string, port int) {
	l.t.Helper()
	l.setPort(name, "tcp", port, true)
}

// UnblockTCP ends what BlockTCP did.
func (l *Lab) UnblockTCP(name string, port int) {
	l.t.Helper()
	l.setPort(name, "tcp", port, false)
}

func (l *Lab) setPort(name, transport string, port int, dead bool) {
	l.t.Helper()
	for _, a := range l.host(name).addrs {
		l.set(cut{family: familyOf(a), to: a, transport: transport, port: port}, dead)
	}
}

// CutFamily makes the hub carry nothing of one family, ipv4 or ipv6; HealFamily ends that.
func (l *Lab) CutFamily(family string) {
	l.t.Helper()
	l.set(cut{family: family}, true)
}

// HealFamily ends what CutFamily did.
func (l *Lab) HealFamily(family string) {
	l.t.Helper()
	l.set(cut{family: family}, false)
}

// setCut cuts or heals one direction in every family; nil stands for everybody.
func (l *Lab) setCut(from, to *host, dead bool) {
	l.t.Helper()
	for _, family := range []string{ipv4, ipv6} {
		c := cut{family: family, from: from.in(family), to: to.in(family)}
		if c.from.IsValid() == (from != nil) && c.to.IsValid() == (to != nil) {
			l.set(c, dead)
		}
	}
}

func (l *Lab) set(c cut, dead bool) {
	l.t.Helper()
	if err := l.net.set(c, dead); err != nil {
		l.t.Fatal(err)
	}
}

// Wait asks cond again and again until it returns nil, and fails the test with its last error after the time given.
func (l *Lab) Wait(what string, within time.Duration, cond func() error) {
	l.t.Helper()
	if err := poll(within, cond); err != nil {
		l.t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

func poll(within time.Duration, cond func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		began := time.Now()
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(max(pollEvery, 2*time.Since(began)), pollSeldom)):
		}
	}
}

// A condition is looked at after pollEvery, or after twice as long as the look took, but pollSeldom at most: many start a program for
// each look, and racks that wait would leave no processor to those that work.
const pollEvery, pollSeldom = 50 * time.Millisecond, 250 * time.Millisecond

// Holds asks cond again and again, as Wait does, for the time given and fails the test as soon as it returns an error: it shows that
// something does not happen.
func (l *Lab) Holds(what string, during time.Duration, cond func() error) {
	l.t.Helper()
	var broken error
	_ = poll(during, func() error {
		if broken = cond(); broken != nil {
			return nil //nolint:nilerr // a broken condition ends the poll
		}
		return errors.New("holds so far")
	})
	if broken != nil {
		l.t.Fatalf("%s: %v", what, broken)
	}
}

// Names are the nodes, infra0 first.
func (l *Lab) Names() []string { return slices.Clone(l.names) }

// Addr is the address of the host called name: the IPv4 one if it has one.
func (l *Lab) Addr(name string) string { return l.host(name).at().String() }

// Addrs are the addresses that others know the host by, see Options.
func (l *Lab) Addrs(name string) (out []string) {
	for _, a := range l.known(l.host(name).addrs) {
		out = append(out, a.String())
	}
	return out
}

// known leaves out what nobody is told of: hosts have IPv6 addresses in racks that do not speak IPv6, too.
func (l *Lab) known(addrs []netip.Addr) []netip.Addr {
	if l.IPv6 {
		return addrs
	}
	return addrs[:1]
}

// errorf makes the errors of conditions, which nobody looks into.
func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }
