package srvboot

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// OnlookerOptions are what an Onlooker works with; all are needed.
type OnlookerOptions struct {
	// Homes are the clusters of the domain that this node is no member of, each as one of its nodes has it but for
	// Home.Node, which is empty. It is asked at every step, so a reloaded configuration or a name heard of counts at once.
	Homes func() []Home
	// Ask asks a node at its admin port; see Peers.State.
	Ask func(ctx context.Context, node string) (State, error)
	// Every is between two questions to a node, up to seldom times as long when it has been silent. Timeout bounds one.
	Every, Timeout time.Duration
}

// Onlooker asks the nodes of the clusters that this node is no member of, so that every node of a domain publishes all
// of its clusters. It takes part in nothing: it only asks, and believes direct authenticated answers alone (R2, R5).
type Onlooker struct {
	o       OnlookerOptions
	events  chan func() (urgent bool)
	prompts chan string
	news    chan string
	changed chan struct{}
	report  atomic.Pointer[Sights]
	work    sync.WaitGroup

	// clusters belongs to the goroutine of Run.
	clusters map[string]*lookedAt
}

// lookedAt is what the onlooker keeps of one cluster.
type lookedAt struct {
	home  Home
	peers map[string]*peer
	sight
}

// Sights are what an onlooker knows.
type Sights struct {
	// Answers are the last answers of the nodes, by name.
	Answers map[string]Answer
	// Views say what may be published of each cluster, see Report.View; in the order of srv-names.
	Views []roster.View
}

// NewOnlooker returns an Onlooker that does nothing until Run.
func NewOnlooker(o OnlookerOptions) *Onlooker {
	w := &Onlooker{o: o, events: make(chan func() bool), prompts: make(chan string, 64), news: make(chan string, 64),
		changed: make(chan struct{}, 1), clusters: map[string]*lookedAt{}}
	w.report.Store(&Sights{Answers: map[string]Answer{}})
	return w
}

// Run asks until ctx ends. It is called once, and returns when the last question has ended.
func (w *Onlooker) Run(ctx context.Context) error {
	defer w.work.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(max(time.Millisecond, time.Until(w.step(ctx, time.Now()))))
		if w.await(ctx, timer.C) {
			timer.Reset(together)
			for w.await(ctx, timer.C) {
			}
		}
	}
	return nil
}

// together is how long answers are waited for after one came. The nodes of a domain are asked at once and answer within
// milliseconds; a look at all of them for each answer would be most of what an idle node does.
const together = 10 * time.Millisecond

// await takes in what happens next, and is false when the time is up, or when it is that a list has changed: that does not wait.
func (w *Onlooker) await(ctx context.Context, up <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case e := <-w.events:
		return !e()
	case name := <-w.prompts:
		w.prompted(name)
	case name := <-w.news:
		w.prompted(name)
		return false
	case <-up:
		return false
	}
	return true
}

// Changed receives after the sights changed; it holds one signal.
func (w *Onlooker) Changed() <-chan struct{} { return w.changed }

// Sights returns the latest sights. They share memory with later ones: do not write to them.
func (w *Onlooker) Sights() Sights { return *w.report.Load() }

// Prompt has a node asked at once, because something about it is news, if it is one of those that are looked at; the
// empty name stands for all. It never blocks: who is passed over is asked a moment later anyway.
func (w *Onlooker) Prompt(node string) {
	select {
	case w.prompts <- node:
	default:
	}
}

// Hear has a node asked at once that asked this one, if its list is later than what is known of its cluster. It never blocks.
func (w *Onlooker) Hear(from string, news News) {
	if !slices.ContainsFunc(w.Sights().Views, news.isNewsTo) {
		return
	}
	select {
	case w.news <- from:
	default:
	}
}

func (w *Onlooker) prompted(node string) {
	for _, c := range w.clusters {
		for name, p := range c.peers {
			if name == node || node == "" {
				p.askNow()
			}
		}
	}
}

func (w *Onlooker) post(ctx context.Context, f func() (urgent bool)) {
	select {
	case w.events <- f:
	case <-ctx.Done():
	}
}

