package srvboot

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// onlooker runs one beside the rack until the test is over.
func (r *rack) onlooker() (w *Onlooker, stop func()) {
	home := simHome("", simNames(3))
	peers := &simPeers{r: r, from: "onlooker"}
	t := DefaultTiming()
	w = NewOnlooker(OnlookerOptions{Homes: func() []Home { return []Home{home} }, Ask: peers.State, Every: t.Slow, Timeout: t.AskTimeout})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// sever cuts and heals one way.
func (r *rack) sever(from, to string, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut[[2]string{from, to}] = cut
}

func (w *Onlooker) sees(k roster.Knowledge, members int) func() bool {
	return func() bool {
		views := w.Sights().Views
		return len(views) == 1 && views[0].Knowledge == k && len(views[0].Members) == members
	}
}

// seesNot is for what must never be seen.
func (w *Onlooker) seesNot(k roster.Knowledge) func() bool {
	return func() bool { views := w.Sights().Views; return len(views) == 1 && views[0].Knowledge != k }
}

// A node of another cluster denies what all of a cluster's nodes said they are not, and nothing out of ignorance.
func TestOnlookerHasThreeAnswers(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.nodes["n2"].failed = []string{"no"} // so that there is no birth yet
		w, stop := r.onlooker()
		defer stop()
		r.start("n0", "n1")
		r.never(15*time.Second, "it denies a cluster of which it has not heard every node", w.seesNot(roster.Unknown))
		r.start("n2")
		r.within(seldom*time.Second+100*time.Millisecond, "unborn", w.sees(roster.Unborn, 0))
		r.sever("onlooker", "n1", true)
		r.never(8*time.Second, "it forgets at once", w.seesNot(roster.Unborn))
		r.within(4*time.Second, "unknown ten seconds after a node was heard last", w.sees(roster.Unknown, 0))
		r.sever("onlooker", "n1", false)
		r.within(seldom*time.Second+100*time.Millisecond, "unborn again", w.sees(roster.Unborn, 0))
		r.mu.Lock()
		r.nodes["n2"].failed = nil
		r.mu.Unlock()
		r.within(5*time.Second, "running", r.running(simNames(3)...))
		r.within(1500*time.Millisecond, "born", w.sees(roster.Born, 3))
		r.stop()
		r.never(time.Minute, "a born cluster is forgotten", w.seesNot(roster.Born))

		late, stopLate := r.onlooker()
		defer stopLate()
		r.never(15*time.Second, "it says something of a cluster of which it knows nothing", late.seesNot(roster.Unknown))
	})
}

// The member list that an onlooker has never goes back, whoever answers.
func TestOnlookerFollowsTheNewestList(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		w, stop := r.onlooker()
		defer stop()
		r.within(2*time.Second, "born", w.sees(roster.Born, 3))
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
		r.within(2*time.Second, "the fourth member seen", w.sees(roster.Born, 4))
		index := w.Sights().Views[0].Index
		r.stop("n0", "n1", "n3")
		r.never(time.Minute, "the list went back", func() bool {
			v := w.Sights().Views[0]
			return len(v.Members) != 4 || v.Index < index
		})
	})
}

// Sixty nodes that refuse at nearly the same time, as machines without the program do, are one look and not sixty: a look
// is at all of them.
func TestOnlookerTakesAnswersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		home, steps, asked := simHome("", simNames(60)), 0, 0
		home.Node = ""
		var mu sync.Mutex
		w := NewOnlooker(OnlookerOptions{Every: time.Second, Timeout: time.Second,
			Homes: func() []Home { steps++; return []Home{home} },
			Ask: func(context.Context, string) (State, error) {
				mu.Lock()
				asked++
				late := time.Duration(asked%5) * time.Millisecond
				mu.Unlock()
				time.Sleep(late)
				return State{}, errors.New("connection refused")
			}})
		ctx, cancel := context.WithTimeout(t.Context(), 61*time.Second)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		// At 0, 1, 2, 3, 4, 6, 9, 13 s and every five seconds from then on.
		if asked != 17*60 || steps > 2*61 {
			t.Errorf("%d questions and %d looks in 61 seconds, want 1020, and 122 at most", asked, steps)
		}
	})
}

