package node

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// No UDP socket of a door takes a path's MTU from ICMP, neither the fast path's nor CoreDNS's own.
func TestDoorsIgnorePathMTU(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	s := startServer(t)
	s.mustReload("bind 127.0.0.1 ::1") // CoreDNS keeps one socket, and makes another
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if bound, ok := boundUDP(fd); !ok || bound.Port() != s.port {
			continue
		}
		found++
		v4, _ := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			t.Fatal(err)
		}
		if v4 != unix.IP_PMTUDISC_OMIT {
			t.Errorf("socket %d has IP_MTU_DISCOVER %d", fd, v4)
		}
		if family != unix.AF_INET6 {
			continue
		}
		if v6, _ := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); v6 != unix.IPV6_PMTUDISC_OMIT {
			t.Errorf("socket %d has IPV6_MTU_DISCOVER %d", fd, v6)
		}
	}
	if found < 4 {
		t.Errorf("%d sockets, want the fast path's and CoreDNS's at two addresses", found)
	}
}
