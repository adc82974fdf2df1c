package member

import (
	"reflect"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// listing dates the member list: it says at which applied index the list was what it is. etcd changes the list before the index of
// that change counts as applied (etcdserver/server.go apply), and a restarted member has the list of its database
// while it still replays older entries. So a list is dated once everything is applied that was committed when it was
// first seen: its own change is among that. The list of before was never dated as late.
type listing struct {
	members []srvboot.MemberEntry
	// from is the applied index from which on members can be dated.
	from uint64
	// database is the index that the database had at the start.
	database uint64
}

// see takes a list, and the highest committed index as read after it.
func (l *listing) see(members []srvboot.MemberEntry, committed uint64) {
	if !reflect.DeepEqual(members, l.members) {
		l.members, l.from = members, max(committed, l.database)
	}
}

// date is the date of the list that was seen last, by the applied index as read before it; 0 while there is none.
func (l *listing) date(applied uint64) uint64 {
	if applied < l.from {
		return 0
	}
	return applied
}
