package discovery

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// prefix is protocol 3's.
	prefix = "/_etcd/registry/"
	// Lifetime is how long a token lives, with all that registered. Members that have booted do not need it any longer.
	Lifetime = 7 * 24 * time.Hour
)

var (
	// ErrNoToken is for a token without a size: nobody made it, or it has expired.
	ErrNoToken = errors.New("no such token")
	// ErrNoMember is for an ID that has not registered.
	ErrNoMember = errors.New("no such member")
	// ErrExists is for what has been made before and is not changed: a token's size, a member's registration.
	ErrExists = errors.New("it exists")
	// ErrFull is for a member more than a token's cluster has.
	ErrFull = errors.New("the cluster of this token has all its members")
	// ErrNoRoom is for a token or a registration more than the service or the store has room for.
	ErrNoRoom = errors.New("the discovery service has no room")
)

// Entry is one registration, or a token's size.
type Entry struct {
	// Name is the member's ID in hexadecimal, Value what it registered.
	Name, Value string
	// Created is the revision that it was created at; it is never modified.
	Created int64
}

// Registry keeps tokens in a store. Any number of registries may use one store. It is safe for concurrent use.
type Registry struct {
	etcd  *clientv3.Client
	usage *usage
}

// NewRegistry returns a registry in the store of a client, which stays the caller's.
func NewRegistry(etcd *clientv3.Client) *Registry {
	return &Registry{etcd: etcd, usage: newUsage(etcd)}
}

// Run keeps account of what there is, and takes away what members of expired tokens left, until ctx ends.
func (r *Registry) Run(ctx context.Context) error { return r.usage.run(ctx) }

func sizeKey(token string) string       { return prefix + token + "/_config/size" }
func membersPrefix(token string) string { return prefix + token + "/members/" }
func memberKey(token, id string) string { return membersPrefix(token) + id }

// Create makes a token for a cluster of a size, and says when. ErrExists comes with the size of before.
func (r *Registry) Create(ctx context.Context, token string, size int) (Entry, error) {
	value := strconv.Itoa(size)
	bytes := len(sizeKey(token)) + len(value)
	if err := r.usage.admit(ctx, 1, bytes); err != nil {
		return Entry{}, err
	}
	lease, err := r.etcd.Grant(ctx, int64(Lifetime/time.Second))
	if err != nil {
		r.usage.release(1, bytes)
		return Entry{}, fmt.Errorf("make a token: %w", err)
	}
	e, err := r.create(ctx, sizeKey(token), value, clientv3.WithLease(lease.ID))
	if errors.Is(err, ErrExists) {
		r.usage.release(1, bytes)
	}
	if err != nil {
		// The lease would expire by itself, in a week.
		if _, gone := r.etcd.Revoke(context.WithoutCancel(ctx), lease.ID); gone != nil {
			err = errors.Join(err, gone)
		}
	}
	return e, err
}

// create puts a key that must not exist; with ErrExists comes what is there.
func (r *Registry) create(ctx context.Context, key, value string, opts ...clientv3.OpOption) (Entry, error) {
	resp, err := r.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value, opts...)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return Entry{}, fmt.Errorf("create %s: %w", key, err)
	}
	if !resp.Succeeded {
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
			return entryOf(kvs[0]), ErrExists
		}
		return Entry{}, ErrExists
	}
	return Entry{Name: path.Base(key), Value: value, Created: resp.Header.Revision}, nil
}

func entryOf(kv *mvccpb.KeyValue) Entry {
	return Entry{Name: path.Base(string(kv.Key)), Value: string(kv.Value), Created: kv.CreateRevision}
}

// size reads a token's size, and the lease that its members share; 0 for a token without an end.
func (r *Registry) size(ctx context.Context, token string) (Entry, clientv3.LeaseID, error) {
	resp, err := r.etcd.Get(ctx, sizeKey(token))
	switch {
	case err != nil:
		return Entry{}, 0, fmt.Errorf("read the size of token %s: %w", token, err)
	case len(resp.Kvs) == 0:
		return Entry{}, 0, ErrNoToken
	}
	return entryOf(resp.Kvs[0]), clientv3.LeaseID(resp.Kvs[0].Lease), nil
}

