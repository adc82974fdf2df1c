package zone

import (
	"cmp"
	"errors"
	"slices"
	"unsafe"

	"github.com/etcd-dns/etcd-dns/roster"
)

// difference lists the nodes and clusters that are in one of two rosters only or are not the same in both. What was
// changed or taken away is in it as it was.
type difference struct {
	nodes    []roster.Node
	clusters []roster.Cluster
}

func (d difference) empty() bool { return len(d.nodes)+len(d.clusters) == 0 }

// normal reports whether a roster is sorted, as roster.Clone would make it.
func normal(r roster.Roster) bool {
	return slices.IsSortedFunc(r.Nodes, func(a, b roster.Node) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(r.Clusters, func(a, b roster.Cluster) int { return cmp.Compare(a.Name, b.Name) }) &&
		!slices.ContainsFunc(r.Clusters, func(c roster.Cluster) bool {
			return !slices.IsSortedFunc(c.Members, func(a, b roster.Member) int { return cmp.Compare(a.Node, b.Node) })
		})
}

// compare finds the difference of two rosters in normal order, and tells everything that is wrong with the parts of
// the new one that differ.
func compare(was, now roster.Roster) (d difference, err error) {
	var errs []error
	slots := false
	merge(was.Nodes, now.Nodes, func(n *roster.Node) string { return n.Name }, sameNode, func(old, fresh *roster.Node) {
		d.nodes = append(d.nodes, *cmp.Or(old, fresh))
		if fresh != nil {
			errs = append(errs, checkNode(now, *fresh)...)
			slots = slots || fresh.Slot != roster.NoSlot && (old == nil || old.Slot != fresh.Slot)
		}
	})
	if slots {
		errs = append(errs, checkSlots(now.Nodes)...)
	}
	errs = append(errs, checkNameServers(now)...)
	merge(was.Clusters, now.Clusters, func(c *roster.Cluster) string { return c.Name }, sameCluster, func(old, fresh *roster.Cluster) {
		d.clusters = append(d.clusters, *cmp.Or(old, fresh))
		if fresh != nil {
			errs = append(errs, checkCluster(now, *fresh)...)
		}
	})
	return d, errors.Join(errs...)
}

// merge walks two sorted lists and reports what differs: old is nil for what is new, fresh for what is gone. What
// stands twice in now is reported as new.
func merge[T any](was, now []T, key func(*T) string, same func(a, b *T) bool, report func(old, fresh *T)) {
	if len(was) == len(now) && unsafe.SliceData(was) == unsafe.SliceData(now) {
		return // rosters share what did not change
	}
	i, j := 0, 0
	for i < len(was) || j < len(now) {
		switch {
		case j == len(now) || i < len(was) && key(&was[i]) < key(&now[j]):
			report(&was[i], nil)
			i++
		case i == len(was) || key(&now[j]) < key(&was[i]):
			report(nil, &now[j])
			j++
		default:
			if !same(&was[i], &now[j]) {
				report(&was[i], &now[j])
			}
			i, j = i+1, j+1
		}
	}
}

func sameNode(a, b *roster.Node) bool {
	return a.Slot == b.Slot && sameSlice(a.Addrs, b.Addrs) && sameSlice(a.PeerAddrs, b.PeerAddrs)
}

// sameCluster leaves Generation and Index out: the zone does not show them.
func sameCluster(a, b *roster.Cluster) bool {
	return a.Plain == b.Plain && a.Knowledge == b.Knowledge && sameSlice(a.Members, b.Members)
}

func sameSlice[T comparable](a, b []T) bool {
	return len(a) == len(b) && (unsafe.SliceData(a) == unsafe.SliceData(b) || slices.Equal(a, b))
}

// node finds a node of a roster in normal order.
func node(r roster.Roster, name string) (n roster.Node, ok bool) {
	i, ok := nodeAt(r, name)
	if ok {
		n = r.Nodes[i]
	}
	return n, ok
}

func nodeAt(r roster.Roster, name string) (i int, ok bool) {
	return slices.BinarySearchFunc(r.Nodes, name, func(n roster.Node, name string) int { return cmp.Compare(n.Name, name) })
}
