//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsWatch asks every node of a rack for its records 100 times a second while faults happen, and knows when a node may be
// silent and what it may say.
type dnsWatch struct {
	*Watcher
	lab            *Lab
	server, client Question
	// silences are when each node need not answer. The last one of a node is open until it answers again.
	silences map[string][]quietness
	// moves are the nodes whose membership changes meanwhile: they may be in the records or not. blank are those that know
	// nothing at first, and say so.
	moves, blank map[string]bool
	// began is when each node was heard again, started when it was started, each time.
	began   map[string]time.Time
	started map[string][]time.Time
	// out are the nodes of which nothing changes but that a person ordered them out, and when somebody first let them in again.
	out map[string]time.Time
	// rewound are those whose disk was put back to what it was. upsets is how much happened, each of which may make a leader change.
	rewound map[string]bool
	upsets  int
}

// dnsPatience is how long an answer may take. It is what dig waits; on a machine with more racks than cores a process may not run for
// a second, and so may the watcher itself.
const dnsPatience = 5 * time.Second

// clock is how times are told to a person.
const clock = "15:04:05.000"

type quietness struct{ from, to time.Time }

func (l *Lab) watchDNS() *dnsWatch {
	w := l.newDNSWatch(Question{l.service("server"), dns.TypeSRV}, Question{l.service("client"), dns.TypeSRV})
	w.Watcher = l.askPatiently(clientHost, dnsPatience, w.server, w.client)
	return w
}

// newDNSWatch is one that asks nobody yet.
func (l *Lab) newDNSWatch(server, client Question) *dnsWatch {
	return &dnsWatch{Watcher: &Watcher{stop: make(chan struct{})}, lab: l, server: server, client: client, silences: map[string][]quietness{},
		moves: map[string]bool{}, blank: map[string]bool{}, rewound: map[string]bool{}, began: map[string]time.Time{}, started: map[string][]time.Time{},
		out: map[string]time.Time{}}
}

// excuse lets a node be silent from now until it is heard.
func (w *dnsWatch) excuse(node string) {
	w.upsets++
	if !w.excused(node) {
		w.silences[node] = append(w.silences[node], quietness{from: time.Now()})
	}
}

func (w *dnsWatch) excused(node string) bool {
	s := w.silences[node]
	return len(s) > 0 && s[len(s)-1].to.IsZero()
}

// heard ends the excuse of a node that answers.
func (w *dnsWatch) heard(node string) error {
	if !w.excused(node) {
		return nil
	}
	if _, err := w.lab.Query(clientHost, w.lab.Addr(node), w.lab.Domain, dns.TypeNS); err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	w.began[node] = time.Now()
	w.silences[node][len(w.silences[node])-1].to = w.began[node]
	return nil
}

func (w *dnsWatch) changes(node string) {
	w.upsets++
	w.moves[node] = true
	delete(w.out, node)
}

func (w *dnsWatch) forgets(node string) {
	w.changes(node)
	w.blank[node] = true
}

func (w *dnsWatch) rewinds(node string) {
	w.changes(node)
	w.rewound[node] = true
}

func (w *dnsWatch) starts(node string) { w.started[node] = append(w.started[node], time.Now()) }

// leaves says that a node is ordered out, admits that it is let in again, stays that the order out was refused, and nothing else changed.
func (w *dnsWatch) leaves(node string) {
	w.upsets++
	if !w.moves[node] {
		w.moves[node], w.out[node] = true, time.Time{}
	}
}

func (w *dnsWatch) admits(node string) {
	w.upsets++
	if at, ok := w.out[node]; ok && at.IsZero() {
		w.out[node] = time.Now()
	}
}

func (w *dnsWatch) stays(node string) {
	delete(w.moves, node)
	delete(w.out, node)
}