// Size returns the size of a token's cluster, in decimal, or ErrNoToken.
func (r *Registry) Size(ctx context.Context, token string) (Entry, error) {
	e, _, err := r.size(ctx, token)
	return e, err
}

// Members returns all registrations of a token in their order, and the revision of the store that this is true for.
func (r *Registry) Members(ctx context.Context, token string) ([]Entry, int64, error) {
	// Both are read at one revision.
	resp, err := r.etcd.Txn(ctx).Then(clientv3.OpGet(sizeKey(token)),
		clientv3.OpGet(membersPrefix(token), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))).Commit()
	if err != nil {
		return nil, 0, fmt.Errorf("read the members of token %s: %w", token, err)
	}
	if len(resp.Responses[0].GetResponseRange().Kvs) == 0 {
		return nil, 0, ErrNoToken
	}
	var out []Entry
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		out = append(out, entryOf(kv))
	}
	return out, resp.Header.Revision, nil
}

// Member returns one registration.
func (r *Registry) Member(ctx context.Context, token, id string) (Entry, error) {
	resp, err := r.etcd.Get(ctx, memberKey(token, id))
	switch {
	case err != nil:
		return Entry{}, fmt.Errorf("read member %s of token %s: %w", id, token, err)
	case len(resp.Kvs) == 0:
		return Entry{}, ErrNoMember
	}
	return entryOf(resp.Kvs[0]), nil
}

// Register adds a member, once: ErrExists comes with the registration of before. A token takes size members; two that come
// for the last place at once may both get in, and then the order decides, which all see.
func (r *Registry) Register(ctx context.Context, token, id, value string) (Entry, error) {
	size, lease, err := r.size(ctx, token)
	if err != nil {
		return Entry{}, err
	}
	members, _, err := r.Members(ctx, token)
	if err != nil {
		return Entry{}, err
	}
	for _, m := range members {
		if m.Name == id {
			return m, ErrExists
		}
	}
	if n, err := strconv.Atoi(size.Value); err == nil && len(members) >= n {
		return Entry{}, ErrFull
	}
	key := memberKey(token, id)
	if err := r.usage.admit(ctx, 0, len(key)+len(value)); err != nil {
		return Entry{}, err
	}
	if lease == 0 {
		return r.create(ctx, key, value)
	}
	return r.create(ctx, key, value, clientv3.WithLease(lease))
}

// Next waits for the first registration of a token, or with id of that member, that was created at a revision or later.
// It does not matter how long ago: what is read is the state, not the store's history, which gets compacted.
func (r *Registry) Next(ctx context.Context, token, id string, from int64) (Entry, int64, error) {
	for {
		members, at, err := r.Members(ctx, token)
		if err != nil {
			return Entry{}, 0, err
		}
		for _, m := range members {
			if m.Created >= from && (id == "" || m.Name == id) {
				return m, at, nil
			}
		}
		if err := r.changed(ctx, token, at+1); err != nil {
			return Entry{}, 0, err
		}
	}
}

// changed waits for a change of a token's keys from a revision on.
func (r *Registry) changed(ctx context.Context, token string, from int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	resp, ok := <-r.etcd.Watch(ctx, prefix+token+"/", clientv3.WithPrefix(), clientv3.WithRev(from))
	if !ok {
		return context.Cause(ctx)
	}
	// A revision that was compacted meanwhile is a change as well.
	if err := resp.Err(); err != nil && resp.CompactRevision == 0 {
		return fmt.Errorf("watch token %s: %w", token, err)
	}
	return nil
}

// tokenOf returns the token of a key, and whether the key is its size.
func tokenOf(key string) (token string, size bool) {
	token, rest, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return token, rest == "_config/size"
}
