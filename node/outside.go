package node

import (
	"bytes"
	"context"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// rootZone is the zone whose server block CoreDNS asks for names that no other block has (core/dnsserver/server.go).
const rootZone = "."

// answerOutside has the plugins of a server block answer, at the doors of its keys, for names that no server block there
// has. CoreDNS would refuse these itself: without an extended error, and without asking plugin chaos, as version.bind lies in no
// zone. Where the Corefile has a server block for the root, that one answers.
func answerOutside(c *caddy.Controller) error {
	doors, err := rootDoors(c)
	if err != nil {
		return err
	}
	for i := range c.ServerBlockKeys {
		of := configOf(c, c.ServerBlockIndex, i)
		if at := doorOf(of); !doors[at] {
			doors[at] = true
			// CoreDNS makes a configuration that it is asked for and has not. What a block's configurations have in common it
			// takes from the first, which the copy knows, too.
			more := configOf(c, c.ServerBlockIndex, len(c.ServerBlockKeys)+i)
			*more = *of
			more.Zone = rootZone
			// Several of our blocks may share a door. CoreDNS takes one zone twice if a filter may tell them apart; then the
			// first whose filter passes answers.
			more.FilterFuncs = []dnsserver.FilterFunc{func(context.Context, *request.Request) bool { return true }}
		}
	}
	return nil
}

// transportPort is what a key of a server block says of its doors.
type transportPort struct{ transport, port string }

func doorOf(cfg *dnsserver.Config) transportPort { return transportPort{cfg.Transport, cfg.Port} }

// rootDoors are the doors of the server blocks for the root in the Corefile that is being set up.
func rootDoors(c *caddy.Controller) (map[transportPort]bool, error) {
	all := caddy.Instances()
	in := all[len(all)-1].Caddyfile() // that of the instance which starts comes last
	blocks, err := caddyfile.Parse(in.Path(), bytes.NewReader(in.Body()), Directives())
	if err == nil {
		err = checkNSID(in.Path(), blocks)
	}
	if err != nil {
		return nil, err
	}
	doors := map[transportPort]bool{}
	for i, b := range blocks {
		for j := range b.Keys {
			if cfg := configOf(c, i, j); cfg.Zone == rootZone {
				doors[doorOf(cfg)] = true
			}
		}
	}
	return doors, nil
}

// configOf returns the configuration of a key of a server block.
func configOf(c *caddy.Controller, block, key int) *dnsserver.Config {
	of := *c
	of.ServerBlockIndex, of.ServerBlockKeyIndex = block, key
	return dnsserver.GetConfig(&of)
}

// refusalWriter is the writer of CoreDNS's own UDP sockets. What their listener refuses itself, by the header or since it cannot be
// read, has the bits of the query's header, and would say that this server had validated it, or recurses. RFC 8906 §2: such an AD
// is worse than none.
type refusalWriter struct{ dns.Writer }

// Write sends a packed message.
func (w refusalWriter) Write(b []byte) (int, error) {
	const headerLen, tc, rcode = 12, 0x02, 0x0f
	if len(b) == headerLen || len(b) > headerLen && b[3]&rcode == dns.RcodeFormatError {
		b[2] &^= tc
		b[3] &= rcode
	}
	return w.Writer.Write(b)
}
