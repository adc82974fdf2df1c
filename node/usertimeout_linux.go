package node

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout sets TCP_USER_TIMEOUT (tcp(7), RFC 5482) on this process's listening sockets at an address; connections
// inherit it. It covers a peer whose window stays closed.
func setUserTimeout(at netip.AddrPort, d time.Duration) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}
	found := false
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || !listensAt(fd, at) {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())); err != nil {
			return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("set TCP_USER_TIMEOUT: no socket listens at %s", at)
	}
	return nil
}

func listensAt(fd int, at netip.AddrPort) bool {
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v != 1 {
		return false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch sa := name.(type) {
	case *unix.SockaddrInet4:
		return sa.Port == int(at.Port()) && netip.AddrFrom4(sa.Addr) == at.Addr().Unmap()
	case *unix.SockaddrInet6:
		return sa.Port == int(at.Port()) && netip.AddrFrom16(sa.Addr).Unmap() == at.Addr().Unmap().WithZone("")
	}
	return false
}
