package node

import (
	"slices"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// What a member has to wait for after falls in a row, a second apart, each as soon as it served.
func TestDampingDoubles(t *testing.T) {
	var d damping
	now := time.Now()
	for falls, want := range []time.Duration{0, 0, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		if got := d.tell(true, now); got.wait != want || got.falls != falls {
			t.Errorf("after %d falls: %+v, want %v", falls, got, want)
		}
		d.tell(false, now.Add(time.Second))
		now = now.Add(2 * time.Second)
	}
}

// A sequence of what the member does at a time, and whether it is published after each of them.
func TestDamping(t *testing.T) {
	const s = time.Second
	type step struct {
		at        time.Duration
		serving   bool
		published bool
	}
	twice := []step{{0, true, true}, {1 * s, false, false}, {2 * s, true, true}, {3 * s, false, false}}
	for name, steps := range map[string][]step{
		"not yet":                   {{0, false, false}, {90 * s, false, false}, {91 * s, true, true}},
		"one fall":                  {{0, true, true}, {1 * s, false, false}, {2 * s, true, true}},
		"the second":                slices.Concat(twice, []step{{10 * s, true, false}, {12*s - 1, true, false}, {12 * s, true, true}, {90 * s, true, true}}),
		"a break begins it anew":    slices.Concat(twice, []step{{10 * s, true, false}, {11 * s, false, false}, {12 * s, true, false}, {15 * s, true, false}, {16 * s, true, true}}),
		"it fell long ago":          slices.Concat(twice, []step{{62*s - 1, false, false}, {62 * s, true, true}}),
		"down for more than enough": slices.Concat(twice, []step{{300 * s, true, true}, {301 * s, false, false}, {302 * s, true, true}}),
		"one a minute":              {{0, true, true}, {60 * s, false, false}, {61 * s, true, true}, {121 * s, false, false}, {122 * s, true, true}},
	} {
		var d damping
		start := time.Now()
		for i, c := range steps {
			if held := d.tell(c.serving, start.Add(c.at)); (c.serving && held.wait == 0) != c.published {
				t.Errorf("%s: step %d: %+v, want published %v", name, i, held, c.published)
			}
		}
	}
}

// A member that is held out is left out while others serve, and published before those that do not serve when it alone does.
func TestHeldOutAlone(t *testing.T) {
	now := time.Now()
	held := &srvboot.MemberState{Serving: true, HeldOut: true}
	down := &srvboot.MemberState{}
	for _, c := range []struct {
		name    string
		own     hearing
		answers []srvboot.Answer
		want    []string
	}{
		{"another serves", hearing{held: true}, []srvboot.Answer{answered("b", now, up), answered("c", now, down)}, []string{"b"}},
		{"another is held out", hearing{}, []srvboot.Answer{answered("b", now, held), answered("c", now, down)}, []string{"a"}},
		{"the own one alone", hearing{held: true}, []srvboot.Answer{answered("b", now, down), publishing(answered("c", now, down), "c")}, []string{"a"}},
		{"two are", hearing{held: true}, []srvboot.Answer{answered("b", now, held), answered("c", now, down)}, []string{"a", "b"}},
	} {
		h := heardAt(now, true, c.answers...)
		h.held = c.own.held
		p := &publisher{settling: map[string]*settling{"foo": {over: true}}, last: roster.Roster{Clusters: []roster.Cluster{bornCluster("foo", "c")}}}
		r := p.withClients(roster.Roster{Clusters: []roster.Cluster{bornCluster("foo")}}, h, nil)
		if got := servingIn(r, "foo"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
