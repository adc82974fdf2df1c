package parent

import (
	"net"
	"net/netip"
	"slices"
)

// Routed returns those of a host's addresses that this machine has a route to, or all if it has a route to none. Where a
// machine speaks one family alone, a server's address of the other family cannot be asked and says nothing of the server.
// No packet is sent: the kernel looks a route up when a UDP socket is connected.
func Routed(addrs []netip.Addr) []netip.Addr {
	out := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, dnsPort)))
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	})
	if len(out) == 0 {
		return addrs
	}
	return out
}
