package roster

import (
	"net/netip"
	"slices"
)

// Place is where a node is whose address no configuration gives, by its own word.
type Place struct {
	Addrs []netip.Addr `json:"addrs"`
	// Life counts the node's starts, and Moves its changes of address since the last one: together they date the place.
	Life  uint64 `json:"life"`
	Moves uint64 `json:"moves"`
}

// Later reports whether a node was at p after it was at o.
func (p Place) Later(o Place) bool {
	if p.Life != o.Life {
		return p.Life > o.Life
	}
	return p.Moves > o.Moves
}

// Equal reports whether two places are one.
func (p Place) Equal(o Place) bool {
	return p.Life == o.Life && p.Moves == o.Moves && slices.Equal(p.Addrs, o.Addrs)
}

// without returns the place without some addresses. It shares no memory with p.
func (p Place) without(addrs []netip.Addr) Place {
	p.Addrs = slices.DeleteFunc(slices.Clone(p.Addrs), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	return p
}

// Places are where nodes are, by name.
type Places map[string]Place

// Vacate takes addrs from every node for which gone is true: somebody else was met there.
func (p Places) Vacate(addrs []netip.Addr, gone func(name string) bool) {
	for name, at := range p {
		if gone(name) {
			if left := at.without(addrs); len(left.Addrs) < len(at.Addrs) {
				p[name] = left
			}
		}
	}
}
