//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Question is what a Watcher asks.
type Question struct {
	Name string
	Type uint16
}

// Seen is a run of equal answers.
type Seen struct {
	Answer      string
	First, Last time.Time
	Count       int
}

// Watcher asks every node each of its questions 100 times a second.
type Watcher struct {
	// patience is how long a question waits for its answer, in the asker's own time: while the whole machine stands still, so does that.
	patience time.Duration
	stop     chan struct{}
	wg       sync.WaitGroup

	mu     sync.Mutex
	seen   map[string][]Seen
	silent map[string][]time.Time
	// late are how long answers took that came after all.
	late map[string][]time.Duration
}

// Ask100 starts asking every node from a host, until Stop or the end of the test. Nodes that do not answer, yet or
// any more, are asked all the same.
func (l *Lab) Ask100(from string, questions ...Question) *Watcher {
	l.t.Helper()
	return l.askPatiently(from, queryLimit, questions...)
}

// askPatiently is Ask100 that calls a question unanswered after the time given.
func (l *Lab) askPatiently(from string, patience time.Duration, questions ...Question) *Watcher {
	l.t.Helper()
	w := &Watcher{patience: patience, stop: make(chan struct{}), seen: map[string][]Seen{}, silent: map[string][]time.Time{}, late: map[string][]time.Duration{}}
	l.t.Cleanup(w.Stop)
	for _, node := range l.names {
		for _, q := range questions {
			conn, err := l.listen(from)
			if err != nil {
				l.t.Fatal(err)
			}
			a := &asker{Watcher: w, conn: conn, host: l.host(node), key: key(node, q), question: q, pending: map[uint16]outstanding{}, givenUp: map[uint16]outstanding{}}
			w.wg.Go(a.ask)
			w.wg.Go(a.listen)
		}
	}
	return w
}

// asker asks one node one question over one socket, wherever the node is.
type asker struct {
	*Watcher
	conn     *net.UDPConn
	host     *host
	key      string
	question Question
	// pending are the questions without an answer yet, by message id, and when they were sent, givenUp those that waited too
	// long; Watcher.mu guards both.
	pending, givenUp map[uint16]outstanding
}

// outstanding is a question without an answer: when it was sent, by the clock and by the asker's ticks.
type outstanding struct {
	at   time.Time
	tick int
}

// askEvery is the time between two questions.
const askEvery = 10 * time.Millisecond

// ask sends a question at every tick, and gives up on those that are too old.
func (a *asker) ask() {
	defer func() { _ = a.conn.Close() }()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		id := uint16(n)
		q := new(dns.Msg).SetQuestion(dns.Fqdn(a.question.Name), a.question.Type)
		q.Id = id
		a.mu.Lock()
		a.pending[id] = outstanding{time.Now(), n}
		for id, sent := range a.pending {
			if time.Duration(n-sent.tick)*askEvery > a.patience {
				delete(a.pending, id)
				a.givenUp[id] = sent
				a.silent[a.key] = append(a.silent[a.key], sent.at)
			}
		}
		a.mu.Unlock()
		if b, err := q.Pack(); err == nil {
			_, _ = a.conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(a.host.at(), 53)) // no route is silence
		}
		select {
		case <-a.stop:
			return
		case <-tick.C:
		}
	}
}

// listen notes the answers until the socket is closed.
func (a *asker) listen() {
	b := make([]byte, dns.MaxMsgSize)
	for {
		n, _, err := a.conn.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m := new(dns.Msg)
		if err != nil || m.Unpack(b[:n]) != nil {
			continue
		}
		a.mu.Lock()
		if sent, ok := a.pending[m.Id]; ok {
			delete(a.pending, m.Id)
			a.seen[a.key] = note(a.seen[a.key], Answer(m), sent.at, time.Now())
		} else if sent, ok := a.givenUp[m.Id]; ok {
			delete(a.givenUp, m.Id)
			a.late[a.key] = append(a.late[a.key], time.Since(sent.at))
		}
		a.mu.Unlock()
	}
}

