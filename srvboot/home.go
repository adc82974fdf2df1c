package srvboot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// Digest names {bundle, srv-name, names and peer URLs of the initial members, size}, as 32 hexadecimal digits. Birth needs
// the same digest on every node, so that no two halves of a rack are born from different configurations.
func (h Home) Digest() string {
	what := []any{h.Bundle, h.SrvName, sortedMembers(h.Initial)}
	if h.Size > 0 {
		what = append(what, h.Size)
	}
	text, err := json.Marshal(what)
	if err != nil {
		return "" // strings always marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// peerURL returns the peer URL that this node's member has or would have, empty when the configuration has no place
// for it.
func (h Home) peerURL() string {
	m, ok := Genesis{Members: h.Admitted}.member(h.Node)
	if !ok {
		m, _ = Genesis{Members: h.Initial}.member(h.Node)
	}
	return m.PeerURL
}

// sortedMembers returns a copy in the order of names.
func sortedMembers(in []GenesisMember) []GenesisMember {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b GenesisMember) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// memberNames returns the names, sorted.
func memberNames(in []GenesisMember) []string {
	names := make([]string, 0, len(in))
	for _, m := range in {
		names = append(names, m.Name)
	}
	return sortedNames(names)
}

// sortedNames returns the names sorted, each once.
func sortedNames(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// without returns the members whose name is not in names.
func without(in []GenesisMember, names []string) []GenesisMember {
	return slices.DeleteFunc(sortedMembers(in), func(m GenesisMember) bool { return slices.Contains(names, m.Name) })
}
