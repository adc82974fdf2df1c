package roster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const testID = "00000000000000a1"

func outside(members ...FollowedMember) (Roster, Followed) {
	r := static()
	r.Clusters = append(r.Clusters, Cluster{Name: "old", Outside: true})
	return r, Followed{ClusterID: "c1", Index: 7, Members: members}
}

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name string
		in   FollowedMember
		want Member
		node Node
		odd  string
	}{
		{"addresses, plain", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://10.0.9.1:2380"}, ClientURLs: []string{"http://10.0.9.1:2379"}, Serving: true},
			Member{Node: "etcd1", PeerHost: "etcd1", PeerPort: 2380, ClientHost: "etcd1", ClientPort: 2379, Serving: true, PlainPeer: true, PlainClient: true},
			Node{Name: "etcd1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}, Slot: NoSlot}, ""},
		{"two addresses", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"https://10.9.0.1:2380"}, ClientURLs: []string{"https://[fd00::1]:2379"}},
			Member{Node: "etcd1", PeerHost: "etcd1-peer", PeerPort: 2380, ClientHost: "etcd1", ClientPort: 2379},
			Node{Name: "etcd1", Addrs: []netip.Addr{netip.MustParseAddr("fd00::1")}, PeerAddrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}, Slot: NoSlot}, ""},
		{"a name outside", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"https://E1.example.NET:2380"}, ClientURLs: []string{"https://e1.example.net.:2379"}},
			Member{Node: "etcd1", PeerHost: "e1.example.net.", PeerPort: 2380, ClientHost: "e1.example.net.", ClientPort: 2379}, Node{}, ""},
		{"a numeric label in a name outside", FollowedMember{ID: testID, Name: "7", PeerURLs: []string{"https://7.example.net:2380"}, ClientURLs: []string{"https://e-peer.example.net:2379"}},
			Member{Node: "m" + testID, PeerHost: "7.example.net.", PeerPort: 2380, ClientHost: "e-peer.example.net.", ClientPort: 2379}, Node{}, ""},
		{"names in the domain", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"https://old1.rack1.example.com:2380"}, ClientURLs: []string{"https://x.old1.rack1.example.com:2379"}},
			Member{Node: "etcd1", PeerHost: "old1", PeerPort: 2380, ClientHost: "x.old1", ClientPort: 2379}, Node{}, ""},
		{"a peer's address and a client's name", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://10.0.9.1:2380"}, ClientURLs: []string{"https://e1.example.net:2379"}},
			Member{Node: "etcd1", PeerHost: "etcd1", PeerPort: 2380, ClientHost: "e1.example.net.", ClientPort: 2379, PlainPeer: true},
			Node{Name: "etcd1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}, Slot: NoSlot}, ""},
		{"not started", FollowedMember{ID: testID, PeerURLs: []string{"http://10.0.9.1:2380"}},
			Member{Node: "m" + testID, PeerHost: "m" + testID, PeerPort: 2380, PlainPeer: true},
			Node{Name: "m" + testID, Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}, Slot: NoSlot}, ""},
		{"a learner serves nobody", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://e1.example.net:2380"}, ClientURLs: []string{"http://e1.example.net:2379"}, Learner: true, Serving: true},
			Member{Node: "etcd1", PeerHost: "e1.example.net.", PeerPort: 2380, ClientHost: "e1.example.net.", ClientPort: 2379, PlainPeer: true, PlainClient: true}, Node{}, ""},
		{"a client URL of its own machine", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://e1.example.net:2380"}, ClientURLs: []string{"http://localhost:2379"}},
			Member{Node: "etcd1", PeerHost: "e1.example.net.", PeerPort: 2380, PlainPeer: true}, Node{}, "member etcd1 of cluster old advertises no client URL"},
		{"the second client URL", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://e1.example.net:2380"}, ClientURLs: []string{"http://127.0.0.1:2379", "http://e1.example.net:2379"}},
			Member{Node: "etcd1", PeerHost: "e1.example.net.", PeerPort: 2380, ClientHost: "e1.example.net.", ClientPort: 2379, PlainPeer: true, PlainClient: true}, Node{}, ""},
		{"a peer URL of its own machine", FollowedMember{ID: testID, Name: "etcd1", PeerURLs: []string{"http://localhost:2380"}},
			Member{Node: "etcd1"}, Node{}, "advertises no peer URL"},
		{"a node's name", FollowedMember{ID: testID, Name: "a", PeerURLs: []string{"http://10.0.9.1:2380"}},
			Member{Node: "m" + testID, PeerHost: "m" + testID, PeerPort: 2380, PlainPeer: true},
			Node{Name: "m" + testID, Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}, Slot: NoSlot}, ""},
		{"a name that no host has", FollowedMember{ID: testID, Name: "My_Etcd", PeerURLs: []string{"http://10.0.9.1:2380"}},
			Member{Node: "m" + testID, PeerHost: "m" + testID, PeerPort: 2380, PlainPeer: true},
			Node{Name: "m" + testID, Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}, Slot: NoSlot}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, f := outside(c.in)
			out, odd := r.Follow("old", f, func(label string) bool { _, ok := r.Node(label); return ok })
			got, _ := out.Cluster("old")
			if got.Knowledge != Born || !got.Outside || len(got.Members) != 1 || got.Members[0] != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
			node, ok := out.Node(c.want.Node)
			if want := c.node.Name != ""; ok != want || ok && (!slices.Equal(node.Addrs, c.node.Addrs) || !slices.Equal(node.PeerAddrs, c.node.PeerAddrs) || node.Slot != NoSlot) {
				t.Errorf("node %+v (%v), want %+v", node, ok, c.node)
			}
			if text := strings.Join(odd, "; "); !strings.Contains(text, c.odd) || c.odd == "" && text != "" {
				t.Errorf("odd: %q, want %q", text, c.odd)
			}
		})
	}
}

