package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
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
	answers := func(r roster.Roster) map[string]srvboot.Answer {
		s := srvboot.State{Clients: map[string][]string{"foo": servingIn(r, "foo")}}
		return map[string]srvboot.Answer{"n": {Node: "n", At: time.Now(), State: s}}
	}
	for range 2 {
		mine, theirs = mine.WithServing(dead, lastServing(mine, answers(theirs))), theirs.WithServing(dead, lastServing(theirs, answers(mine)))
	}
	if a, b := servingIn(mine, "foo"), servingIn(theirs, "foo"); !slices.Equal(a, b) || !slices.Equal(a, []string{"a", "b"}) {
		t.Errorf("they end at %v and %v", a, b)
	}
	old := answers(clusters("c"))
	a := old["n"]
	a.At = time.Now().Add(-time.Hour)
	old["n"] = a
	if got := servingIn(lastServing(mine, old), "foo"); slices.Contains(got, "c") {
		t.Errorf("an old answer counts: %v", got)
	}
}

// heardAt is a hearing of node a at a moment, with its own member serving or not, and the answers of others.
func heardAt(now time.Time, own bool, answers ...srvboot.Answer) hearing {
	h := hearing{self: "a", now: now, report: srvboot.Report{State: srvboot.State{Member: &srvboot.MemberState{Serving: own}}, Answers: map[string]srvboot.Answer{}}}
	for _, a := range answers {
		h.report.Answers[a.Node] = a
	}
	return h
}

// publishing adds to an answer whom its node publishes of cluster foo.
func publishing(a srvboot.Answer, clients ...string) srvboot.Answer {
	a.State.Clients = map[string][]string{"foo": clients}
	return a
}

// The client set of a cluster of a, b and c, as a publishes it in the rounds after its start.
func TestSettling(t *testing.T) {
	start := time.Now()
	at := func(after time.Duration, own bool, answers ...func(now time.Time) srvboot.Answer) hearing {
		h := heardAt(start.Add(after), own)
		for _, a := range answers {
			one := a(h.now)
			h.report.Answers[one.Node] = one
		}
		return h
	}
	node := func(name string, serving bool, clients ...string) func(time.Time) srvboot.Answer {
		return func(now time.Time) srvboot.Answer {
			return publishing(answered(name, now, &srvboot.MemberState{Serving: serving}), clients...)
		}
	}
	all := []string{"a", "b", "c"}
	for _, c := range []struct {
		name    string
		rounds  []hearing
		want    []string
		settled bool
	}{
		{"nobody was heard", []hearing{at(0, false)}, all, false},
		{"a birth, some serve", []hearing{at(0, true, node("b", true), node("c", false))}, all, false},
		{"a birth, all serve", []hearing{at(0, true, node("b", true), node("c", true))}, all, true},
		{"one fell since", []hearing{at(0, true, node("b", true), node("c", true)), at(1, true, node("b", true), node("c", false))}, []string{"a", "b"}, true},
		{"the time is not over", []hearing{at(0, true), at(settleTime, true)}, all, false},
		{"the time is over", []hearing{at(0, true), at(settleTime+1, true)}, []string{"a"}, true},
		{"beside a healthy node", []hearing{at(0, false, node("b", true, "b", "c"), node("c", true))}, []string{"b", "c"}, true},
		{"c has long been dead", []hearing{at(0, false, node("b", true, "b"))}, []string{"b"}, true},
		{"c is dead, and without a there is no quorum", []hearing{at(0, false, node("b", false, "b"))}, []string{"b"}, false},
		{"the same, once a quorum is back", []hearing{at(0, false, node("b", false, "b")), at(1, true, node("b", true, "b"))}, []string{"a", "b"}, true},
		{"b says so and dies", []hearing{at(0, false, node("b", false, "b")), at(1, true)}, []string{"a", "b"}, false},
		{"b publishes one whom nobody hears", []hearing{at(0, true, node("b", true, "b", "c"))}, all, false},
		{"one of two nodes publishes those that serve", []hearing{at(0, true, node("b", true, "a", "b", "c"), node("d", false, "a", "b"))}, []string{"a", "b"}, true},
		{"a stale word", []hearing{at(0, true, func(now time.Time) srvboot.Answer { return node("b", true, "b")(now.Add(-time.Minute)) })}, all, false},
	} {
		p := &publisher{settling: map[string]*settling{}}
		r := roster.Roster{Clusters: []roster.Cluster{bornCluster("foo")}}
		for _, h := range c.rounds {
			p.last = p.withClients(r, h, nil)
		}
		if got := servingIn(p.last, "foo"); !slices.Equal(got, c.want) || p.settling["foo"].goesOn() == c.settled {
			t.Errorf("%s: %v, settled %v; want %v, %v", c.name, got, !p.settling["foo"].goesOn(), c.want, c.settled)
		}
		if said := p.clientsOf(p.last)["foo"]; c.settled && !slices.Equal(said, c.want) || !c.settled && said != nil {
			t.Errorf("%s: a says %v", c.name, said)
		}
	}
}

// Each cluster settles on its own: one that boots does not hold up what is known of another. What is followed does not settle.
func TestClustersSettleApart(t *testing.T) {
	p := &publisher{settling: map[string]*settling{}}
	outside := bornCluster("old")
	outside.Outside = true
	r := roster.Roster{Clusters: []roster.Cluster{bornCluster("bar"), bornCluster("foo"), {Name: "new", Knowledge: roster.Unborn}, outside}}
	r.Clusters[1].Members[0].Node = "f"
	now := time.Now()
	h := heardAt(now, true, answered("b", now, up), answered("c", now, up))
	r = p.withClients(r, h, func(_, node string) bool { return node == "b" })
	if p.settling["bar"].goesOn() || !p.settling["foo"].goesOn() || p.settling["new"].goesOn() || p.settling["old"].goesOn() {
		t.Errorf("settling: %+v", p.settling)
	}
	if got := servingIn(r, "old"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the clients of the cluster that is followed are %v", got)
	}
	h.now = now.Add(settleTime + 1)
	if p.withClients(r, h, func(string, string) bool { return false }); p.settling["foo"].goesOn() {
		t.Error("foo settles for ever")
	}
}

// What the others serve is known with its serials, so that one content gets one serial.
func TestPublished(t *testing.T) {
	now := time.Now()
	serves := func(at time.Time, serial uint32, digest string) srvboot.Answer {
		return srvboot.Answer{At: at, State: srvboot.State{Serial: serial, ZoneDigest: digest}}
	}
	for _, c := range []struct {
		name   string
		answer srvboot.Answer
		want   []zone.Published
	}{
		{"never answered", serves(time.Time{}, 7, "d"), nil},
		{"serves no zone yet", serves(now, 0, ""), nil},
		{"serves", serves(now, 7, "d"), []zone.Published{{Serial: 7, Digest: "d"}}},
		{"is silent since", serves(now.Add(-time.Hour), 7, "d"), []zone.Published{{Serial: 7, Digest: "d"}}},
	} {
		if got := published(srvboot.Report{Answers: map[string]srvboot.Answer{"b": c.answer}}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
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
