package member

import (
	"testing"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// A list is never dated before its own change, however long etcd takes between changing the list and counting the change.
func TestListing(t *testing.T) {
	list := func(ids ...string) (out []srvboot.MemberEntry) {
		for _, id := range ids {
			out = append(out, srvboot.MemberEntry{ID: id, Name: id, PeerURLs: []string{"https://" + id + ".rack1.example.com:2380"}})
		}
		return out
	}
	three, four := list("a", "b", "c"), list("a", "b", "c", "d")
	type look struct {
		applied   uint64
		members   []srvboot.MemberEntry
		committed uint64
		want      uint64
	}
	for _, c := range []struct {
		name     string
		database uint64
		looks    []look
	}{
		{"idle, and the change is counted late", 0, []look{{10, four, 10, 10}, {10, three, 11, 0}, {10, three, 11, 0}, {10, three, 11, 0}, {11, three, 11, 11}, {11, three, 11, 11}}},
		{"the change is counted at once", 0, []look{{10, four, 10, 10}, {10, three, 11, 0}, {11, three, 11, 11}}},
		{"both between two looks", 0, []look{{10, four, 10, 10}, {11, three, 11, 11}}},
		{"writes come meanwhile", 0, []look{{10, four, 12, 0}, {12, four, 20, 12}, {15, three, 30, 0}, {29, three, 50, 0}, {31, three, 60, 31}}},
		{"two changes", 0, []look{{10, three, 10, 10}, {10, four, 11, 0}, {11, three, 12, 0}, {12, three, 12, 12}}},
		{"a replay behind the database", 40, []look{{0, three, 0, 0}, {3, three, 20, 0}, {20, three, 40, 0}, {40, three, 40, 40}}},
		{"a replay that brings more", 40, []look{{39, three, 45, 0}, {41, four, 45, 0}, {45, four, 45, 45}}},
		{"nothing is applied", 0, []look{{0, three, 0, 0}, {0, three, 0, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := listing{database: c.database}
			for i, k := range c.looks {
				l.see(k.members, k.committed)
				if got := l.date(k.applied); got != k.want {
					t.Errorf("look %d: dated %d, want %d", i, got, k.want)
				}
			}
		})
	}
}
