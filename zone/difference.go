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

// compare finds the difference of two rosters, and tells everything that is wrong with the parts of the new one that
// differ. ok is false when the new one is not sorted as roster.Clone does it.
func compare(was, now roster.Roster) (d difference, ok bool, err error) {
	var errs []error
	slots, sorted := false, true
	ok = merge(was.Nodes, now.Nodes, func(n *roster.Node) string { return n.Name }, sameNode, func(old, fresh *roster.Node) {
		d.nodes = append(d.nodes, *cmp.Or(old, fresh))
		if fresh != nil {
			errs = append(errs, checkNode(now, *fresh)...)
			slots = slots || fresh.Slot != roster.NoSlot && (old == nil || old.Slot != fresh.Slot)
		}
	})
	if !ok {
		return d, false, nil
	}
	if slots {
		errs = append(errs, checkSlots(now.Nodes)...)
	}
	errs = append(errs, checkNameServers(now)...)
	ok = merge(was.Clusters, now.Clusters, func(c *roster.Cluster) string { return c.Name }, sameCluster, func(old, fresh *roster.Cluster) {
		d.clusters = append(d.clusters, *cmp.Or(old, fresh))
		if fresh != nil {
			sorted = sorted && slices.IsSortedFunc(fresh.Members, func(a, b roster.Member) int { return cmp.Compare(a.Node, b.Node) })
			errs = append(errs, checkCluster(now, *fresh)...)
		}
	})
	return d, ok && sorted, errors.Join(errs...)
}

// merge walks two sorted lists and reports what differs: old is nil for what is new, fresh for what is gone. What
// stands twice in now is reported as new. It returns false when now is not sorted.
func merge[T any](was, now []T, key func(*T) string, same func(a, b *T) bool, report func(old, fresh *T)) (ok bool) {
	i, j := 0, 0
	for i < len(was) || j < len(now) {
		if n := shared(was[i:], now[j:]); n > 0 {
			i, j = i+n, j+n
			continue
		}
		if j > 0 && j < len(now) && key(&now[j]) < key(&now[j-1]) {
			return false
		}
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
	return true
}

// perBlock is how many list elements are compared at once.
const perBlock = 64

// shared returns how many elements at the beginning of two lists are the same octets, pointers included, in steps of
// a block: a roster shares with the last one what did not change.
func shared[T any](a, b []T) (n int) {
	for n+perBlock <= min(len(a), len(b)) && octets(a[n:]) == octets(b[n:]) {
		n += perBlock
	}
	return n
}

// octets returns a list's first block as it lies in memory.
func octets[T any](list []T) string {
	return unsafe.String((*byte)(unsafe.Pointer(unsafe.SliceData(list))), perBlock*unsafe.Sizeof(list[0]))
}

func sameNode(a, b *roster.Node) bool {
	return a.Slot == b.Slot && sameSlice(a.Addrs, b.Addrs) && sameSlice(a.PeerAddrs, b.PeerAddrs)
}

// sameCluster leaves Generation and Index out: the zone does not show them.
func sameCluster(a, b *roster.Cluster) bool {
	return a.Plain == b.Plain && a.Outside == b.Outside && a.Knowledge == b.Knowledge && sameSlice(a.Members, b.Members)
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

// cluster finds a cluster of a roster in normal order.
func cluster(r roster.Roster, name string) (c roster.Cluster, ok bool) {
	i, ok := clusterAt(r, name)
	if ok {
		c = r.Clusters[i]
	}
	return c, ok
}

func clusterAt(r roster.Roster, name string) (i int, ok bool) {
	return slices.BinarySearchFunc(r.Clusters, name, func(c roster.Cluster, name string) int { return cmp.Compare(c.Name, name) })
}

func nodeAt(r roster.Roster, name string) (i int, ok bool) {
	return slices.BinarySearchFunc(r.Nodes, name, func(n roster.Node, name string) int { return cmp.Compare(n.Name, name) })
}