// A silent node that is heard of is asked at once, and as often as any other when it answers.
func TestOnlookerAsksSilentNodesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		home, up, asked := simHome("", simNames(1)), false, []time.Time{}
		home.Node = ""
		w := NewOnlooker(OnlookerOptions{Every: time.Second, Timeout: time.Second,
			Homes: func() []Home { return []Home{home} },
			Ask: func(_ context.Context, node string) (State, error) {
				if asked = append(asked, time.Now()); !up {
					return State{}, errors.New("no route to host")
				}
				return State{Node: node, Run: "1", Bundle: "bundle-1"}, nil
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		up, asked = true, nil
		began := time.Now()
		w.Prompt("n0")
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if len(asked) != 4 || asked[0].After(began.Add(20*time.Millisecond)) {
			t.Errorf("asked %v after it was heard of at %v, want at once, once more, and after each second", asked, began)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSightNeverGoesBack(t *testing.T) {
	g := Genesis{ID: "a", Generation: 1, Members: simInitial("n0")}
	other := Genesis{ID: "b", Generation: 1, Members: simInitial("n0")}
	answer := func(g Genesis, index uint64, members ...string) Facts {
		v := roster.View{Knowledge: roster.Born, Generation: g.Generation, Index: index}
		for _, m := range members {
			v.Members = append(v.Members, roster.Member{Node: m, PeerHost: m, PeerPort: 2380, ClientPort: 2379})
		}
		s := State{Node: "n0", Bundle: "bundle-1", Phase: Running, Accepted: &Acceptance{Genesis: g}, View: v}
		now := time.Now()
		return Facts{Now: now, Home: simHome("", simNames(1)), Disk: DiskFacts{Data: None}, Peers: map[string]Answer{"n0": {Node: "n0", At: now, State: s}}}
	}
	recovered := Genesis{ID: "c", Generation: 2, Parent: "a", Members: simInitial("n0")}
	var v sight
	for _, c := range []struct {
		name    string
		facts   Facts
		changed bool
		members int
	}{
		{"the first list", answer(g, 5, "n0", "n1"), true, 2},
		{"an older one", answer(g, 4, "n0"), false, 2},
		{"a newer one", answer(g, 9, "n0", "n1", "n2"), true, 3},
		{"one of another genesis", answer(other, 99, "n0"), false, 3},
		{"one of its successor", answer(recovered, 1, "n0"), true, 1},
		{"one from before", answer(g, 200, "n0", "n1", "n2"), false, 1},
	} {
		if changed := v.take(c.facts, listDate{}); changed != c.changed || len(v.view.Members) != c.members {
			t.Errorf("%s: changed %v, %d members; want %v, %d", c.name, changed, len(v.view.Members), c.changed, c.members)
		}
	}
}

// A node that says that it is of another cluster is no voice for this one, and stands in the way of a denial.
func TestOnlookerAndAMovedNode(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		r.nodes["n1"].edit(func(h *Home) { h.SrvName = "other" })
		w, stop := r.onlooker()
		defer stop()
		r.start()
		r.never(15*time.Second, "it denies although one node does not", w.seesNot(roster.Unknown))
		if a := w.Sights().Answers["n1"]; a.State.SrvName != "other" {
			t.Errorf("its answer is not shown: %+v", a)
		}
	})
}

// News of a node is asked for at once, and the clusters to look at may change.
func TestOnlookerPromptAndReload(t *testing.T) {
	inRack(t, 1, func(r *rack) {
		var gone atomic.Bool
		homes := func() []Home {
			if gone.Load() {
				return nil
			}
			return []Home{simHome("", simNames(1))}
		}
		peers := &simPeers{r: r, from: "onlooker"}
		w := NewOnlooker(OnlookerOptions{Homes: homes, Ask: peers.State, Every: time.Hour, Timeout: time.Second})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		r.never(time.Second, "it made an answer up", w.seesNot(roster.Unknown))
		r.start()
		r.within(2*time.Second, "running", r.running("n0"))
		sees := w.sees(roster.Born, 1)
		r.within(2*time.Second, "born after a prompt", func() bool {
			w.Prompt("n0") // until its member has told its list
			return sees()
		})
		gone.Store(true)
		w.Prompt("")
		r.within(100*time.Millisecond, "no cluster left", func() bool { return len(w.Sights().Views) == 0 })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
