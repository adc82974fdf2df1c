//go:build !linux

package node

import "net/netip"

// ignorePathMTU does nothing: other systems do not take the path's MTU from ICMP for UDP sockets by default.
func ignorePathMTU([]netip.AddrPort) error { return nil }
