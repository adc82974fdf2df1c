//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// When a rack under faults is well again, and whether it was right meanwhile.

// hear notes which of the nodes that should answer do so again.
func (c *campaign) hear() error {
	var all error
	if !c.product {
		return nil // its nodes are no name servers
	}
	for _, n := range c.nodes {
		if s := c.states[n]; running(s) && !s.cut && !s.silenced {
			all = errors.Join(all, c.watch.heard(n))
		}
	}
	return all
}

// settle waits until all is well: every node answers, every node has a voter, every node's records say so, and so does its status.
// The records may be behind the member list for srvLimit.
func (c *campaign) settle() error {
	var truth []string
	behind := map[string]time.Time{}
	var wrong error
	err := poll(healLimit, func() error {
		if err := c.hear(); err != nil {
			return err
		}
		names, err := c.membership(c.nodes)
		if err != nil {
			truth = nil
			clear(behind)
			return err
		}
		if !slices.Equal(names, truth) {
			truth = names
			clear(behind)
		}
		if !c.product {
			return c.readRegisters(c.nodes) // by every member
		}
		if wrong = c.compare(truth, behind); wrong != nil {
			return nil //nolint:nilerr // no use to wait longer
		}
		if len(behind) > 0 || !slices.Equal(truth, c.nodes) {
			return fmt.Errorf("the members are %v, want %v; behind are %v", truth, c.nodes, slices.Collect(maps.Keys(behind)))
		}
		for _, n := range c.nodes {
			if err := c.Tool(n, "status").Err(); err != nil {
				return err
			}
		}
		return c.found()
	})
	if wrong != nil {
		return wrong
	}
	if err != nil {
		return fmt.Errorf("%w within %v: %w", errUnwell, healLimit, err)
	}
	if !c.product {
		return nil
	}
	// The client set is about health: on a machine with too few cores a member may be late and leave it for a moment.
	err = poll(healthyLimit, func() error { return c.allSay(c.nodes, c.watch.client, c.targets("client", c.nodes...)) })
	if err != nil {
		return fmt.Errorf("%w: %v after all is well: %w", errDNS, healthyLimit, err)
	}
	return nil
}

// found is an error if a node publishes another address of one that roams.
func (c *campaign) found() error {
	for _, n := range c.nodes {
		for _, r := range c.roaming {
			if got := c.Ask(clientHost, c.Addr(n), r+"."+c.Domain, dns.TypeA); got != c.Addr(r) {
				return fmt.Errorf("%s says that %s is at %s, want %s", n, r, got, c.Addr(r))
			}
		}
	}
	return nil
}

// compare is an error if a node's server records have been other than the members for too long. It keeps since when in behind.
func (c *campaign) compare(members []string, behind map[string]time.Time) error {
	for _, n := range c.nodes {
		got := c.Ask(clientHost, c.Addr(n), c.watch.server.Name, dns.TypeSRV)
		now := time.Now()
		if got == c.targets("server", members...) {
			delete(behind, n)
			continue
		}
		if _, ok := behind[n]; !ok {
			behind[n] = now
		}
		lag := now.Sub(behind[n])
		c.SRVLag = max(c.SRVLag, lag.Seconds())
		if lag > srvLimit {
			return fmt.Errorf("%w: the members have been %v for %v, and %s still answers %s", errDNS, members, lag.Round(time.Millisecond), n, got)
		}
	}
	return nil
}

// judge looks at what the clients and the watcher saw.
func (c *campaign) judge() error {
	for k, v := range c.record.acknowledged("u/") {
		c.acknowledged[k] = v
	}
	c.Acked, c.Reads, c.Uncertain = c.counts()
	err := c.judgeData(c.nodes, c.acknowledged)
	id, e := c.cluster(c.nodes)
	if e == nil && id != c.id {
		e = fmt.Errorf("%w: it is %x now and was %x", errTwoClusters, id, c.id)
	}
	err = errors.Join(err, e)
	if !c.product {
		return err
	}
	for _, n := range c.nodes {
		for _, q := range []Question{c.watch.server, c.watch.client} {
			for _, s := range c.watch.Sequence(n, q) {
				c.DNS += s.Count
			}
		}
	}
	return errors.Join(err, c.watch.judge(c.nodes))
}