// judge says what was wrong since the watch began, of the nodes that were in the rack then or came into it.
func (w *dnsWatch) judge(nodes []string) error {
	var all error
	for _, n := range nodes {
		for _, q := range []Question{w.server, w.client} {
			if at := w.unexcused(n, q); fellSilent(at) {
				all = errors.Join(all, fmt.Errorf("%w: %s left %d questions for %s unanswered for %v, the first at %s, the last at %s; of all such %s",
					errDNS, n, len(at), q.Name, dnsPatience, at[0].Format(clock), at[len(at)-1].Format(clock), w.lateness(n, q)))
			}
			seq := w.Sequence(n, q)
			if i := slices.IndexFunc(seq, func(s Seen) bool { return s.Answer != "SERVFAIL" }); w.blank[n] && i > 0 {
				seq = seq[i:]
			}
			for i, s := range seq {
				if s.Answer == "SERVFAIL" && i > 0 && w.ignorant(n, seq[i-1], s) {
					continue
				}
				if err := w.right(nodes, q, s.Answer); err != nil {
					all = errors.Join(all, fmt.Errorf("%w: %s, answer %d to %s: %w\n%s", errDNS, n, i, q.Name, err, story(seq)))
					break
				}
			}
		}
		if err := w.steady(n); err != nil {
			all = errors.Join(all, fmt.Errorf("%w: %s, %w\n%s", errDNS, n, err, story(w.Sequence(n, w.server))))
		}
	}
	return all
}

// lastWords is how long after a start answers of the run before may still be read.
const lastWords = time.Second

// steady is an error if members come and go in a node's server records as memberships do not. A membership changes no more often than things
// happen. And one of which nothing changes but that a person ordered it out is there, and then it is not, until somebody lets it in: that holds
// for one run of the node, which has to learn again what it was about to write when it was killed.
func (w *dnsWatch) steady(node string) error {
	if w.blank[node] || w.rewound[node] {
		return nil // it had to learn everything again
	}
	for _, member := range slices.Sorted(maps.Keys(w.moves)) {
		record := w.lab.targets("server", member)
		letIn, out := w.out[member]
		times, last := 0, time.Time{} // when it was last not there, since it was
		for _, s := range w.Sequence(node, w.server) {
			switch there := slices.Contains(strings.Split(s.Answer, ", "), record); {
			case s.Answer == "SERVFAIL":
			case !there:
				if last.IsZero() {
					times++
				}
				last = s.Last
			case !last.IsZero():
				if out && last.After(w.runAt(node, s.First).Add(lastWords)) && (letIn.IsZero() || s.First.Before(letIn)) {
					return fmt.Errorf("%s was ordered out and came back at %s, though nobody had let it in", member, s.First.Format(clock))
				}
				last = time.Time{}
			}
		}
		if times > max(1, w.upsets) {
			return fmt.Errorf("%s was missing %d times, and %d things happened", member, times, w.upsets)
		}
	}
	return nil
}

// runAt is when the run of a node began that it is in at a time.
func (w *dnsWatch) runAt(node string, t time.Time) (began time.Time) {
	for _, s := range w.started[node] {
		if s.Before(t) {
			began = s
		}
	}
	return began
}

