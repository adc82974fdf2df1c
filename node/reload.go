package node

import (
	"errors"
	"fmt"
	"slices"
)

// checkReload refuses changes that a running node cannot take. Each names the command that makes the change.
func (n *Node) checkReload(o *Options) error {
	old := n.options()
	if err := o.Override(n.config.Name, n.config.Data); err != nil {
		return err
	}
	line, ok := o.node(n.name)
	cluster, _ := o.cluster(line.Cluster)
	before, _ := old.cluster(n.line.Cluster)
	for _, c := range []struct {
		what     string
		was, now any
		hint     string
	}{
		{"the domain", old.Domain, o.Domain, "a rack keeps its domain; make another one with: etcd-dns init"},
		{"the node line of " + n.name, true, ok, "stop the node and remove its member on another one: etcd-dns member remove " + n.name},
		{"the cluster of " + n.name, n.line.Cluster, line.Cluster, "a node keeps its cluster; make another node line for the other one"},
		{"peer_port", before.PeerPort, cluster.PeerPort, "peer URLs are part of the cluster; replace the members one by one"},
		{"tls", before.Plain, cluster.Plain, "a cluster keeps its scheme; restore a snapshot into a new one"},
		{"data", old.Data, o.Data, "stop the node, move the directory, and start it again"},
		{"admin_port", old.AdminPort, o.AdminPort, "restart every node: systemctl restart etcd-dns"},
		{"gossip_port", old.GossipPort, o.GossipPort, "restart every node: systemctl restart etcd-dns"},
		{"the DNS port", old.DNSPort, o.DNSPort, "restart the node: systemctl restart etcd-dns"},
	} {
		if c.was != c.now {
			return &ConfigError{File: o.Corefile, What: fmt.Sprintf("%s was %v and is now %v, which a reload cannot change", c.what, c.was, c.now), Fix: c.hint}
		}
	}
	for _, c := range n.roster.Load().Clusters {
		if err := o.moves(old, c.Name, c.Members); err != nil && !c.Outside {
			return err
		}
	}
	if was, now := n.line.roster(0).PeerHost(), line.roster(0).PeerHost(); was != now { // what listens and is certified is of the start
		return &ConfigError{File: o.Corefile, Line: line.Line, What: fmt.Sprintf("the peer host of %s was %s and is now %s, which a reload cannot change", n.name, was, now),
			Fix: "restart the node: systemctl restart etcd-dns"}
	}
	return nil
}

// applyOptions takes over the Corefile that serves now. The member is not touched.
func (n *Node) applyOptions(o *Options) {
	old := n.options()
	n.opts.Store(o)
	o.Warnings = append(o.Warnings, n.lineEdits(old, o)...)
	c, _ := o.cluster(n.line.Cluster)
	for _, w := range slices.Concat(o.Warnings, sizeEdit(c.Size, n.boot.Report().State)) { // status has the latter as long as it holds
		n.log.Warn(w)
	}
	n.corefile.Store(nil)
	n.moving.Store(false)
	n.publisher.prompts.send()
	n.transfers.notifier.Changed() // signed or not, and the name servers
	n.certs.Reconcile()
	n.boot.Prompt()
	n.onlooker.Prompt("")
	n.followers.set(o)
	n.tokens.prompts.send()
	n.parent.prompts.send()
	n.keepLastGood(o)
}

// lineEdits says what an edit of the node lines means: nothing is ever removed by it.
func (n *Node) lineEdits(old, now *Options) (out []string) {
	for _, l := range old.Nodes {
		next, kept := now.node(l.Name)
		switch {
		case !kept:
			out = append(out, fmt.Sprintf("the node line of %s is gone; its member and its address stay until: etcd-dns member remove %s", l.Name, l.Name))
		case !slices.Equal(l.Addrs, next.Addrs) || !slices.Equal(l.Peers, next.Peers):
			out = append(out, fmt.Sprintf("the addresses of %s went from %s to %s; it listens on them after: systemctl restart etcd-dns on %s",
				l.Name, l.addresses(), next.addresses(), l.Name))
		}
	}
	return out
}

// addresses are those of the line, for people.
func (n NodeLine) addresses() string {
	all := slices.Concat(n.Addrs, n.Peers)
	if len(n.Addrs) == 0 {
		return fmt.Sprintf("those of the network %v", all)
	}
	return fmt.Sprint(all)
}

// refused notes why a Corefile is not taken. One that moves a member is tried again when the members change.
func (n *Node) refused(err error) {
	n.setCorefileError(err)
	if errors.As(err, new(*movesError)) {
		n.moving.Store(true)
	}
}

func (n *Node) setCorefileError(err error) {
	text := err.Error()
	n.corefile.Store(&text)
}

// corefileError is empty when the Corefile on disk serves.
func (n *Node) corefileError() string {
	if p := n.corefile.Load(); p != nil {
		return *p
	}
	return ""
}