// Two members of one name, which etcd allows, get two.
func TestFollowTellsNamesakesApart(t *testing.T) {
	r, f := outside(FollowedMember{ID: testID, Name: "default", PeerURLs: []string{"http://10.0.9.1:2380"}}, FollowedMember{ID: "00000000000000a2", Name: "default", PeerURLs: []string{"http://10.0.9.2:2380"}})
	out, _ := r.Follow("old", f, func(string) bool { return false })
	c, _ := out.Cluster("old")
	if got := names(c); !slices.Equal(got, []string{"default", "m00000000000000a2"}) {
		t.Errorf("got %v", got)
	}
	if len(r.Nodes)+2 != len(out.Nodes) {
		t.Errorf("%d nodes, want two more than %d", len(out.Nodes), len(r.Nodes))
	}
}

// Whatever two lists say, and also when two blocks are about one cluster, each member has a name that is its own.
func TestFollowMakesUniqueNames(t *testing.T) {
	const a1, a2, a3 = testID, "00000000000000a2", "00000000000000a3"
	unnamed := func(id, addr string) FollowedMember {
		return FollowedMember{ID: id, PeerURLs: []string{"http://" + addr + ":2380"}}
	}
	named := func(id, name, addr string) FollowedMember {
		m := unnamed(id, addr)
		m.Name = name
		return m
	}
	outsideName := named(a1, "etcd1", "10.0.9.1")
	outsideName.PeerURLs = []string{"http://etcd1.example.net:2380"}
	long := strings.Repeat("x", 58)
	for _, c := range []struct {
		name     string
		domain   string
		old, too []FollowedMember
		want     []string
		wantToo  []string
	}{
		{"one has the name that another falls back on", "", []FollowedMember{named(a1, "m"+a2, "10.0.9.1"), unnamed(a2, "10.0.9.2")}, nil, []string{"m" + a1, "m" + a2}, nil},
		{"and in the other order", "", []FollowedMember{unnamed(a1, "10.0.9.1"), named(a2, "M"+a1, "10.0.9.2")}, nil, []string{"m" + a1, "m" + a2}, nil},
		{"one has a number's name", "", []FollowedMember{unnamed(a1, "10.0.9.1"), named(a2, "m"+a1+"-2", "10.0.9.2")}, []FollowedMember{unnamed(a1, "10.0.9.1")},
			[]string{"m" + a1, "m" + a2}, []string{"m" + a1 + "-2"}},
		{"one cluster in two blocks", "", []FollowedMember{named(a1, "Etcd_1", "10.0.9.1"), named(a2, "x", "10.0.9.2"), unnamed(a3, "10.0.9.3")},
			[]FollowedMember{named(a1, "Etcd_1", "10.0.9.1"), named(a2, "x", "10.0.9.2"), unnamed(a3, "10.0.9.3")},
			[]string{"m" + a1, "m" + a3, "x"}, []string{"m" + a1 + "-2", "m" + a2, "m" + a3 + "-2"}},
		{"the name of a member without a node", "", []FollowedMember{outsideName}, []FollowedMember{named(a2, "etcd1", "10.0.9.2")}, []string{"etcd1"}, []string{"m" + a2}},
		{"a node has the fallback", "", []FollowedMember{unnamed("00000000000000b1", "10.0.9.1")}, nil, []string{"m00000000000000b1-2"}, nil},
		{"a name that does not fit the domain", strings.Repeat(strings.Repeat("d", 49)+".", 4), []FollowedMember{named(a1, long, "10.0.9.1")}, nil, []string{"m" + a1}, nil},
		{"a domain that no name fits", strings.Repeat(strings.Repeat("d", 59)+".", 4), []FollowedMember{named(a1, long, "10.0.9.1")}, nil, []string{"m" + a1 + "-999"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := outside()
			if c.domain != "" {
				r.Domain = c.domain
			}
			r.Nodes = append(r.Nodes, Node{Name: "m00000000000000b1", Slot: 9})
			r.Clusters = append(r.Clusters, Cluster{Name: "too", Outside: true})
			one, _ := r.Follow("old", Followed{Members: c.old}, func(label string) bool { _, ok := r.Node(label); return ok })
			out, _ := one.Follow("too", Followed{Members: c.too}, func(label string) bool { _, ok := one.Node(label); return ok })
			old, _ := out.Cluster("old")
			too, _ := out.Cluster("too")
			if got, gotToo := names(old), names(too); !slices.Equal(got, c.want) || !slices.Equal(gotToo, c.wantToo) {
				t.Errorf("got %v and %v, want %v and %v", got, gotToo, c.want, c.wantToo)
			}
		})
	}
}

// A cluster that the rack ran once, and another of the same name that it follows, have nothing in common.
func TestMergeLeavesOutsideClustersAlone(t *testing.T) {
	r, _ := outside()
	out := Merge(r, View{Cluster: "old", Knowledge: Born, Generation: 1, Index: 9, Members: []Member{{Node: "a", PeerHost: "a"}}})
	if c, _ := out.Cluster("old"); c.Knowledge != Unknown || len(c.Members) != 0 {
		t.Errorf("got %+v", c)
	}
}
