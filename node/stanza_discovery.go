package node

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/etcd-dns/etcd-dns/discovery"
)

// DiscoveryOptions are the `discovery` block: tokens by which the members of other clusters find each other.
type DiscoveryOptions struct {
	// Listen are where it listens. An unspecified address stands for the node's own ones; one that is no address of this
	// machine is another node's.
	Listen []netip.AddrPort
	// URL is how members reach it, whichever node answers. Plain is `tls off`.
	URL   string
	Plain bool
}

// discoveryWords are what the block may hold, each once.
var discoveryWords = map[string]func(*stanza, *DiscoveryOptions, []string) error{
	"listen": (*stanza).discoveryListen, "url": (*stanza).discoveryURL, "tls": (*stanza).discoveryTLS,
}

// discovery reads `discovery`, or `discovery { … }`.
func (p *stanza) discovery(args []string) error {
	if len(args) != 0 {
		return p.errorf("expected discovery, or discovery { … }", "write the port into the block: listen 8087")
	}
	o := &DiscoveryOptions{}
	seen := map[string]int{}
	// Dispenser.NextBlock takes the lines after a word without a block for one, so the braces are read here.
	if p.NextArg() {
		for p.Next() && p.Val() != "}" {
			if err := p.discoveryWord(o, seen); err != nil {
				return err
			}
		}
	}
	if len(o.Listen) == 0 {
		o.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), discovery.Port)}
	}
	p.o.Discovery = o
	return nil
}

func (p *stanza) discoveryWord(o *DiscoveryOptions, seen map[string]int) error {
	word, line := p.Val(), p.Line()
	read, ok := discoveryWords[word]
	if !ok {
		return p.errorf("unknown property %q of discovery", didYouMean(word, sortedKeys(discoveryWords)), word)
	}
	if first, twice := seen[word]; twice {
		return p.errorf("%s stands here and in line %d", "keep one of the two", word, first)
	}
	seen[word] = line
	args := p.RemainingArgs()
	p.alike("discovery", word, args)
	return read(p, o, args)
}

// discoveryListen reads PORT, or ADDRESS:PORT….
func (p *stanza) discoveryListen(o *DiscoveryOptions, args []string) error {
	if len(args) == 1 {
		if port, err := strconv.ParseUint(args[0], 10, 16); err == nil && port > 0 {
			o.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port))}
			return nil
		}
	}
	for _, a := range args {
		at, err := netip.ParseAddrPort(a)
		if err != nil || at.Port() == 0 || at.Addr().IsMulticast() || at.Addr().Zone() != "" {
			return p.errorf("%q is not a place to listen at", "write a port, such as listen 8087, or ADDRESS:PORT of each node", a)
		}
		o.Listen = append(o.Listen, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	if len(o.Listen) == 0 {
		return p.errorf("listen without a port", "write a port, such as listen 8087, or ADDRESS:PORT of each node")
	}
	return nil
}

func (p *stanza) discoveryURL(o *DiscoveryOptions, args []string) error {
	if len(args) == 1 && discovery.IsServiceURL(args[0]) {
		o.URL = strings.TrimSuffix(args[0], "/")
		return nil
	}
	return p.errorf("%q is not the URL of a service", "write one URL without a path, such as https://rack1.example.com:8087", strings.Join(args, " "))
}

func (p *stanza) discoveryTLS(o *DiscoveryOptions, args []string) error {
	if len(args) != 1 || args[0] != "on" && args[0] != "off" {
		return p.errorf("expected tls on or tls off but got %q", "TLS is on by default; etcd's clients up to 3.6 take the system's roots for discovery", strings.Join(args, " "))
	}
	o.Plain = args[0] == "off"
	return nil
}

// finishDiscovery fills in the URL: the name that every node answers to. The tokens are kept by a cluster of ours.
func (p *stanza) finishDiscovery() error {
	d := p.o.Discovery
	if d == nil {
		return nil
	}
	if d.URL == "" {
		scheme := "https"
		if d.Plain {
			scheme = "http"
		}
		d.URL = scheme + "://" + net.JoinHostPort(strings.TrimSuffix(p.o.Domain, "."), strconv.Itoa(int(d.Listen[0].Port())))
	}
	return nil
}

// tokenCluster is whose etcd keeps the tokens: the cluster without a name, or else the first that the rack runs.
func (o *Options) tokenCluster() ClusterOptions {
	i := slices.IndexFunc(o.Clusters, func(c ClusterOptions) bool { return c.Outside == nil })
	return o.Clusters[i] // there are node lines, so there is one
}
