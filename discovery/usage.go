package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxTokens bounds the tokens of a store.
	MaxTokens = 10_000
	// MaxBytes bounds what they take in all, keys and values, in octets.
	MaxBytes = 16 << 20
	// countEvery is how often the store is looked through at least. Between that a registry counts what it adds itself; what
	// others add, it knows at the next time. It looks again when it has added a part of the limits itself, and near them after
	// nearAfter, so that any number of registries are over by no more than that part each.
	countEvery, nearAfter = time.Minute, time.Second
	addedPart, nearPart   = 100, 10
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
	tokens, bytes int       // guarded by mu
	counted       time.Time // guarded by mu
	// what was added since; guarded by mu
	addedTokens, addedBytes int
	crowded                 string // why the store itself takes no more, or nothing; guarded by mu
	// counting is held by who counts.
	counting chan struct{}
	// orphans are members' tokens that had no size at the last sweep; only that touches it.
	orphans map[string]bool
}

func newUsage(etcd *clientv3.Client) *usage {
	return &usage{etcd: etcd, counting: make(chan struct{}, 1)}
}

func (u *usage) run(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		// A store that does not answer now is asked again; until it was counted once nothing is admitted.
		_ = u.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// admit takes note of what is about to be added, or says why there is no room.
func (u *usage) admit(ctx context.Context, tokens, bytes int) error {
	if err := u.refresh(ctx); err != nil {
		return err
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
	u.addLocked(tokens, bytes)
	return nil
}

// release takes back what was admitted and is known not to have been added.
func (u *usage) release(tokens, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.addLocked(-tokens, -bytes)
}

func (u *usage) addLocked(tokens, bytes int) {
	u.tokens += tokens
	u.bytes += bytes
	u.addedTokens += tokens
	u.addedBytes += bytes
}

// refresh counts if the account is too old to admit by. Who comes meanwhile waits for that count.
func (u *usage) refresh(ctx context.Context) error {
	if !u.stale() {
		return nil
	}
	select {
	case u.counting <- struct{}{}:
		defer func() { <-u.counting }()
	case <-ctx.Done():
		return fmt.Errorf("count the tokens: %w", context.Cause(ctx))
	}
	if !u.stale() { // somebody else has counted
		return nil
	}
	_, err := u.count(ctx)
	return err
}

func (u *usage) stale() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	near := u.tokens > MaxTokens-MaxTokens/nearPart || u.bytes > MaxBytes-MaxBytes/nearPart
	return !u.known || u.addedTokens >= MaxTokens/addedPart || u.addedBytes >= MaxBytes/addedPart || near && time.Since(u.counted) > nearAfter
}

// count looks the store through, and returns the tokens that have members and no size.
func (u *usage) count(ctx context.Context) (orphans map[string]bool, err error) {
	sized, seen, bytes := map[string]bool{}, map[string]bool{}, 0
	for from, end := prefix, clientv3.GetPrefixRangeEnd(prefix); from != ""; {
		resp, err := u.etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page))
		if err != nil {
			return nil, fmt.Errorf("count the tokens: %w", err)
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
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known, u.tokens, u.bytes, u.crowded = true, len(sized), bytes, crowded
	u.counted, u.addedTokens, u.addedBytes = time.Now(), 0, 0
	maps.DeleteFunc(seen, func(token string, _ bool) bool { return sized[token] })
	return seen, nil
}

// sweep counts, and deletes members whose token was gone the last time, too: protocol 3's clients put theirs without the
// token's lease.
func (u *usage) sweep(ctx context.Context) error {
	now, err := u.count(ctx)
	if err != nil {
		return err
	}
	was := u.orphans
	u.orphans = now
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
