package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/roster"
)

// addrs are this node's addresses: those of its line or, when that gives none, those of its interfaces at the moment.
func (n *Node) addrs() []netip.Addr { return n.addrsOf(n.line) }

// moves reports whether this node goes where its interfaces' addresses go.
func (n *Node) moves() bool { return len(n.line.Addrs) == 0 }

// awaitOwnPlace waits until the interfaces of a node without an address in the Corefile have one.
func (n *Node) awaitOwnPlace(ctx context.Context) error {
	tick := time.NewTicker(addressPoll)
	defer tick.Stop()
	for told := false; ; told = true {
		if addrs := n.route(); len(addrs) > 0 {
			if missing, err := missingAddrs(addrs); err != nil || len(missing) == 0 {
				n.moveTo(addrs)
				return err
			}
		}
		if !told {
			n.log.Warn("waiting for an address: the node line gives none, and this machine has no route to the others yet")
			n.notify.status("waiting for an address from the network")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// followAddresses sees what happens to the interfaces' addresses, until ctx ends. All of them are in the certificates;
// a node without an address in the Corefile goes where they go.
func (n *Node) followAddresses(ctx context.Context) error {
	tick := time.NewTicker(addressPoll)
	defer tick.Stop()
	local, _ := localAddrs() // the first difference is taken for a change
	var last []netip.Addr
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := localAddrs()
		if err == nil && !slices.Equal(now, local) {
			local = now
			n.certs.Reconcile()
		}
		if !n.moves() {
			continue
		}
		// Twice the same: while an address is renewed, the way to the others may lead elsewhere for a moment.
		next := n.route()
		settled := slices.Equal(next, last)
		last = next
		if !settled || len(next) == 0 || slices.Equal(next, n.addrs()) {
			continue
		}
		if missing, err := missingAddrs(next); err == nil && len(missing) == 0 { // else it is still being announced
			n.moveTo(next)
		}
	}
}

// moveTo makes addrs this node's, and tells everybody. What is bound to all addresses, as the admin port and the
// member's, stays as it is.
func (n *Node) moveTo(addrs []netip.Addr) {
	before := n.addrs()
	n.places.moved(addrs)
	if len(before) == 0 {
		n.log.Info("this node has its address from the network", zap.Stringers("addresses", addrs))
		return
	}
	n.log.Warn("this node's address changed", zap.Stringers("from", before), zap.Stringers("to", addrs))
	n.certs.Reconcile()
	n.peers.forget("") // they come from the old address
	n.publisher.prompts.send()
	n.rumor.moved.send()
	n.rebinds.send()
}

// route returns the addresses from which this machine sends to the other nodes, one a family. The kernel's choice of a
// source is the one choice that follows routes, preferences and renewals alike.
func (n *Node) route() []netip.Addr { return sources(n.options().landmarks(n.name), sourceTo) }

// landmarks are addresses of others that the Corefile gives.
func (o *Options) landmarks(own string) (out []netip.Addr) {
	for _, l := range o.Nodes {
		if l.Name != own {
			out = append(out, l.Addrs...)
		}
	}
	for _, at := range o.Join {
		out = append(out, at.Addr())
	}
	for _, s := range o.NameServers {
		out = append(out, s.Addrs...)
	}
	return out
}

// anywhere stands for the others where the Corefile gives no address at all: addresses for documentation (RFC 5737, RFC
// 3849), to which only the default route leads. Nothing is sent to them.
var anywhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// sources returns the first source address of each family.
func sources(landmarks []netip.Addr, sourceTo func(netip.Addr) (netip.Addr, bool)) (out []netip.Addr) {
	if len(landmarks) == 0 {
		landmarks = anywhere
	}
	for _, to := range landmarks {
		if slices.ContainsFunc(out, func(a netip.Addr) bool { return a.Is4() == to.Is4() }) {
			continue
		}
		if a, ok := sourceTo(to); ok && reachable(a) && !a.IsLoopback() {
			out = append(out, a)
		}
	}
	return roster.OnePerFamily(out)
}

// preferPublic is IPV6_PREFER_SRC_PUBLIC of linux/in6.h (RFC 5014).
const preferPublic = 2

// sourceTo asks the kernel which address it would send from. Connecting a UDP socket sends nothing.
func sourceTo(to netip.Addr) (netip.Addr, bool) {
	d := net.Dialer{Control: func(network, _ string, c syscall.RawConn) error {
		if network != "udp6" {
			return nil
		}
		// A temporary address (RFC 8981) is gone tomorrow. A kernel that does not know the option has no such addresses.
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, preferPublic)
		})
	}}
	const discard = 9 // RFC 863
	conn, err := d.Dial("udp", netip.AddrPortFrom(to, discard).String())
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	a, ok := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP)
	return a.Unmap(), ok
}
