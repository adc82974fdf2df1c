package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/gossip"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// answered is an answer of a node's run "NODE-1", whose member says that, and which heard those.
func answered(node string, at time.Time, m *srvboot.MemberState, heard ...string) srvboot.Answer {
	return srvboot.Answer{Node: node, At: at, Asked: at, State: srvboot.State{Node: node, Gossip: node + "-1", Member: m, Heard: heard}}
}

// run is what gossip says of a node's run, since now.
func run(node, boot string, s gossip.Status) gossip.Peer {
	return gossip.Peer{Record: gossip.Record{Name: node, Boot: node + boot}, Status: s, Since: time.Now()}
}

// failed is an answer after which a question went unanswered.
func failed(a srvboot.Answer) srvboot.Answer {
	a.Err = "connection refused"
	return a
}

// earlier is what gossip has said for a minute.
func earlier(p gossip.Peer) gossip.Peer {
	p.Since = p.Since.Add(-time.Minute)
	return p
}

var up = &srvboot.MemberState{Serving: true}

// Every combination of what b says, of what gossip says of b, and of what c says of b, as a judges.
func TestJudge(t *testing.T) {
	now := time.Now()
	old := now.Add(-staleAnswer - time.Millisecond)
	own := map[string]struct {
		answer srvboot.Answer
		want   verdict
	}{
		"nothing":                              {srvboot.Answer{}, unheard},
		"stale":                                {answered("b", old, up), unheard},
		"serves":                               {answered("b", now.Add(-staleAnswer), up), serves},
		"serves, and the last question failed": {failed(answered("b", now, up)), serves},
		"not serving":                          {answered("b", now, &srvboot.MemberState{}), silent},
		"no member":                            {answered("b", now, nil), silent},
	}
	gossips := map[string]struct {
		peers        []gossip.Peer
		gone, allOff bool // the run of the answer; every run
	}{
		"never met":         {nil, false, false},
		"another node dead": {[]gossip.Peer{run("d", "-1", gossip.Dead)}, false, false},
		"alive":             {[]gossip.Peer{run("b", "-1", gossip.Alive)}, false, false},
		"dead":              {[]gossip.Peer{run("b", "-1", gossip.Dead)}, true, true},
		"left":              {[]gossip.Peer{run("b", "-1", gossip.Left)}, true, true},
		"dead for long":     {[]gossip.Peer{earlier(run("b", "-1", gossip.Dead))}, false, true},
		"restarted":         {[]gossip.Peer{run("b", "-1", gossip.Dead), run("b", "-2", gossip.Alive)}, true, false},
		"restarted, dead":   {[]gossip.Peer{run("b", "-0", gossip.Dead), run("b", "-1", gossip.Left)}, true, true},
		"an earlier dead":   {[]gossip.Peer{run("b", "-0", gossip.Dead), run("b", "-1", gossip.Alive)}, false, false},
	}
	words := map[string]struct {
		answer srvboot.Answer
		gone   bool
		counts bool
	}{
		"nothing":             {srvboot.Answer{}, false, false},
		"heard b":             {answered("c", now, nil, "b"), false, true},
		"heard b, stale":      {answered("c", old, up, "b"), false, false},
		"heard b, gone since": {answered("c", now, up, "b"), true, false},
		"heard others":        {answered("c", now, up, "a", "c"), false, false},
		"publishes b":         {publishing(answered("c", now, nil), "b"), false, false},
	}
	for o, own := range own {
		for g, gossiped := range gossips {
			for w, word := range words {
				want := own.want
				switch {
				case want != unheard && (gossiped.gone || g == "dead for long" && own.answer.Err != ""):
					want = silent
				case want == unheard && word.counts && !gossiped.allOff:
					want = serves
				}
				h := hearing{self: "a", now: now, peers: slices.Clone(gossiped.peers), report: srvboot.Report{Answers: map[string]srvboot.Answer{"b": own.answer, "c": word.answer}}}
				if word.gone {
					h.peers = append(h.peers, run("c", "-1", gossip.Dead))
				}
				if got := h.judge("b"); got != want {
					t.Errorf("b: %s; gossip: %s; c: %s: %v, want %v", o, g, w, got, want)
				}
				if heard := slices.Contains(h.heard(), "b"); heard != (h.direct("b") == serves) || heard && own.want != serves {
					t.Errorf("b: %s; gossip: %s; c: %s: a says that it heard %v", o, g, w, h.heard())
				}
			}
		}
	}
}

