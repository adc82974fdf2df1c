package member

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

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
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A descriptor of its own for the same socket: the number may be another's by the time that it is ended.
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if at, between := localEnd(own, ports); between {
			if _, known := gone[at]; !known {
				gone[at] = isGone(at)
			}
			if gone[at] {
				_ = unix.Shutdown(own, unix.SHUT_RDWR) // an error says that it has ended by itself
			}
		}
		_ = unix.Close(own)
	}
	return nil
}

// localEnd is this machine's address of a connection with another member; false if the descriptor is none.
func localEnd(fd int, ports []int) (netip.Addr, bool) {
	theirs := remotePort(fd)
	if theirs == 0 {
		return netip.Addr{}, false
	}
	here, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, false
	}
	at := addrPort(here)
	return at.Addr(), at.IsValid() && (slices.Contains(ports, theirs) || slices.Contains(ports, int(at.Port())))
}

// addrPort is the address of an IP socket; the invalid one of another. Zones are left out.
func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch a := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
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
