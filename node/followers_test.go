package node

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcd-dns/etcd-dns/follow"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
)

// ownAnd is a roster of three nodes with a cluster of their own, and outside clusters of which nothing is known.
func ownAnd(outside ...string) roster.Roster {
	r := roster.Roster{Domain: "rack1.example.com.", NameServers: []roster.NameServer{{Name: "a.rack1.example.com."}}}
	own := roster.Cluster{Knowledge: roster.Born}
	for i, n := range []string{"a", "b", "c"} {
		r.Nodes = append(r.Nodes, roster.Node{Name: n, Slot: i, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)})}})
		own.Members = append(own.Members, roster.Member{Node: n, PeerHost: n, PeerPort: 2380, ClientPort: 2379, Serving: true})
	}
	r.Clusters = append(r.Clusters, own)
	for _, o := range outside {
		r.Clusters = append(r.Clusters, roster.Cluster{Name: o, Outside: true})
	}
	return r
}

// knowing returns followers that know these lists.
func knowing(t *testing.T, log *zap.Logger, lists map[string]roster.Followed) *followers {
	t.Helper()
	f := newFollowers(log, func() {})
	for name, l := range lists {
		one := follow.New(follow.Options{Cluster: name, File: filepath.Join(t.TempDir(), name), Log: zap.NewNop(), Changed: func() {}})
		one.Learn(l)
		if got, _ := one.List(); !got.Same(l) {
			t.Fatalf("%s: the list is not taken: %+v", name, got)
		}
		f.all[name] = &following{Follower: one}
	}
	return f
}

func listOf(members ...roster.FollowedMember) roster.Followed {
	return roster.Followed{ClusterID: "00000000000000c1", Index: 7, Members: members}
}

func oldMember(id int, name string, serving bool) roster.FollowedMember {
	at := fmt.Sprintf("http://10.0.3.%d:", id)
	return roster.FollowedMember{ID: fmt.Sprintf("%016x", id), Name: name, PeerURLs: []string{at + "2380"}, ClientURLs: []string{at + "2379"}, Serving: serving}
}

// Two blocks about one etcd, members without a name, with a bad one, a node's, or another's: the zone has them all.
func TestFollowedListsCompile(t *testing.T) {
	l := listOf(oldMember(1, "", false), oldMember(2, "Etcd_1", false), oldMember(3, "b", false), oldMember(4, "m0000000000000001", false), oldMember(5, "same", false))
	f := knowing(t, zap.NewNop(), map[string]roster.Followed{"legacy": l, "old": l})
	r, _ := f.publish(ownAnd("legacy", "old"), nil, nil)
	for _, name := range []string{"legacy", "old"} {
		if c, _ := r.Cluster(name); len(c.Members) != len(l.Members) {
			t.Errorf("cluster %s has %d members, want %d; %v", name, len(c.Members), len(l.Members), f.refused)
		}
	}
	if _, err := zone.Compile(r, zone.Options{}, 1); err != nil {
		t.Error(err)
	}
}

// A list that the zone cannot hold costs the names of its cluster alone; status says so, and the log once.
func TestFollowedListThatDoesNotFit(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	f := knowing(t, zap.New(core), map[string]roster.Followed{"legacy": listOf(oldMember(1, "old1", true)), "old": listOf(oldMember(2, "old2", true))})
	bad, trials := "legacy", 0
	f.compile = func(r roster.Roster, _ []dns.RR) error {
		trials++
		if c, _ := r.Cluster(bad); bad == "everything" || c.Knowledge == roster.Born {
			return errors.New("no room")
		}
		return nil
	}
	r := ownAnd("legacy", "old")
	for range 3 {
		out, _ := f.publish(r, nil, nil)
		var born []string
		for _, c := range out.Clusters {
			if c.Knowledge == roster.Born {
				born = append(born, c.Name)
			}
		}
		if !slices.Equal(born, []string{"", "old"}) || len(out.Nodes) != 4 {
			t.Fatalf("published are %q with %d nodes, want the own cluster and old, and 4 nodes", born, len(out.Nodes))
		}
	}
	if _, err := zone.Compile(r, zone.Options{}, 1); err != nil {
		t.Error(err)
	}
	if logs.Len() != 1 || trials != 3 { // of legacy, of the rest, of old
		t.Errorf("%d lines of log, want 1, and %d trials, want 3", logs.Len(), trials)
	}
	s, refused, _ := f.status("legacy")
	problems, _ := othersNews([]ClusterStatus{{SrvName: "legacy", Birth: "unknown", Followed: &FollowedStatus{Refused: refused, Fault: s.Fault}}})
	if want := "the zone cannot answer for cluster legacy, its member list cannot be published: no room"; !slices.Equal(problems, []string{want}) {
		t.Errorf("problems: %q, want %q", problems, want)
	}
	bad = "everything" // no follower is to blame
	if out, _ := f.publish(ownAnd("legacy", "old"), nil, []dns.RR{new(dns.TXT)}); len(out.Nodes) != 5 {
		t.Errorf("%d nodes, want 5: what is wrong without a list is not its fault", len(out.Nodes))
	}
}

// Members that serve are told apart from those that do not.
func TestFollowedWhoServes(t *testing.T) {
	l := listOf(oldMember(1, "old1", true), oldMember(2, "old2", false))
	l.Contact = true
	f := knowing(t, zap.NewNop(), map[string]roster.Followed{"legacy": l})
	_, told := f.publish(ownAnd("legacy"), nil, nil)
	var serving []string
	for _, n := range []string{"old1", "old2", "a"} {
		if told("legacy", n) {
			serving = append(serving, n)
		}
	}
	if strings.Join(serving, " ") != "old1" {
		t.Errorf("%q serve, want old1 alone", serving)
	}
}