// A node judges its own member by what that says, whatever others heard of it.
func TestJudgeOwn(t *testing.T) {
	others := map[string]srvboot.Answer{"c": answered("c", time.Now(), up, "a"), "b": answered("b", time.Now(), nil)}
	for _, c := range []struct {
		member *srvboot.MemberState
		want   verdict
		heard  []string
	}{
		{nil, silent, []string{"c"}},
		{&srvboot.MemberState{}, silent, []string{"c"}},
		{up, serves, []string{"a", "c"}},
	} {
		h := hearing{self: "a", now: time.Now(), report: srvboot.Report{State: srvboot.State{Member: c.member}, Answers: others}}
		if got := h.judge("a"); got != c.want || !slices.Equal(h.heard(), c.heard) {
			t.Errorf("%+v: %v and heard %v, want %v and %v", c.member, got, h.heard(), c.want, c.heard)
		}
	}
}

// What a node heard is its own: two that lost a third one do not keep it alive by each other's word.
func TestNoCircleOfHearsay(t *testing.T) {
	now := time.Now()
	heard := map[string][]string{"a": {"a", "b", "c"}, "b": {"a", "b", "c"}}
	for round := range 2 {
		next := map[string][]string{}
		for self, other := range map[string]string{"a": "b", "b": "a"} {
			h := hearing{self: self, now: now, report: srvboot.Report{State: srvboot.State{Member: up},
				Answers: map[string]srvboot.Answer{other: answered(other, now, up, heard[other]...), "c": answered("c", now.Add(-time.Hour), up)}}}
			if got, want := h.judge("c") == serves, round == 0; got != want {
				t.Errorf("round %d: %s takes c for serving: %v", round, self, got)
			}
			next[self] = h.heard()
		}
		heard = next
	}
	if got := fmt.Sprint(heard); got != "map[a:[a b] b:[a b]]" {
		t.Errorf("they heard %v", got)
	}
}

// A publisher that stands still does not keep a member alive by what it once heard.
func TestWhatWasHeardAges(t *testing.T) {
	p, now := &publisher{}, time.Now()
	if clients, heard := p.tell(now); clients != nil || heard != nil {
		t.Errorf("before the first round: %v, %v", clients, heard)
	}
	p.said.Store(&said{at: now, clients: map[string][]string{"": {"a"}}, heard: []string{"a"}})
	for after, want := range map[time.Duration]int{0: 1, staleAnswer: 1, staleAnswer + 1: 0} {
		if clients, heard := p.tell(now.Add(after)); len(clients) != 1 || len(heard) != want {
			t.Errorf("after %v: %v, %v", after, clients, heard)
		}
	}
}

// A node that answers although gossip has missed it for long is told of; one that is missed for a moment, that has left or that is silent is not.
func TestApart(t *testing.T) {
	now := time.Now()
	at := func(p gossip.Peer, since time.Duration) gossip.Peer {
		p.Since = now.Add(-since)
		return p
	}
	dead := run("b", "-1", gossip.Dead)
	for _, c := range []struct {
		name   string
		answer time.Time
		peers  []gossip.Peer
		want   bool
	}{
		{"long dead", now, []gossip.Peer{at(dead, lostFor+1)}, true},
		{"not so long", now, []gossip.Peer{at(dead, lostFor)}, false},
		{"long dead, and silent", now.Add(-staleAnswer - 1), []gossip.Peer{at(dead, time.Hour)}, false},
		{"asked before it was dead for so long", now.Add(-time.Second), []gossip.Peer{at(dead, lostFor+1)}, false},
		{"left", now, []gossip.Peer{at(run("b", "-1", gossip.Left), time.Hour)}, false},
		{"alive", now, []gossip.Peer{at(run("b", "-1", gossip.Alive), time.Hour)}, false},
		{"an earlier run is dead", now, []gossip.Peer{at(run("b", "-0", gossip.Dead), time.Hour), run("b", "-1", gossip.Alive)}, false},
		{"never met", now, nil, false},
	} {
		h := hearing{self: "a", now: now, peers: c.peers, report: srvboot.Report{Answers: map[string]srvboot.Answer{"b": answered("b", c.answer, up)}}}
		if got := slices.Equal(h.apart(), []string{"b"}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
