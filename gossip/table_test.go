package gossip

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// told is a node as memberlist tells of it.
func told(t *testing.T, r Record) *memberlist.Node {
	t.Helper()
	r.Format = Format
	if r.Boot == "" {
		r.Boot = uuid.NewString()
	}
	octets, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return &memberlist.Node{Name: r.nodeName(), Addr: net.IPv4(10, 0, 1, 10), Port: port, Meta: octets, PMin: 1, PMax: 5, PCur: 5}
}

// age makes an entry as old as if it had not changed for that long.
func (ta *table) age(node string, by time.Duration) {
	ta.runs[node].Since = ta.runs[node].Since.Add(-by)
}

func TestTableFollowsMemberlist(t *testing.T) {
	ta := newTable("own."+bootA, time.Minute)
	steps := []struct {
		what   string
		tell   func(*memberlist.Node)
		record Record
		want   Status
		moved  bool
	}{
		{"joins", ta.NotifyJoin, Record{Serial: 1}, Alive, true},
		{"says something", ta.NotifyUpdate, Record{Serial: 2}, Alive, false},
		{"dies", ta.NotifyLeave, Record{Serial: 2}, Dead, true},
		{"dies again", ta.NotifyLeave, Record{Serial: 2}, Dead, false},
		{"objects", ta.NotifyJoin, Record{Serial: 3}, Alive, true},
		{"says that it leaves", ta.NotifyUpdate, Record{Serial: 3, leaving: true}, Left, true},
		{"leaves", ta.NotifyLeave, Record{Serial: 3, leaving: true}, Left, false},
	}
	for _, s := range steps {
		s.record.Name, s.record.Boot = "a", bootB
		before := ta.list()
		s.tell(told(t, s.record))
		peers := ta.list()
		if len(peers) != 1 || peers[0].Status != s.want || peers[0].Serial != s.record.Serial {
			t.Fatalf("%s: got %+v, want status %s and serial %d", s.what, peers, s.want, s.record.Serial)
		}
		if moved := len(before) == 0 || !before[0].Since.Equal(peers[0].Since); moved != s.moved {
			t.Errorf("%s: since changed is %v, want %v", s.what, moved, s.moved)
		}
		for name, c := range map[string]chan struct{}{"changed": ta.changed, "moved": ta.moved, "lost": ta.lost} {
			filled := false
			select {
			case <-c:
				filled = true
			default:
			}
			if want := name == "changed" || s.moved; filled != want {
				t.Errorf("%s: signal %s is %v, want %v", s.what, name, filled, want)
			}
		}
	}
	ta.end() // a timer of memberlist may fire after that
	ta.NotifyJoin(told(t, Record{Name: "b"}))
	ta.NotifyLeave(told(t, Record{Name: "a", Boot: bootB}))
	if peers := ta.list(); len(peers) != 1 || peers[0].Status != Left {
		t.Errorf("after the end: %+v, want no change", peers)
	}
}

// Runs that ended are listed for a while beside a later one, and as long as there is no later one.
func TestTableForgetsOldRuns(t *testing.T) {
	ta := newTable("own."+bootA, time.Minute)
	first, second, third, other := told(t, Record{Name: "a"}), told(t, Record{Name: "a"}), told(t, Record{Name: "a"}), told(t, Record{Name: "b"})
	names := func() (out []string) {
		for _, p := range ta.list() {
			out = append(out, p.nodeName())
		}
		return out
	}
	want := func(what string, nodes ...*memberlist.Node) {
		t.Helper()
		var all []string
		for _, n := range nodes {
			all = append(all, n.Name)
		}
		slices.Sort(all)
		if got := names(); !slices.Equal(got, all) {
			t.Errorf("%s: got %v, want %v", what, got, all)
		}
	}
	ta.NotifyJoin(first)
	ta.NotifyLeave(first)
	ta.age(first.Name, 24*time.Hour)
	ta.NotifyJoin(other)
	want("the last run stays", first, other)
	ta.NotifyJoin(second)
	want("a run that ended a day before the next is gone", second, other)
	ta.NotifyLeave(second)
	ta.NotifyJoin(third)
	want("the run before stays a while", second, third, other)
	ta.age(second.Name, keepOld+time.Second)
	ta.NotifyLeave(third)
	want("then it is gone, although the next died too", third, other)
}

