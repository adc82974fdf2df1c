package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxTokens bounds the tokens of a store.
	MaxTokens = 10_000
	// MaxBytes bounds what they take in all, keys and values, in octets.
	MaxBytes = 16 << 20
	// countEvery is how often the store is looked through. Between that a registry counts what it adds itself; what others
	// add, it knows at the next time.
	countEvery = time.Minute
	// page is how many keys are read at a time.
	page = 1000
	// statusWithin bounds a question about the store's space to one member.
	statusWithin = 2 * time.Second
	// quotaPart is which part of the store's space quota may be in use, by anything, for the service to take more. etcd
	// refuses all writes beyond the quota (embed.Config.QuotaBackendBytes), which strangers must not bring about.
	quotaPart = 2
)

// usage is the account of what the tokens take.
type usage struct {
	etcd *clientv3.Client

	mu sync.Mutex
	// known is false until the store has been counted once; guarded by mu.
	known         bool
	tokens, bytes int    // guarded by mu
	crowded       string // why the store itself takes no more, or nothing; guarded by mu
	// orphans are members' tokens that had no size when they were counted.
	orphans map[string]bool
}

func newUsage(etcd *clientv3.Client) *usage { return &usage{etcd: etcd, orphans: map[string]bool{}} }

func (u *usage) run(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		// A store that does not answer now is asked again; until it was counted once nothing is admitted.
		_ = u.count(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// admit takes note of what is about to be added, or says why there is no room.
func (u *usage) admit(ctx context.Context, tokens, bytes int) error {
	u.mu.Lock()
	known := u.known
	u.mu.Unlock()
	if !known {
		if err := u.count(ctx); err != nil {
			return err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.crowded != "":
		return fmt.Errorf("%w: %s", ErrNoRoom, u.crowded)
	case u.tokens+tokens > MaxTokens:
		return fmt.Errorf("%w: there are %d tokens, which is the most", ErrNoRoom, u.tokens)
	case u.bytes+bytes > MaxBytes:
		return fmt.Errorf("%w: the tokens take %d octets, expected %d at most", ErrNoRoom, u.bytes, MaxBytes)
	}
	u.tokens += tokens
	u.bytes += bytes
	return nil
}

// count looks the store through, and deletes members whose token was gone the last time, too: protocol 3's clients put
// theirs without the token's lease.
func (u *usage) count(ctx context.Context) error {
	sized, seen, bytes := map[string]bool{}, map[string]bool{}, 0
	for from, end := prefix, clientv3.GetPrefixRangeEnd(prefix); from != ""; {
		resp, err := u.etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page))
		if err != nil {
			return fmt.Errorf("count the tokens: %w", err)
		}
		from = ""
		for _, kv := range resp.Kvs {
			token, size := tokenOf(string(kv.Key))
			seen[token] = true
			sized[token] = sized[token] || size
			bytes += len(kv.Key) + len(kv.Value)
			if resp.More {
				from = string(kv.Key) + "\x00"
			}
		}
	}
	crowded, err := u.full(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	was := u.orphans
	u.known, u.tokens, u.bytes, u.crowded, u.orphans = true, len(sized), bytes, crowded, map[string]bool{}
	for token := range seen {
		if !sized[token] {
			u.orphans[token] = true
		}
	}
	now := u.orphans
	u.mu.Unlock()
	for token := range now {
		if !was[token] {
			continue
		}
		// Unless somebody has made it meanwhile.
		if _, err := u.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(sizeKey(token)), "=", 0)).
			Then(clientv3.OpDelete(membersPrefix(token), clientv3.WithPrefix())).Commit(); err != nil {
			return fmt.Errorf("delete the members of token %s, which is gone: %w", token, err)
		}
	}
	return nil
}

// full says why the store takes no more, by the first member that answers.
func (u *usage) full(ctx context.Context) (string, error) {
	endpoints := u.etcd.Endpoints()
	if len(endpoints) == 0 {
		endpoints = []string{""} // the client is in the store's own process
	}
	var failed []error
	for _, at := range endpoints {
		status, err := u.status(ctx, at)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if q := status.DbSizeQuota; q > 0 && status.DbSize > q/quotaPart {
			return fmt.Sprintf("the store has %d of %d octets in use, expected half at most", status.DbSize, q), nil
		}
		return "", nil
	}
	return "", errors.Join(failed...)
}

func (u *usage) status(ctx context.Context, at string) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	status, err := u.etcd.Status(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("ask for the size of the store: %w", err)
	}
	return status, nil
}
