package node

import (
	"net"

	"github.com/miekg/dns"
)

// systemNameServer is the first one of /etc/resolv.conf with its port; empty when there is none.
func systemNameServer() string {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(c.Servers) == 0 {
		return ""
	}
	return net.JoinHostPort(c.Servers[0], c.Port)
}
