package node

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/sockets"
)

// No UDP socket of a door takes a path's MTU from ICMP, neither the fast path's nor CoreDNS's own.
func TestDoorsIgnorePathMTU(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	s := startServer(t)
	s.mustReload("bind 127.0.0.1 ::1") // CoreDNS keeps one socket, and makes another
	found := 0
	if err := sockets.Each(func(fd int) error {
		if !isUDP(fd) || sockets.Local(fd).Port() != s.port {
			return nil
		}
		found++
		if v4, _ := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER); v4 != unix.IP_PMTUDISC_OMIT {
			t.Errorf("a socket at %v has IP_MTU_DISCOVER %d", sockets.Local(fd), v4)
		}
		if family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || family != unix.AF_INET6 {
			return err
		}
		if v6, _ := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); v6 != unix.IPV6_PMTUDISC_OMIT {
			t.Errorf("a socket at %v has IPV6_MTU_DISCOVER %d", sockets.Local(fd), v6)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if found < 4 {
		t.Errorf("%d sockets, want the fast path's and CoreDNS's at two addresses", found)
	}
}
