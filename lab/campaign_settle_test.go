//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
// The records may be behind the member list for srvLimit; see lag.
func (c *campaign) settle() error {
	var wrong error
	records := lag{behind: map[string]time.Time{}}
	err := poll(healLimit, func() error {
		if err := c.hear(); err != nil {
			return err
		}
		ids, err := c.members(c.nodes)
		if err != nil {
			return err
		}
		if !c.product {
			return c.readRegisters(c.nodes) // by every member
		}
		names := slices.Sorted(maps.Keys(ids))
		if wrong = c.compare(ids, &records); wrong != nil {
			return nil //nolint:nilerr // no use to wait longer
		}
		if len(records.behind) > 0 || !slices.Equal(names, c.nodes) {
			records.right = time.Time{}
			return fmt.Errorf("the members are %v, want %v; behind are %v", names, c.nodes, slices.Collect(maps.Keys(records.behind)))
		}
		if records.right.IsZero() {
			records.right = time.Now()
		}
		for _, n := range c.nodes {
			if err := c.Healthy(n); err != nil {
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
	if !c.healed.IsZero() {
		c.SRVRight = records.right.Sub(c.healed).Seconds()
	}
	// The client set is about health: on a machine with too few cores a member may be late and leave it for a moment.
	err = poll(healthyLimit, func() error { return c.allSay(c.nodes, c.watch.client, c.targets("client", c.nodes...)) })
	if err != nil {
		return fmt.Errorf("%w: %v after all is well: %w", errDNS, healthyLimit, err)
	}
	return nil
}

// oneContent is an error if the nodes do not come to one serial, with all of them at the domain's own name.
func (c *campaign) oneContent() error {
	var all []string
	for _, n := range c.nodes {
		all = append(all, c.Addr(n))
	}
	slices.Sort(all)
	apex := strings.Join(all, ", ")
	err := poll(healthyLimit, func() error {
		return errors.Join(c.sameSOA(c.nodes), c.allSay(c.nodes, Question{c.Domain, dns.TypeA}, apex))
	})
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

// lag is how far the server records of nodes are behind the member list.
type lag struct {
	// list is the last that was read, and since when it is known; a question about it that has no answer changes nothing.
	list  map[string]uint64
	since time.Time
	// behind is since when nodes answer other than that, right since when none does and the list is as it should be.
	behind map[string]time.Time
	right  time.Time
}

// sees takes a list that was read.
func (l *lag) sees(list map[string]uint64, now time.Time) {
	if !maps.Equal(list, l.list) {
		l.list, l.since, l.right = list, now, time.Time{}
		clear(l.behind)
	}
}

// answers takes whether a node answers as the list says, and returns for how long it has not.
func (l *lag) answers(node string, right bool, now time.Time) time.Duration {
	if right {
		delete(l.behind, node)
		return 0
	}
	if _, ok := l.behind[node]; !ok {
		l.behind[node] = now
	}
	return now.Sub(l.behind[node])
}

// compare is an error if a node's server records have been other than the members for too long.
func (c *campaign) compare(ids map[string]uint64, records *lag) error {
	records.sees(ids, time.Now())
	members := slices.Sorted(maps.Keys(ids))
	for _, n := range c.nodes {
		got := c.Ask(clientHost, c.Addr(n), c.watch.server.Name, dns.TypeSRV)
		late := records.answers(n, got == c.targets("server", members...), time.Now())
		c.SRVLag = max(c.SRVLag, late.Seconds())
		if late > srvLimit {
			return fmt.Errorf("%w: the members have been %v for %v, and %s has not answered so for %v, but %s", errDNS, members,
				time.Since(records.since).Round(time.Millisecond), n, late.Round(time.Millisecond), got)
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
