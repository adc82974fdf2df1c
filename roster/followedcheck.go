package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a followed list. Whoever runs the cluster, or answers in its place, must not fill the zone, the memory and what nodes
// hand each other.
const (
	// maxFollowed is a domain's limit of nodes.
	maxFollowed = MaxSlot + 1
	// maxFollowedURLs are those of one kind of one member: each client URL costs a connection.
	maxFollowedURLs = 8
	// maxFollowedSize is that of a list in JSON, in octets. A node's state holds the lists of all clusters in 1 MiB.
	maxFollowedSize = 32 << 10
)

// Check says why a list cannot be that of an etcd cluster's members, or is beyond the bounds; where it came from does
// not matter.
func (f Followed) Check() error {
	if len(f.Members) == 0 {
		return errors.New("it names no members")
	}
	if n := len(f.Members); n > maxFollowed {
		return fmt.Errorf("its list has %d members, at most %d are followed", n, maxFollowed)
	}
	if !isID(f.ClusterID) {
		return fmt.Errorf("its cluster ID is %.20q, expected 16 hexadecimal digits", f.ClusterID)
	}
	for i, m := range f.Members {
		switch n := max(len(m.PeerURLs), len(m.ClientURLs)); {
		case !isID(m.ID):
			return fmt.Errorf("its list has a member ID %.20q, expected 16 hexadecimal digits", m.ID)
		case i > 0 && m.ID <= f.Members[i-1].ID:
			return fmt.Errorf("its list has the member ID %s twice or out of order", m.ID)
		case n > maxFollowedURLs:
			return fmt.Errorf("its member %s has %d URLs of one kind, at most %d are followed", m.ID, n, maxFollowedURLs)
		}
	}
	text, err := json.Marshal(f)
	if err == nil && len(text) > maxFollowedSize {
		err = fmt.Errorf("its list takes %d octets in JSON, at most %d are followed: shorten its members' names and URLs", len(text), maxFollowedSize)
	}
	return err
}

// isID reports whether s is an ID of etcd's as Followed has it.
func isID(s string) bool { return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == "" }
