package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// usageError is an error of the operator's making, with the way out.
type usageError struct {
	what, hint string
	cause      error
}

func (e *usageError) Error() string { return e.what }
func (e *usageError) Hint() string  { return e.hint }
func (e *usageError) Unwrap() error { return e.cause }

// localAddrs lists the addresses of this machine's interfaces.
func localAddrs() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the interface addresses: %w", err)
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// isLocal reports whether addr is on an interface. The whole loopback network counts as its interface's.
func isLocal(addr netip.Addr, local []netip.Prefix) bool {
	return slices.ContainsFunc(local, func(p netip.Prefix) bool {
		return p.Addr().Unmap() == addr || p.Addr().IsLoopback() && p.Contains(addr)
	})
}

// ownName finds which node line this machine is: the `name` line, else the one node whose address is on a local
// interface, else the short host name.
func (o *Options) ownName(local []netip.Prefix, hostname string) (string, error) {
	if o.Name != "" {
		return o.Name, nil
	}
	var mine []string
	for _, n := range o.Nodes {
		if slices.ContainsFunc(append(slices.Clone(n.Addrs), n.Peers...), func(a netip.Addr) bool { return isLocal(a, local) }) {
			mine = append(mine, n.Name)
		}
	}
	if len(mine) > 1 {
		return "", &usageError{
			what: fmt.Sprintf("this machine could be any of %s: each has an address on a local interface", strings.Join(mine, ", ")),
			hint: "etcd-dns run --name " + mine[0] + ", or the line `name " + mine[0] + "` in the Corefile",
		}
	}
	if len(mine) == 1 {
		return mine[0], nil
	}
	short, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	if _, ok := o.node(short); ok {
		return short, nil
	}
	return "", &usageError{
		what: fmt.Sprintf("no node line is this machine: none of the nodes' addresses is on an interface, and its host name %q is not among %s",
			short, strings.Join(o.names(), ", ")),
		hint: "etcd-dns run --name " + o.Nodes[0].Name + ", or check the addresses with: ip -brief address",
	}
}

// OwnName is ownName for this machine.
func (o *Options) OwnName() (string, error) {
	local, err := localAddrs()
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host name: %w", err)
	}
	return o.ownName(local, host)
}

// addressPoll is how often an address that is not up yet is looked for; netlink would be quicker by less than what a
// bond or DHCP takes.
const addressPoll = 250 * time.Millisecond

// awaitAddrs returns once every address can be bound. say is told, once, what is waited for.
func awaitAddrs(ctx context.Context, addrs []netip.Addr, say func(missing []string)) error {
	told := false
	for {
		missing, err := missingAddrs(addrs)
		if err != nil || len(missing) == 0 {
			return err
		}
		if !told {
			say(missing)
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(addressPoll):
		}
	}
}

// missingAddrs tries to bind each address on a port of the kernel's choice, which is the one test that holds for
// bonds, VRFs and tentative IPv6 addresses alike.
func missingAddrs(addrs []netip.Addr) (missing []string, err error) {
	for _, a := range addrs {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		switch {
		case err == nil:
			_ = l.Close()
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			missing = append(missing, a.String())
		default:
			return nil, fmt.Errorf("try the address %s: %w", a, err)
		}
	}
	return missing, nil
}
