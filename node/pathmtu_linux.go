package node

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// ignorePathMTU turns path MTU discovery off for this process's UDP sockets at the addresses given: forged ICMP must not make
// fragments of answers (RFC 9715 §3.1). The front does so for its own; CoreDNS gives no way to those that it opens, so they
// are looked for among the descriptors. An address without a port that is bound here is passed over.
func ignorePathMTU(doors []netip.AddrPort) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		at, ok := boundUDP(fd)
		if !ok || !slices.ContainsFunc(doors, func(d netip.AddrPort) bool { return d.Port() == at.Port() && sameHost(d.Addr(), at.Addr()) }) {
			continue
		}
		// One of the two is the wrong family's, or both are right; there is no more to be done about an error.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
	}
	return nil
}

// boundUDP returns where a descriptor is bound, if it is a UDP socket.
func boundUDP(fd int) (netip.AddrPort, bool) {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		return netip.AddrPort{}, false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

// sameHost takes the wildcards of both families for one.
func sameHost(a, b netip.Addr) bool { return a == b || a.IsUnspecified() && b.IsUnspecified() }