// step asks whose turn it is, looks at what is known, and says when it wants to be called again at the latest.
func (w *Onlooker) step(ctx context.Context, now time.Time) (wake time.Time) {
	wake = now.Add(w.o.Every)
	known := map[string]bool{}
	for _, h := range w.o.Homes() {
		known[h.SrvName] = true
		c := w.clusters[h.SrvName]
		if c == nil {
			c = &lookedAt{peers: map[string]*peer{}, sight: sight{view: roster.View{Cluster: h.SrvName}}}
			w.clusters[h.SrvName] = c
		}
		c.home = h
		for _, p := range c.due(now) {
			p.next = now.Add(w.o.Every * p.patience())
			w.ask(ctx, c, p)
		}
		c.take(c.facts(now), listDate{})
		for _, p := range c.peers {
			if !p.asking && p.next.Before(wake) {
				wake = p.next
			}
		}
	}
	maps.DeleteFunc(w.clusters, func(name string, _ *lookedAt) bool { return !known[name] })
	w.publish()
	return wake
}

// facts are those of a node that has no part in the cluster: it was never born, and so does not stand in the way of
// "unborn", and it is not among those whose word counts.
func (c *lookedAt) facts(now time.Time) Facts {
	f := Facts{Now: now, Home: c.home, Disk: DiskFacts{Data: None}, Peers: make(map[string]Answer, len(c.peers))}
	for name, p := range c.peers {
		f.Peers[name] = p.Answer
	}
	return f
}

// due returns the nodes to ask now, and forgets those that nobody names any more.
func (c *lookedAt) due(now time.Time) (out []*peer) {
	names := look(c.facts(now)).askNames()
	for _, m := range c.view.Members {
		names = append(names, m.Node) // its line may be gone, and its member stays
	}
	names = sortedNames(names)
	for _, name := range names {
		p := c.peers[name]
		if p == nil {
			p = &peer{Answer: Answer{Node: name}}
			c.peers[name] = p
		}
		if !p.asking && !now.Before(p.next) {
			out = append(out, p)
		}
	}
	maps.DeleteFunc(c.peers, func(name string, p *peer) bool {
		return !slices.Contains(names, name) && !p.asking && !p.Fresh(now, FreshFor)
	})
	return out
}

const (
	// seldom bounds how much less often a silent node is asked; whoever starts is heard of by gossip, which prompts a question.
	seldom = 5
	// unheardOften is how many questions go unanswered before a node is asked less often.
	unheardOften = 3
)

// patience is how many periods a node is left in peace: a rack with machines that were never bought should cost its nodes
// little.
func (p *peer) patience() time.Duration {
	return time.Duration(min(max(1, p.unheard-unheardOften+1), seldom))
}

// ask asks beside the loop.
func (w *Onlooker) ask(ctx context.Context, c *lookedAt, p *peer) {
	p.asking = true
	name, asked := p.Node, time.Now()
	w.work.Go(func() {
		asking, cancel := context.WithTimeout(ctx, w.o.Timeout)
		defer cancel()
		s, err := w.o.Ask(asking, name)
		w.post(ctx, func() (urgent bool) {
			p.answered(asked, s, err)
			return err == nil && newsOf(s.View).isNewsTo(c.view)
		})
	})
}

// answered takes in an answer. One question is under way at a time, so that answers come in the order of questions; one
// that was on its way when its sender restarted may still be of an earlier moment.
func (p *peer) answered(asked time.Time, s State, err error) {
	p.asking = false
	if p.again {
		p.again, p.next = false, time.Time{}
	}
	p.unheard++
	switch {
	case err != nil:
		p.Err = err.Error()
	case s.Node == p.Node && !s.before(p.State):
		if p.patience() > 1 {
			p.next = time.Time{} // the pause that began with this question was for a silent node
		}
		p.unheard = 0
		p.At, p.Asked, p.State, p.Err = time.Now(), asked, s, ""
	}
}

// publish stores the sights and signals when they differ from the last ones in more than the time of an answer.
func (w *Onlooker) publish() {
	s := Sights{Answers: map[string]Answer{}}
	for _, name := range slices.Sorted(maps.Keys(w.clusters)) {
		c := w.clusters[name]
		s.Views = append(s.Views, c.view)
		for node, p := range c.peers {
			// A node that two clusters name is in one of them, which it says itself.
			if _, named := s.Answers[node]; !named || p.State.SrvName == name {
				s.Answers[node] = p.Answer
			}
		}
	}
	last := w.report.Swap(&s)
	if reflect.DeepEqual(timelessAnswers(last.Answers), timelessAnswers(s.Answers)) && reflect.DeepEqual(last.Views, s.Views) {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
