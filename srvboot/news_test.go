package srvboot

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Nodes without a member have a changed list as soon as a member has it: they are asked, hear of it, and ask back.
func TestNewsReachesWhoHasNoMember(t *testing.T) {
	inRack(t, 4, func(r *rack) {
		r.admitAll()
		r.start()
		r.within(10*time.Second, "four serve", r.votersAre("n0", "n1", "n2", "n3"))
		r.settled()
		if reply := r.order(Order{Op: OrderRemove, Node: "n3"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		lists := func(name string, members int) func() bool {
			return func() bool { return len(r.nodes[name].report().View.Members) == members }
		}
		r.within(30*time.Second, "n3 is retired", func() bool { return r.nodes["n3"].report().State.Phase == Removed })
		r.settled()
		r.grow()
		for name := range r.nodes {
			r.nodes[name].edit(func(h *Home) { h.Admitted = simInitial("n0", "n1", "n2", "n4") })
		}
		r.start("n4")
		r.within(10*time.Second, "a voter lists n4", lists("n0", 4))
		took := r.within(30*time.Millisecond, "n3 lists it", lists("n3", 4))
		t.Logf("after %v", took)
		r.within(10*time.Second, "n4 votes", r.votersAre("n0", "n1", "n2", "n4"))
		r.settled()
		if reply := r.order(Order{Op: OrderRemove, Node: "n4"}); !reply.Done {
			t.Fatalf("%+v", reply)
		}
		r.within(10*time.Second, "a voter lists three", lists("n0", 3))
		r.within(30*time.Millisecond, "n3 lists three", lists("n3", 3))
	})
}

// An onlooker asks who has a later list at once, and nobody for any other: two that asked each other for each question would not stop.
func TestOnlookerHearsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Genesis{ID: "a", Generation: 1, Members: simInitial("n0")}
		s := State{Node: "n0", Run: "1", Bundle: "bundle-1", Phase: Running, Accepted: &Acceptance{Genesis: g}}
		s.View = roster.View{Knowledge: roster.Born, Generation: 1, Index: 7, Members: []roster.Member{{Node: "n0", PeerHost: "n0"}}}
		asked := 0
		w := NewOnlooker(OnlookerOptions{Every: time.Hour, Timeout: time.Second,
			Homes: func() []Home { return []Home{simHome("", simNames(1))} },
			Ask: func(context.Context, string) (State, error) {
				asked++
				return s, nil
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Second)
		for _, c := range []struct {
			from string
			news News
			asks int
		}{
			{"n0", News{}, 0},
			{"n0", News{Generation: 1, Index: 6}, 0},
			{"n0", News{Generation: 1, Index: 7}, 0},
			{"n0", News{Cluster: "foo", Generation: 1, Index: 8}, 0},
			{"n9", News{Generation: 1, Index: 8}, 0},
			{"n0", News{Generation: 1, Index: 8}, 1},
			{"n0", News{Generation: 2, Index: 1}, 1},
		} {
			asked = 0
			w.Hear(c.from, c.news)
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			if asked != c.asks {
				t.Errorf("%s with %v is asked %d times, want %d", c.from, c.news, asked, c.asks)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func FuzzNews(f *testing.F) {
	for _, text := range []string{":0:0", "foo:1:7", ":18446744073709551615:18446744073709551616", "foo", "a:b:c:d", ":-1:+1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseNews(text)
		if err != nil {
			if n != (News{}) {
				t.Errorf("%q is refused, and read as %v", text, n)
			}
			return
		}
		if again, err := ParseNews(n.String()); err != nil || again != n {
			t.Errorf("%q is read as %v, and %v as %v: %v", text, n, n.String(), again, err)
		}
	})
}
