package node

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/sockets"
)

// ignorePathMTU turns path MTU discovery off for this process's UDP sockets at the addresses given: forged ICMP must not make
// fragments of answers (RFC 9715 §3.1). The front does so for its own; CoreDNS gives no way to those that it opens.
func ignorePathMTU(doors []netip.AddrPort) error {
	return sockets.Each(func(fd int) error {
		if at := sockets.Local(fd); isUDP(fd) && slices.ContainsFunc(doors, func(d netip.AddrPort) bool { return d.Port() == at.Port() && sameHost(d.Addr(), at.Addr()) }) {
			// One of the two is the wrong family's, or both are right; there is no more to be done about an error.
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		}
		return nil
	})
}

func isUDP(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_DGRAM
}

// sameHost takes the wildcards of both families for one.
func sameHost(a, b netip.Addr) bool { return a == b || a.IsUnspecified() && b.IsUnspecified() }
