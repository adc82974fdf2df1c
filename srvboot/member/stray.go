package member

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/sockets"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// endStray ends the connections with other members that come from, or to, an address which this machine has no more: nothing
// gets there or back, and etcd would wait for them until they are probed. It dials again at once, from the address of now.
// isGone is asked once about each address.
func endStray(members []srvboot.MemberEntry, isGone func(netip.Addr) bool) error {
	if len(members) < 2 {
		return nil
	}
	ports, gone := peerPorts(members), map[netip.Addr]bool{}
	return sockets.Each(func(fd int) error {
		here, there := sockets.Local(fd), sockets.Remote(fd)
		if !there.IsValid() || !slices.Contains(ports, int(there.Port())) && !slices.Contains(ports, int(here.Port())) {
			return nil
		}
		at := here.Addr()
		if _, known := gone[at]; !known {
			gone[at] = isGone(at)
		}
		if gone[at] {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR) // an error says that it has ended by itself
		}
		return nil
	})
}

// isGone reports whether nobody can listen at an address any more, which is the one test that holds for all that may make
// an address this machine's.
func isGone(a netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, unix.EADDRNOTAVAIL)
}
