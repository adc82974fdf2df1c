//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What may be wrong after faults, as sentinels so that a campaign against stock etcd can count them.
var (
	errLost        = errors.New("an acknowledged write is gone")
	errUnordered   = errors.New("the history is not linearizable")
	errDiverged    = errors.New("members hold different data at one revision")
	errTwoClusters = errors.New("there is not one cluster")
	errUnwell      = errors.New("it is not well again")
	errDNS         = errors.New("DNS was wrong")
	errReplaced    = errors.New("a member was replaced for no reason")
)

// judgeData holds what the clients were told against what the members say: the history of the round is linearizable, and every
// member, asked for its own data and nobody else's, holds every write ever acknowledged and the same as all others. A member
// may need a moment to catch up; it is given that, and no more.
func (c *clients) judgeData(nodes []string, acknowledged map[string]string) error {
	all := c.readRegisters(nodes)
	if err := c.linearizable(); err != nil {
		all = errors.Join(all, fmt.Errorf("%w: %w", errUnordered, err))
	}
	return errors.Join(all, c.held(nodes, acknowledged))
}

// held is the part of judgeData about what the members hold, for which the clients may go on.
func (c *clients) held(nodes []string, acknowledged map[string]string) error {
	revision, err := c.revision(nodes)
	if err != nil {
		return err
	}
	hashes := map[string]uint32{}
	err = c.each(nodes, func(ctx context.Context, m member) error {
		if err := catchUp(ctx, m, revision); err != nil {
			return err
		}
		// Not one that lost the power of its leader to order anything: from its own store.
		held, err := m.Get(ctx, "u/", clientv3.WithPrefix(), clientv3.WithSerializable())
		if err != nil {
			return err
		}
		if err := allHeld(held, acknowledged); err != nil {
			return err
		}
		h, err := m.HashKV(ctx, m.Endpoints()[0], revision)
		if err == nil {
			hashes[m.node] = h.Hash
		}
		return err
	})
	if distinct := slices.Compact(slices.Sorted(maps.Values(hashes))); len(distinct) > 1 {
		err = errors.Join(err, fmt.Errorf("%w: at revision %d the hashes are %v", errDiverged, revision, hashes))
	}
	return err
}

// readRegisters adds a linearizable read of every register at every member to the history, each as soon as it succeeds.
func (c *clients) readRegisters(nodes []string) error {
	return c.each(nodes, func(ctx context.Context, m member) error {
		for n := range registers {
			for {
				err := c.do(m.Client, operation{client: workers, key: c.register(n)})
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					return fmt.Errorf("%w: a linearizable read: %w", errUnwell, err)
				}
			}
		}
		return nil
	})
}

// revision is that of a linearizable read, at whichever member answers.
func (c *clients) revision(nodes []string) (revision int64, err error) {
	err = c.each(nodes, func(ctx context.Context, m member) error {
		r, err := m.Get(ctx, "none")
		if err == nil {
			revision = max(revision, r.Header.Revision)
		}
		return err
	})
	if revision > 0 {
		err = nil
	}
	return revision, err
}

// catchUp waits until a member's own store has a revision.
func catchUp(ctx context.Context, m member, revision int64) error {
	for {
		r, err := m.Get(ctx, "none", clientv3.WithSerializable())
		if err != nil {
			return err
		}
		if r.Header.Revision >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: its own data stays at revision %d, the cluster is at %d", errDiverged, r.Header.Revision, revision)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// allHeld is an error unless all acknowledged writes are there.
func allHeld(held *clientv3.GetResponse, acknowledged map[string]string) error {
	there := map[string]string{}
	for _, kv := range held.Kvs {
		there[string(kv.Key)] = string(kv.Value)
	}
	var lost []string
	for key, value := range acknowledged {
		if there[key] != value {
			lost = append(lost, key)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	return fmt.Errorf("%w: %d of %d: %s", errLost, len(lost), len(acknowledged), strings.Join(lost[:min(len(lost), 10)], " "))
}

// cluster is the cluster ID that all the nodes' members say they are in.
func (c *clients) cluster(nodes []string) (uint64, error) {
	ids := map[uint64][]string{}
	err := c.each(nodes, func(ctx context.Context, m member) error {
		r, err := m.Get(ctx, "none", clientv3.WithSerializable())
		if err == nil {
			ids[r.Header.ClusterId] = append(ids[r.Header.ClusterId], m.node)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(ids) != 1 {
		return 0, fmt.Errorf("%w: %v", errTwoClusters, ids)
	}
	for id := range ids {
		return id, nil
	}
	return 0, nil
}

// members are the member IDs by node, learners among them, by a linearizable list.
func (c *clients) members(nodes []string) (ids map[string]uint64, err error) {
	err = errors.New("no node")
	for _, n := range nodes {
		err = c.each([]string{n}, func(ctx context.Context, m member) error {
			ctx, cancel := context.WithTimeout(ctx, operationLimit)
			defer cancel()
			list, err := m.MemberList(ctx)
			if err != nil {
				return err
			}
			ids = map[string]uint64{}
			for _, m := range list.Members {
				name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(m.PeerURLs[0], "https://"), "http://"), ".")
				if ids[name] != 0 {
					return fmt.Errorf("%w: members %x and %x are both of %s", errReplaced, ids[name], m.ID, name)
				}
				ids[name] = m.ID
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	return ids, err
}
