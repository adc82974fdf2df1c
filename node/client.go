package node

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// ClientAccess is what a client of this node's cluster needs.
type ClientAccess struct {
	// Endpoints are URLs with addresses, or with host names for nodes whose addresses are not configured.
	Endpoints []string
	Plain     bool
	// Domain and SrvName are what clients discover the cluster by; NameServers are the nodes with addresses, as ADDRESS:PORT.
	Domain, SrvName string
	NameServers     []string
	// CA, Cert and Key are the node's own files; empty for a plain cluster.
	CA, Cert, Key string
}

// Client returns the access to the cluster of this machine's node.
func (o *Options) Client() (ClientAccess, error) {
	name, err := o.OwnName()
	if err != nil {
		return ClientAccess{}, err
	}
	line, ok := o.node(name)
	if !ok {
		return ClientAccess{}, o.noSuchNode(name)
	}
	c, _ := o.cluster(line.Cluster)
	a := ClientAccess{Plain: c.Plain, Domain: o.Domain, SrvName: line.Cluster}
	for _, n := range o.Nodes {
		if len(n.Addrs) > 0 {
			a.NameServers = append(a.NameServers, netip.AddrPortFrom(n.Addrs[0], o.DNSPort).String())
		}
		switch {
		case n.Cluster != line.Cluster:
		case len(n.Addrs) == 0:
			a.Endpoints = append(a.Endpoints, o.clientURL(n.Name, c))
		case n.Addrs[0].Is4():
			a.Endpoints = append(a.Endpoints, fmt.Sprintf("%s://%s:%d", c.scheme(), n.Addrs[0], c.ClientPort))
		default:
			a.Endpoints = append(a.Endpoints, fmt.Sprintf("%s://[%s]:%d", c.scheme(), n.Addrs[0], c.ClientPort))
		}
	}
	dir := filepath.Join(o.Data, "certs")
	a.CA, a.Cert, a.Key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	return a, nil
}

func (o *Options) noSuchNode(name string) error {
	return &usageError{what: fmt.Sprintf("%s has no node line in %s", name, o.Corefile), hint: didYouMean(name, o.names())}
}

// Override lays the command line's --name and --data over the Corefile; empty ones change nothing.
func (o *Options) Override(name, data string) error {
	if name != "" {
		if _, ok := o.node(name); !ok {
			return o.noSuchNode(name)
		}
		o.Name = name
	}
	if data != "" {
		abs, err := filepath.Abs(data)
		if err != nil {
			return fmt.Errorf("find %s: %w", data, err)
		}
		o.Data = abs
	}
	return nil
}
