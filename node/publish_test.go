package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func bornCluster(name string, serving ...string) roster.Cluster {
	c := roster.Cluster{Name: name, Knowledge: roster.Born}
	for _, m := range []string{"a", "b", "c"} {
		c.Members = append(c.Members, roster.Member{Node: m, PeerHost: m, Serving: slices.Contains(serving, m)})
	}
	return c
}

func servingIn(r roster.Roster, cluster string) (out []string) {
	c, _ := r.Cluster(cluster)
	for _, m := range c.Members {
		if m.Serving {
			out = append(out, m.Node)
		}
	}
	return out
}

// Two nodes saw the last members of a cluster die in different orders. They end at one client set.
func TestNodesAgreeOnWhoServedLast(t *testing.T) {
	clusters := func(serving ...string) roster.Roster {
		return roster.Roster{Clusters: []roster.Cluster{bornCluster("foo", serving...)}}
	}
	dead := func(string, string) bool { return false }
	mine, theirs := clusters("a"), clusters("b")
	says := func(r roster.Roster) map[string]srvboot.Answer {
		s := srvboot.State{Clients: map[string][]string{"foo": servingIn(r, "foo")}}
		return map[string]srvboot.Answer{"n": {Node: "n", At: time.Now(), State: s}}
	}
	for range 2 {
		mine, theirs = mine.WithServing(dead, lastServing(mine, says(theirs))), theirs.WithServing(dead, lastServing(theirs, says(mine)))
	}
	if a, b := servingIn(mine, "foo"), servingIn(theirs, "foo"); !slices.Equal(a, b) || !slices.Equal(a, []string{"a", "b"}) {
		t.Errorf("they end at %v and %v", a, b)
	}
	old := says(clusters("c"))
	a := old["n"]
	a.At = time.Now().Add(-time.Hour)
	old["n"] = a
	if got := servingIn(lastServing(mine, old), "foo"); slices.Contains(got, "c") {
		t.Errorf("an old answer counts: %v", got)
	}
}

// Each cluster settles on its own: one that boots does not hold up what is known of another.
func TestClustersSettleApart(t *testing.T) {
	p := &publisher{settling: map[string]*settling{}}
	r := roster.Roster{Clusters: []roster.Cluster{bornCluster("bar"), bornCluster("foo"), {Name: "new", Knowledge: roster.Unborn}, {Name: "old", Outside: true, Knowledge: roster.Born}}}
	r.Clusters[1].Members[0].Node = "f"
	p.settle(r, func(node string) bool { return node != "f" })
	if p.settling["bar"].goesOn() || !p.settling["foo"].goesOn() || p.settling["new"].goesOn() || p.settling["old"].goesOn() {
		t.Errorf("settling: %+v", p.settling)
	}
	p.settling["foo"].born = time.Now().Add(-2 * settleTime)
	p.settle(r, func(node string) bool { return node != "f" })
	if p.settling["foo"].goesOn() {
		t.Error("foo settles for ever")
	}
}

func TestIsTaken(t *testing.T) {
	record, err := dns.NewRR("www.rack1.example.com. 30 IN TXT x")
	if err != nil {
		t.Fatal(err)
	}
	r := roster.Roster{Domain: "rack1.example.com.", Nodes: []roster.Node{{Name: "a", PeerAddrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}, {Name: "b"}}, NameServers: []roster.NameServer{{Name: "ns1.rack1.example.com."}}}
	for label, want := range map[string]bool{"a": true, "a-peer": true, "b": true, "b-peer": false, "www": true, "ns1": true, "etcd1": false} {
		if got := isTaken(r, []dns.RR{record}, label); got != want {
			t.Errorf("%s: %v, want %v", label, got, want)
		}
	}
}

func TestKnowsNode(t *testing.T) {
	o, err := ParseCorefile("/x/Corefile", []byte("rack1.example.com {\n etcdsrv {\n  node a 10.0.1.10\n  cluster foo {\n   node b 10.0.1.11\n  }\n }\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	in := Status{Node: "a"}
	if err := o.KnowsNode("a", in); err != nil {
		t.Error(err)
	}
	if err := o.KnowsNode("b", in); err == nil || err.Error() != "b is a node of cluster foo, and a of the default cluster" {
		t.Errorf("got %v", err)
	}
	if err := o.KnowsNode("b", Status{Node: "b", SrvName: "foo"}); err != nil {
		t.Error(err)
	}
	if err := o.KnowsNode("c", in); err == nil {
		t.Error("c is nobody")
	}
}
