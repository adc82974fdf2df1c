package node

import (
	"fmt"
	"strings"
)

// clusterBlock reads `cluster NAME { … }`.
func (p *stanza) clusterBlock(args []string) error {
	if p.cluster != nil || len(args) != 1 {
		return p.errorf("expected cluster NAME { … }", "name the srv-name suffix of one cluster, such as cluster foo { … }")
	}
	name := strings.ToLower(args[0])
	if name != args[0] {
		p.warnf("the cluster name %q is taken as %q", args[0], name)
	}
	if reason := badClusterName(name); reason != "" {
		return p.errorf("%q cannot name a cluster: %s", "use letters, digits and inner hyphens, such as foo", args[0], reason)
	}
	if first, twice := p.blocks[name]; twice {
		return p.errorf("cluster %s stands here and in line %d", "put its nodes into one block", name, first)
	}
	p.blocks[name] = p.Line()
	p.cluster = &ClusterOptions{Name: name}
	for p.NextBlock() {
		word, line := p.Val(), p.Line()
		if err := p.property(); err != nil {
			return err
		}
		p.words = append(p.words, wordAt{word, line})
	}
	if err := p.outside(); err != nil {
		return err
	}
	p.o.Clusters = append(p.o.Clusters, *p.cluster)
	p.cluster = nil
	return nil
}

// maxClusterName keeps _etcd-server-ssl-NAME a label: 63 − len("_etcd-server-ssl-").
const maxClusterName = 46

func badClusterName(s string) string {
	switch {
	case len(s) > maxClusterName:
		return fmt.Sprintf("it has %d octets, and _etcd-server-ssl-NAME must fit a label of 63", len(s))
	case s == "ssl" || strings.HasPrefix(s, "ssl-"):
		return "it would collide with the TLS names of another cluster"
	}
	return badLabel(s)
}
