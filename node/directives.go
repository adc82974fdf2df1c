package node

import (
	// The plugins that an authoritative server's operator expects. Resolver plugins (forward, cache, loop) are left
	// out: this server answers for its own zone and nothing else.
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/chaos"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/tls"
	_ "github.com/coredns/coredns/plugin/tsig"
)

// pluginName is our directive; etcd is taken by CoreDNS's own plugin.
const pluginName = "etcdsrv"

// Directives are the plugins of a server block in the order in which they see a query. The order is CoreDNS's own
// (core/dnsserver/zdirectives.go), and transfer is our own. etcdsrv answers everything in its zone, so chaos behind it gets what
// is in none: its answers are signed and rate limited like ours.
func Directives() []string {
	return []string{
		"timeouts", "reload", "nsid", "bufsize", "bind", "ready", "health", "prometheus", "errors", "log",
		"tsig", "acl", "tls", transferName, pluginName, "chaos",
	}
}
