//go:build linux

package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// bornLimit is how long after birth a resolver may give an answer of before: the negative TTL of 5 s (RFC 2308 §5), or as long for
// a failure (RFC 9520 §3.2 lets it be five minutes), and a second for caches that count whole ones.
const bornLimit = 6 * time.Second

// silence stands for an answer that did not come.
const silence = "silence"

// early is a client that asks a resolver for one name again and again, from before birth on.
type early struct {
	*resolver
	asked

	mu sync.Mutex
	// heard counts the answers that are not the one of after birth, and last is when the last question was sent that got one.
	// Silence is one of them until the first answer of after birth; later on it only says that the machine is busy.
	heard map[string]int
	last  time.Time
	// final counts the answers of after birth in a row; known says that there was one.
	final int
	known bool
}

// note takes down the answer to a question that was sent at the time given.
func (e *early) note(answer string, sent time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.isFinal(answer):
		e.known = true
		e.final++
		return
	case answer == silence && e.known:
		return
	}
	e.heard[answer]++
	e.last, e.final = sent, 0
}

// isFinal reports whether an answer is one of after birth. Of the clients it may be some, as a busy machine may make one late.
func (e *early) isFinal(answer string) bool {
	if e.answer == "NXDOMAIN" {
		return answer == e.answer
	}
	all := strings.Split(e.answer, ", ")
	return answer == e.answer || strings.HasPrefix(e.Name, "_etcd-client") &&
		!slices.ContainsFunc(strings.Split(answer, ", "), func(r string) bool { return !slices.Contains(all, r) })
}

// look returns how often which older answer came, and how many of the last answers were those of after birth.
func (e *early) look() (heard map[string]int, final int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.heard), e.final
}

// ask asks every 100 ms until stop is closed. No answer within a second is silence.
func (e *early) ask(conn *dns.Conn, stop <-chan struct{}) {
	defer func() { _ = conn.Close() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		sent := time.Now()
		if m, err := exchange(conn, e.Name, e.Type); err != nil {
			e.note(silence, sent)
		} else {
			e.note(Answer(m), sent)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// birth has clients ask every resolver for all four names while the nodes give the answer of before birth, lets the cluster be born,
// and measures how long each resolver gives older answers than the nodes do.
func (f *front) birth(t *testing.T, before string, release func()) {
	t.Helper()
	members := Question{f.service("server"), dns.TypeSRV}
	watch := f.Ask100(clientHost, members)
	clients, stop := f.clients(t)
	defer stop()
	f.Wait("every resolver has been asked", 60*time.Second, func() error {
		for _, e := range clients {
			// Some are silent for long, because they wait for a node that is.
			heard, final := e.look()
			if e.answer == before { // as it will be
				heard[before] = final
			}
			if heard[before] < 5 && heard[silence] < 5 {
				return fmt.Errorf("%s says to %s %v", e.name, e.Name, heard)
			}
		}
		return nil
	})
	release()
	f.Wait("every resolver knows of the birth", 60*time.Second, func() error {
		for _, e := range clients {
			if heard, final := e.look(); final < 10 {
				return fmt.Errorf("%s says to %s %v", e.name, e.Name, heard)
			}
		}
		return nil
	})
	stop()
	watch.Stop()
	first, last := f.bornAt(t, watch, members)
	for _, e := range clients {
		e.judge(t, before, first, last)
	}
}

// bornAt is when the first and the last node began to give the complete set.
func (f *front) bornAt(t *testing.T, watch *Watcher, members Question) (first, last time.Time) {
	t.Helper()
	for _, n := range f.names {
		seen := watch.Sequence(n, members)
		i := slices.IndexFunc(seen, func(s Seen) bool { return s.Answer == f.complete("server") })
		if i < 0 {
			t.Fatalf("%s is not born: %s", n, story(seen))
		}
		at := seen[i].First
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return first, last
}

// clients starts one for each resolver and name. They end when stop is called, which may be more than once.
func (f *front) clients(t *testing.T) (all []*early, stop func()) {
	t.Helper()
	end := make(chan struct{})
	var group sync.WaitGroup
	stop = sync.OnceFunc(func() {
		close(end)
		group.Wait()
	})
	t.Cleanup(stop)
	for _, r := range f.resolvers {
		for _, q := range f.services() {
			conn, err := f.dial(clientHost, r.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			e := &early{resolver: r, asked: q, heard: map[string]int{}}
			all = append(all, e)
			group.Go(func() { e.ask(conn, end) })
		}
	}
	return all, stop
}

// judge prints how long after the first node's birth a resolver gave older answers, and wants them to have been right, and to have
// ended in time after the last node's: until then it may be told an older one.
func (e *early) judge(t *testing.T, before string, first, last time.Time) {
	t.Helper()
	var heard []string
	for _, a := range slices.Sorted(maps.Keys(e.heard)) {
		heard = append(heard, fmt.Sprintf("%s ×%d", a, e.heard[a]))
		if a != "SERVFAIL" && a != "NXDOMAIN" && a != silence {
			t.Errorf("%s says to %s %s", e.name, e.Name, a)
		}
	}
	if e.answer == before {
		return
	}
	t.Logf("%-14s %-40s %6.3f s after birth; before that %s", e.name, e.Name, max(0, e.last.Sub(first).Seconds()), strings.Join(heard, ", "))
	limit := bornLimit
	if !e.Stub {
		limit = max(limit, e.late)
	}
	if late := e.last.Sub(last); late > limit {
		t.Errorf("%s gives an older answer to %s %v after birth, want at most %v", e.name, e.Name, late, limit)
	}
}
