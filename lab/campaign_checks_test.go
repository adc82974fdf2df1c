//go:build linux

package lab

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The campaign's checks of members and orders themselves: what is right passes, and what is wrong does not.

func TestCampaignMemberJudge(t *testing.T) {
	before := map[string]uint64{"infra0": 1, "infra1": 2, "infra2": 3}
	for _, tt := range []struct {
		name  string
		kept  []string
		after map[string]uint64
		bad   string
	}{
		{"as they were", []string{"infra0", "infra1", "infra2"}, before, ""},
		{"one that lost its disk is another", []string{"infra0", "infra1"}, map[string]uint64{"infra0": 1, "infra1": 2, "infra2": 4}, ""},
		{"one that joined", []string{"infra0", "infra1", "infra2"}, map[string]uint64{"infra0": 1, "infra1": 2, "infra2": 3, "infra3": 4}, ""},
		{"replaced for no reason", []string{"infra0", "infra1"}, map[string]uint64{"infra0": 1, "infra1": 5, "infra2": 3}, "that of infra1 was 2 and is 5"},
		{"gone", []string{"infra0", "infra1"}, map[string]uint64{"infra0": 1, "infra2": 3}, "that of infra1 was 2 and is 0"},
		{"was none before", []string{"infra4"}, map[string]uint64{"infra4": 9}, "that of infra4 was 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := sameMembers(tt.kept, before, tt.after)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("got %v, want %q", err, tt.bad)
			}
		})
	}
}

// What a command says of itself, with the product's own words.
func TestCampaignOrderWord(t *testing.T) {
	for _, tt := range []struct {
		r    Result
		want word
	}{
		{Result{Code: 0, Stderr: "etcd-dns: infra2: removed\n"}, taken},
		{Result{Code: 1, Stderr: "error: of the 2 voters that would be left, 1 are connected, and a quorum is 2\nhint: …\n"}, refused},
		{Result{Code: 1, Stderr: "error: another change is under way\nhint: try again in a moment\n"}, refused},
		{Result{Code: 1, Stderr: "error: context deadline exceeded\nhint: etcd-dns status\n"}, unknown},
		{Result{Code: 1, Stderr: "error: the leader changes too fast: the last one was infra1\nhint: etcd-dns status; whether it took place: etcd-dns member list\n"}, unknown},
		{Result{Code: 1, Stderr: "error: remove 1: etcdserver: leader changed; infra2 is removed when that can be done, unless you take it back: etcd-dns member add infra2\n"}, unknown},
		{Result{Code: -1, Stderr: "lab: killed after 30s\n"}, unknown},
	} {
		if got := wordOf(tt.r); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.r, got, tt.want)
		}
	}
}

// What is left when one more disk is lost, or one more member removed.
func TestCampaignSound(t *testing.T) {
	const lost, ordered, added, joined = 'l', 'o', 'a', 'j'
	for _, tt := range []struct {
		// nodes is a letter for each node: what happened to it, or a dot.
		nodes            string
		mayLose, mayDrop bool
	}{
		{"...", true, true},
		{"..l", false, false},
		{"..o", false, false},
		{"..a", false, false},
		{"..j", false, false},
		{"...j", false, true},
		{".....", true, true},
		{"....l", true, true},
		{"...ll", false, false},
		{"....o", true, true},
		{"...oo", true, true},
		{"....a", true, true},
		{"...la", false, false},
	} {
		c := &campaign{states: map[string]*state{}}
		for i, what := range tt.nodes {
			n := "infra" + string(rune('0'+i))
			c.nodes = append(c.nodes, n)
			c.states[n] = &state{lost: what == lost, ordered: what == ordered || what == added, added: what == added, joined: what == joined}
		}
		if got := c.sound("infra0", ""); got != tt.mayLose {
			t.Errorf("%s: another disk may be lost: %v", tt.nodes, got)
		}
		if got := c.sound("", "infra0"); got != tt.mayDrop {
			t.Errorf("%s: another member may be removed: %v", tt.nodes, got)
		}
	}
}

// For how long records are behind: a list that cannot be read for a while starts no new patience, one that has changed does.
func TestCampaignLag(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	one, two := map[string]uint64{"infra0": 1, "infra1": 2}, map[string]uint64{"infra0": 1, "infra1": 3}
	type look struct {
		second int
		list   map[string]uint64
		right  bool
	}
	for _, tt := range []struct {
		name  string
		looks []look
		want  []int // seconds behind, at each look
	}{
		{"right", []look{{0, one, true}, {1, one, true}}, []int{0, 0}},
		{"behind, and the list cannot be read in between", []look{{0, one, false}, {5, one, false}}, []int{0, 5}},
		{"another member under the same name", []look{{0, one, false}, {5, two, false}, {6, two, false}}, []int{0, 0, 1}},
		{"right in between", []look{{0, one, false}, {1, one, true}, {2, one, false}, {3, one, false}}, []int{0, 0, 0, 1}},
	} {
		l := lag{behind: map[string]time.Time{}}
		var got []int
		for _, k := range tt.looks {
			l.sees(k.list, at(k.second))
			got = append(got, int(l.answers("infra0", k.right, at(k.second)).Seconds()))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v s behind, want %v", tt.name, got, tt.want)
		}
	}
}
