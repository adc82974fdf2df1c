// Package sockets reaches the sockets of this process that a library opened and does not hand out.
package sockets

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Each calls do with every descriptor that is open at the moment, by a number of its own: the library's may be another file's by
// the time that something is done with it. The number is closed when do returns. An error of do ends it.
func Each(do func(fd int) error) error {
	entries, err := os.ReadDir("/proc/self/fd") // proc_pid_fd(5)
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue // it is closed
		}
		err = do(own)
		_ = unix.Close(own)
		if err != nil {
			return err
		}
	}
	return nil
}

// Local is where a descriptor is bound; the invalid address if it is no IP socket. Zones are left out.
func Local(fd int) netip.AddrPort { return addrPort(unix.Getsockname(fd)) }

// Remote is the other end of a connection; the invalid address if there is none.
func Remote(fd int) netip.AddrPort { return addrPort(unix.Getpeername(fd)) }

func addrPort(s unix.Sockaddr, err error) netip.AddrPort {
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