// unexcused are the moments of questions that nobody had a reason not to answer. One asked within the last second before a
// silence may have been on its way.
func (w *dnsWatch) unexcused(node string, q Question) (at []time.Time) {
	for _, t := range w.Unanswered(node, q) {
		if !slices.ContainsFunc(w.silences[node], func(s quietness) bool {
			return t.After(s.from.Add(-queryLimit)) && (s.to.IsZero() || t.Before(s.to))
		}) {
			at = append(at, t)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// strayLosses are how many of the hundred questions of a second may get lost. UDP promises nothing, and kernels of machines that have
// no time drop packets; whoever asks again gets an answer.
const strayLosses = 5

// fellSilent says whether more questions than that went unanswered in any one second.
func fellSilent(at []time.Time) bool {
	for i := strayLosses; i < len(at); i++ {
		if at[i].Sub(at[i-strayLosses]) < time.Second {
			return true
		}
	}
	return false
}

// ignorant says whether answers are the first of a run of a node that had lost its memory: what it knew, it goes on knowing.
func (w *dnsWatch) ignorant(node string, before, s Seen) bool {
	began := w.runAt(node, s.First)
	return w.blank[node] && !began.IsZero() && before.Last.Before(began.Add(lastWords))
}

// right is an error if an answer is partial or says that there is nothing.
func (w *dnsWatch) right(nodes []string, q Question, answer string) error {
	kind := map[bool]string{true: "server", false: "client"}[q == w.server]
	said := strings.Split(answer, ", ")
	all := slices.AppendSeq(slices.Clone(nodes), maps.Keys(w.moves))
	slices.Sort(all)
	for _, n := range slices.Compact(all) {
		record := w.lab.targets(kind, n)
		i := slices.Index(said, record)
		if i >= 0 {
			said = slices.Delete(said, i, i+1)
		} else if q == w.server && !w.moves[n] {
			return fmt.Errorf("%s lacks %s", answer, n)
		}
	}
	if len(said) > 0 || answer == "" {
		return fmt.Errorf("it says %s", answer)
	}
	return nil
}

// The judge of DNS itself: what a node may say and when it may be silent, and what it may not.
func TestCampaignDNSJudge(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	l := &Lab{Options: Options{Domain: "rack1.example.com"}}
	nodes := []string{"infra0", "infra1", "infra2"}
	all, two, clients := l.targets("server", nodes...), l.targets("server", "infra0", "infra1"), l.targets("client", nodes...)
	for _, tt := range []struct {
		name   string
		server []Seen
		client []Seen
		// unanswered are moments, quiet the times when infra0 need not answer.
		unanswered   []time.Time
		quiet        []quietness
		moves, blank []string
		// out are who was ordered out, and when they were let in, rewound whose disk is an older one, started when infra0 was.
		out     map[string]time.Time
		rewound []string
		started []time.Time
		upsets  int
		bad     string
	}{
		{name: "always complete", server: []Seen{{all, at(0), at(9), 900}}, client: []Seen{{clients, at(0), at(9), 900}}},
		{name: "partial", server: []Seen{{all, at(0), at(4), 400}, {two, at(4), at(9), 500}}, bad: "lacks infra2"},
		{name: "without a member that is replaced", server: []Seen{{two, at(4), at(9), 500}}, moves: []string{"infra2"}},
		{name: "clients without one that died", client: []Seen{{l.targets("client", "infra1"), at(0), at(9), 900}}},
		{name: "no clients at all", client: []Seen{{"NODATA", at(0), at(9), 900}}, bad: "it says NODATA"},
		{name: "a stranger", server: []Seen{{all + ", 0 0 2380 infra9.rack1.example.com.", at(0), at(9), 900}}, bad: "infra9"},
		{name: "SERVFAIL", server: []Seen{{all, at(0), at(4), 400}, {"SERVFAIL", at(4), at(5), 100}}, bad: "SERVFAIL"},
		{name: "denied", server: []Seen{{"NXDOMAIN", at(0), at(4), 400}}, moves: nodes, blank: nodes, bad: "NXDOMAIN"},
		{name: "blank, and ignorant", server: []Seen{{all, at(0), at(1), 100}, {"SERVFAIL", at(3), at(5), 100}, {all, at(5), at(9), 400}},
			quiet: []quietness{{at(1), at(3)}}, started: []time.Time{at(2)}, moves: []string{"infra0"}, blank: []string{"infra0"}},
		{name: "blank, and forgetful", server: []Seen{{"SERVFAIL", at(3), at(5), 100}, {all, at(5), at(7), 200}, {"SERVFAIL", at(7), at(8), 100}},
			quiet: []quietness{{at(1), at(3)}}, started: []time.Time{at(2)}, moves: []string{"infra0"}, blank: []string{"infra0"}, bad: "SERVFAIL"},
		{name: "ignorant without a loss", server: []Seen{{all, at(0), at(1), 100}, {"SERVFAIL", at(3), at(5), 100}},
			quiet: []quietness{{at(1), at(3)}}, started: []time.Time{at(2)}, bad: "SERVFAIL"},
		{name: "silent while dead", unanswered: slices.Repeat([]time.Time{at(2)}, 99), quiet: []quietness{{at(1), at(3)}}},
		{name: "silent while alive", unanswered: slices.Repeat([]time.Time{at(4)}, 6), quiet: []quietness{{at(1), at(3)}}, bad: "6 questions"},
		{name: "a packet lost now and then", unanswered: []time.Time{at(4), at(4), at(5), at(6), at(6), at(7)}},
		{name: "ordered out", server: []Seen{{all, at(0), at(4), 400}, {two, at(4), at(9), 500}}, out: map[string]time.Time{"infra2": {}}},
		{name: "ordered out, and back by itself", server: []Seen{{all, at(0), at(4), 400}, {two, at(4), at(6), 200}, {all, at(6), at(9), 300}},
			out: map[string]time.Time{"infra2": {}}, upsets: 9, bad: "infra2 was ordered out and came back"},
		{name: "back a moment before it was let in", server: []Seen{{two, at(4), at(6), 200}, {all, at(6), at(9), 300}},
			out: map[string]time.Time{"infra2": at(7)}, bad: "infra2 was ordered out and came back"},
		{name: "ordered out and let in again", server: []Seen{{all, at(0), at(4), 400}, {two, at(4), at(6), 200}, {all, at(6), at(9), 300}},
			out: map[string]time.Time{"infra2": at(5)}},
		{name: "killed before it wrote who is out", server: []Seen{{two, at(3), at(4), 100}, {all, at(6), at(7), 100}, {two, at(7), at(9), 200}},
			out: map[string]time.Time{"infra2": {}}, started: []time.Time{at(1), at(5)}, upsets: 2},
		{name: "back in the run that knew", server: []Seen{{two, at(3), at(7), 100}, {all, at(8), at(9), 100}},
			out: map[string]time.Time{"infra2": {}}, started: []time.Time{at(5)}, bad: "came back"},
		{name: "an older disk", server: []Seen{{two, at(3), at(4), 100}, {all, at(6), at(7), 100}, {two, at(7), at(9), 200}},
			out: map[string]time.Time{"infra2": {}}, rewound: []string{"infra0"}},
		{name: "replaced", server: []Seen{{all, at(0), at(1), 99}, {two, at(1), at(2), 99}, {all, at(2), at(3), 99}}, moves: []string{"infra2"}, upsets: 1},
		{name: "comes and goes", server: []Seen{{all, at(0), at(1), 99}, {two, at(1), at(2), 99}, {all, at(2), at(3), 99}, {two, at(3), at(4), 99}, {all, at(4), at(5), 99}},
			moves: []string{"infra2"}, upsets: 1, bad: "infra2 was missing 2 times, and 1 things happened"},
		{name: "silent and never back", unanswered: slices.Repeat([]time.Time{at(4)}, 99), quiet: []quietness{{from: at(1)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := l.newDNSWatch(Question{"s", dns.TypeSRV}, Question{"c", dns.TypeSRV})
			w.silences["infra0"] = tt.quiet
			w.seen = map[string][]Seen{key("infra0", w.server): tt.server, key("infra0", w.client): tt.client}
			w.silent = map[string][]time.Time{key("infra0", w.server): tt.unanswered}
			for _, n := range tt.moves {
				w.moves[n] = true
			}
			for _, n := range tt.blank {
				w.blank[n] = true
			}
			for n, when := range tt.out {
				w.moves[n], w.out[n] = true, when
			}
			for _, n := range tt.rewound {
				w.rewound[n] = true
			}
			w.started["infra0"], w.upsets = tt.started, tt.upsets
			err := w.judge(nodes)
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("got %v, want %q", err, tt.bad)
			}
		})
	}
}