// note adds an answer to the runs. Answers may overtake each other on their way: one of the former kind to a question
// that was sent before the newer kind first arrived says nothing new, and is left out.
func note(runs []Seen, answer string, sent, now time.Time) []Seen {
	n := len(runs)
	if n > 0 && runs[n-1].Answer == answer {
		runs[n-1].Last = now
		runs[n-1].Count++
		return runs
	}
	if n > 1 && runs[n-2].Answer == answer && sent.Before(runs[n-1].First) {
		return runs
	}
	return append(runs, Seen{Answer: answer, First: now, Last: now, Count: 1})
}

func key(node string, q Question) string {
	return node + " " + strings.TrimSuffix(q.Name, ".") + " " + dns.TypeToString[q.Type]
}

// Stop ends the asking. It may be called more than once.
func (w *Watcher) Stop() {
	w.mu.Lock()
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// Sequence is what a node answered to a question, in order, equal answers in a row as one.
func (w *Watcher) Sequence(node string, q Question) []Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Seen(nil), w.seen[key(node, q)]...)
}

// answered waits until each of the nodes has answered so, and returns how long after a moment each of them first did.
func (l *Lab) answered(w *Watcher, moment time.Time, nodes []string, q Question, so func(answer string) bool) (took []time.Duration) {
	l.t.Helper()
	for _, n := range nodes {
		l.Wait(n+" answers "+q.Name, healthyLimit, func() error {
			seen := w.Sequence(n, q)
			for _, s := range seen {
				if so(s.Answer) && s.Last.After(moment) {
					took = append(took, max(0, s.First.Sub(moment)))
					return nil
				}
			}
			return errorf("%v", seen)
		})
	}
	return took
}

// Silent is how many questions a node did not answer in time, a second unless it was asked patiently.
func (w *Watcher) Silent(node string, q Question) int { return len(w.Unanswered(node, q)) }

// Unanswered are the moments when a node was asked a question that it did not answer in time.
func (w *Watcher) Unanswered(node string, q Question) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.silent[key(node, q)])
}

// lateness tells of the answers that came too late.
func (w *Watcher) lateness(node string, q Question) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := w.late[key(node, q)]
	if len(late) == 0 {
		return "none came later"
	}
	return fmt.Sprintf("%d came later, after %v at most", len(late), slices.Max(late).Round(time.Millisecond))
}

// firstAnswers checks the answers of a node from its first boot on: SERVFAIL while it does not know, then NXDOMAIN
// while it knows that nothing is born, then the complete set for ever. Each but the last may be missing.
func firstAnswers(seq []Seen, complete string) error {
	return inOrder(seq, func(answer string) bool { return answer == complete })
}

// firstClients is firstAnswers for the client set. It begins and ends complete; in between it may be the members that
// serve clients at the time, when a busy machine makes one late: never empty, never anybody else.
func firstClients(seq []Seen, complete string) error {
	all := strings.Split(complete, ", ")
	born := slices.IndexFunc(seq, func(s Seen) bool { return s.Answer != "SERVFAIL" && s.Answer != "NXDOMAIN" })
	if born >= 0 && (seq[born].Answer != complete || seq[len(seq)-1].Answer != complete) {
		return fmt.Errorf("the set does not begin and end complete\n%s", story(seq))
	}
	return inOrder(seq, func(answer string) bool {
		return !slices.ContainsFunc(strings.Split(answer, ", "), func(r string) bool { return !slices.Contains(all, r) })
	})
}

func inOrder(seq []Seen, born func(answer string) bool) error {
	unborn := map[string]int{"SERVFAIL": 1, "NXDOMAIN": 2}
	last := 0
	for i, s := range seq {
		r := unborn[s.Answer]
		if r == 0 && born(s.Answer) {
			r = 3
		}
		if r == 0 {
			return fmt.Errorf("answer %d is partial or wrong: %s\n%s", i, s.Answer, story(seq))
		}
		if r < last {
			return fmt.Errorf("answer %d goes back to %s\n%s", i, s.Answer, story(seq))
		}
		last = r
	}
	if last != 3 {
		return fmt.Errorf("never complete\n%s", story(seq))
	}
	return nil
}

// story prints a sequence for a person.
func story(seq []Seen) string {
	var b strings.Builder
	for _, s := range seq {
		fmt.Fprintf(&b, "%v +%v ×%d: %s\n",
			s.First.Sub(seq[0].First).Round(time.Millisecond), s.Last.Sub(s.First).Round(time.Millisecond), s.Count, s.Answer)
	}
	return b.String()
}