// The table is bounded, by alive runs as by dead ones, and memberlist's with it.
func TestTableIsBounded(t *testing.T) {
	const forget = time.Minute
	ta := newTable("own."+bootA, forget)
	var nodes []*memberlist.Node
	for i := range maxPeers {
		n := told(t, Record{Name: fmt.Sprintf("n%d", i)})
		if err := ta.NotifyAlive(n); err != nil {
			t.Fatal(err)
		}
		ta.NotifyJoin(n)
		nodes = append(nodes, n)
	}
	next := told(t, Record{Name: "next"})
	if err := ta.NotifyAlive(next); err == nil {
		t.Fatalf("%d runs are alive and one more was let in", maxPeers)
	}
	if err := ta.NotifyAlive(nodes[0]); err != nil {
		t.Errorf("a run that is listed: %v", err)
	}
	ta.NotifyLeave(nodes[7])
	ta.NotifyLeave(nodes[8])
	if err := ta.NotifyAlive(next); err == nil {
		t.Error("memberlist remembers the dead run yet, and one more was let in")
	}
	ta.age(nodes[7].Name, forget+time.Second)
	ta.age(nodes[8].Name, forget+time.Minute)
	if err := ta.NotifyAlive(next); err != nil {
		t.Fatal(err)
	}
	ta.NotifyJoin(next)
	if ta.runs[nodes[8].Name] != nil || ta.runs[nodes[7].Name] == nil || len(ta.runs) != maxPeers {
		t.Error("the run that is dead for longest should have made room, and no other")
	}
}

// What comes back about the own run is memberlist's business.
func TestTableLeavesOutTheOwnRun(t *testing.T) {
	own := Record{Name: "own", Boot: bootA}
	ta := newTable(own.nodeName(), time.Minute)
	n := told(t, own)
	if err := ta.NotifyAlive(n); err != nil {
		t.Fatal(err)
	}
	ta.NotifyJoin(n)
	ta.NotifyUpdate(n)
	if peers := ta.list(); len(peers) != 0 {
		t.Errorf("the own run is listed: %+v", peers)
	}
}

// What could harm memberlist, or name a node that it is not, is not let in.
func TestTableRefuses(t *testing.T) {
	ta := newTable("own."+bootA, time.Minute)
	for what, edit := range map[string]func(*memberlist.Node){
		"":                    func(*memberlist.Node) {},
		"no address":          func(n *memberlist.Node) { n.Addr = nil },
		"half an address":     func(n *memberlist.Node) { n.Addr = n.Addr[:3] },
		"multicast":           func(n *memberlist.Node) { n.Addr = net.IPv4(224, 0, 0, 1) },
		"broadcast":           func(n *memberlist.Node) { n.Addr = net.IPv4bcast },
		"link-local":          func(n *memberlist.Node) { n.Addr = net.ParseIP("fe80::1") },
		"no port":             func(n *memberlist.Node) { n.Port = 0 },
		"another name":        func(n *memberlist.Node) { n.Name = "b." + bootB },
		"another boot":        func(n *memberlist.Node) { n.Name = "a." + bootA },
		"a name of one part":  func(n *memberlist.Node) { n.Name = "a" },
		"no record":           func(n *memberlist.Node) { n.Meta = nil },
		"a long record":       func(n *memberlist.Node) { n.Meta = append(n.Meta, make([]byte, MaxRecord)...) },
		"newer without boot":  func(n *memberlist.Node) { n.Name, n.Meta = "a", []byte{0x20} },
		"too new a protocol":  func(n *memberlist.Node) { n.PMin, n.PCur, n.PMax = 6, 6, 6 },
		"too old a protocol":  func(n *memberlist.Node) { n.PCur, n.PMax = 4, 4 },
		"speaks an older one": func(n *memberlist.Node) { n.PCur = 2 },
		"speaks no such one":  func(n *memberlist.Node) { n.PCur = 9 },
		"versions within":     func(n *memberlist.Node) { n.DMin = 1 },
		"a version within":    func(n *memberlist.Node) { n.DCur = 1 },
	} {
		n := told(t, Record{Name: "a", Boot: bootB})
		edit(n)
		if err := ta.NotifyAlive(n); (err != nil) != (what != "") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
