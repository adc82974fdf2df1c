package srvboot

import (
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// IDs computes the etcd cluster ID and the member IDs, by name, that a boot as new gives to members with that
// initial-cluster-token, each as 16 hexadecimal digits. etcd hashes the peer URL strings and the token, so the
// result is the same on every node that sees the same set (etcd server/etcdserver/api/membership/member.go).
func IDs(members []GenesisMember, token string) (cluster string, byName map[string]string, err error) {
	urls := types.URLsMap{}
	for _, m := range members {
		u, err := types.NewURLs([]string{m.PeerURL})
		if err != nil {
			return "", nil, fmt.Errorf("peer URL of %s: %w", m.Name, err)
		}
		urls[m.Name] = u
	}
	c, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, urls)
	if err != nil {
		return "", nil, fmt.Errorf("compute the cluster ID: %w", err)
	}
	byName = map[string]string{}
	for _, m := range c.Members() {
		byName[m.Name] = hexID(uint64(m.ID))
	}
	return hexID(uint64(c.ID())), byName, nil
}

// hexID prints an etcd ID in full width, so that IDs compare as strings.
func hexID(id uint64) string { return fmt.Sprintf("%016x", id) }
