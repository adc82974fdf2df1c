package roster

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func static() Roster {
	return Roster{
		Domain:      "Rack1.Example.com.",
		Nodes:       []Node{{Name: "b", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.11")}, Slot: 1}, {Name: "a", Slot: 0}, {Name: "c", Slot: 2}},
		NameServers: []NameServer{{Name: "b.rack1.example.com."}, {Name: "a.rack1.example.com."}},
		Clusters:    []Cluster{{Name: "foo"}, {Name: ""}},
	}
}

func born(cluster string, generation, index uint64, nodes ...string) View {
	v := View{Cluster: cluster, Knowledge: Born, Generation: generation, Index: index}
	for _, n := range nodes {
		v.Members = append(v.Members, Member{Node: n, PeerHost: n, PeerPort: 2380, ClientPort: 2379})
	}
	return v
}

func names(c Cluster) (out []string) {
	for _, m := range c.Members {
		out = append(out, m.Node)
	}
	return out
}

func TestNewest(t *testing.T) {
	unknown, unborn := View{}, View{Knowledge: Unborn}
	for _, c := range []struct {
		name  string
		views []View
		want  View
	}{
		{"nothing", nil, unknown},
		{"unborn over unknown", []View{unknown, unborn}, unborn},
		{"born over unborn", []View{born("", 1, 0, "a"), unborn}, born("", 1, 0, "a")},
		{"the later index", []View{born("", 1, 7, "a"), born("", 1, 9, "a", "b")}, born("", 1, 9, "a", "b")},
		{"the generation before the index", []View{born("", 2, 1, "b"), born("", 1, 900, "a")}, born("", 2, 1, "b")},
		{"other clusters do not count", []View{born("foo", 9, 9, "c"), born("", 1, 1, "a")}, born("", 1, 1, "a")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 10 { // the order of the sources must not matter
				views := slices.Clone(c.views)
				rand.Shuffle(len(views), func(i, j int) { views[i], views[j] = views[j], views[i] })
				got := Newest("", views...)
				if got.Knowledge != c.want.Knowledge || got.Generation != c.want.Generation || got.Index != c.want.Index || !slices.Equal(got.Members, c.want.Members) {
					t.Fatalf("got %+v, want %+v", got, c.want)
				}
			}
		})
	}
}

func TestMerge(t *testing.T) {
	r := Merge(static(), born("", 1, 3, "c", "a"), View{Cluster: "foo", Knowledge: Unborn, Members: born("", 1, 1, "b").Members}, born("bar", 1, 1, "b"))
	if r.Domain != "rack1.example.com." || r.Nodes[0].Name != "a" || r.NameServers[0].Name != "b.rack1.example.com." {
		t.Errorf("got %+v, want sorted nodes, a folded domain and name servers in their order", r)
	}
	if len(r.Clusters) != 2 {
		t.Fatalf("got %d clusters, want the 2 that are configured", len(r.Clusters))
	}
	d, _ := r.Cluster("")
	if got := names(d); d.Knowledge != Born || !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("default: got %s %v, want born [a c]", d.Knowledge, got)
	}
	foo, _ := r.Cluster("foo")
	if foo.Knowledge != Unborn || len(foo.Members) != 0 {
		t.Errorf("foo: got %+v, want unborn without members", foo)
	}
}

func TestWithServing(t *testing.T) {
	all := Merge(static(), born("", 1, 1, "a", "b", "c"))
	set := func(serving ...string) func(string, string) bool {
		return func(cluster, n string) bool { return cluster == "" && slices.Contains(serving, n) }
	}
	last := all.WithServing(set("a", "b"), Roster{})
	for _, c := range []struct {
		name    string
		serving []string
		last    Roster
		want    []string
	}{
		{"some", []string{"b"}, last, []string{"b"}},
		{"none: the last good ones", nil, last, []string{"a", "b"}},
		{"none ever: all", nil, Roster{}, []string{"a", "b", "c"}},
		{"the last good ones left the cluster: all", nil, Merge(static(), born("", 1, 0, "x")).WithServing(set("x"), Roster{}), []string{"a", "b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := all.WithServing(set(c.serving...), c.last)
			var got []string
			for _, m := range r.Clusters[0].Members {
				if m.Serving {
					got = append(got, m.Node)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestEqualAndCloneAreDeep(t *testing.T) {
	a := Merge(static(), born("", 1, 1, "a", "b"))
	b := a.Clone()
	if !a.Equal(b) {
		t.Fatal("a clone differs")
	}
	b.Nodes[1].Addrs[0] = netip.MustParseAddr("10.0.1.99")
	b.Clusters[0].Members[0].Serving = true
	if a.Equal(b) || a.Nodes[1].Addrs[0] != netip.MustParseAddr("10.0.1.11") || a.Clusters[0].Members[0].Serving {
		t.Error("a clone shares memory with its original")
	}
	c := static()
	slices.Reverse(c.Nodes)
	slices.Reverse(c.Clusters)
	if !c.Equal(static()) {
		t.Error("the order of nodes and clusters must not matter")
	}
	slices.Reverse(c.NameServers)
	if c.Equal(static()) {
		t.Error("the order of name servers matters: the first is the MNAME")
	}
}
