// Package follow keeps the member list of an etcd cluster that the rack does not run, so that the zone can publish it.
//
// It is a package of its own because nothing else speaks to etcd as a client: srvboot knows the rack's own member
// through the process that it runs, and decides about that one alone.
package follow

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Options are what a Follower works with.
type Options struct {
	// Cluster is the srv-name that the zone gives the cluster.
	Cluster string
	// Endpoints are client URLs of some members, at least one. The others are learned from the member list.
	Endpoints []string
	// CA, Cert and Key are PEM files for https; each may be empty: the system's roots, and no client certificate.
	CA, Cert, Key string
	// ID is the etcd cluster that is meant, 16 hexadecimal digits; empty for the one that is met first.
	ID string
	// File keeps the last good list.
	File string
	// Restored is how long its members must agree on a list of an earlier date than that of the known one.
	Restored time.Duration
	// Every is between two rounds; Timeout bounds one question.
	Every, Timeout time.Duration
	// Changed is called after the list changed, or who serves. It must not block.
	Changed func()
	Log     *zap.Logger
}

// Follower follows one cluster. Its list never goes back (R5): a member behind a cut, or one of an etcd before 3.5, which
// answers from its own memory, may tell an older one. What its members agree on for long is none of these, see agreeLocked.
type Follower struct {
	o Options
	// conns belongs to the goroutine of Run.
	conns conns

	mu    sync.Mutex
	list  roster.Followed // guarded by mu; without ClusterID while nothing is known
	saved roster.Followed // guarded by mu
	seen  map[string]Sight
	told  time.Time // when another node said who serves
	fault string
	// agreement is what the members tell; guarded by mu.
	agreement agreement
	warned    time.Time // when the log had the fault
}

// toldFor is how long the word of another node on who serves counts, and that of the members on the list.
const toldFor = 3 * time.Second

// warnEvery is how often a fault that changes is logged: a stranger's texts must not fill the log.
const warnEvery = time.Minute

// Sight is what a follower made of one member at its last look.
type Sight struct {
	// Error is why it does not count as serving; empty when it does.
	Error   string
	Version string
	Leader  bool
}

// Status is what a follower knows, for a person.
type Status struct {
	List roster.Followed
	// Members has a sight for each member's ID that was looked at.
	Members map[string]Sight
	// Fault is why the list may be old; empty when the last round took one.
	Fault string
}

// New returns a follower that knows what its file does, and does nothing until Run.
func New(o Options) *Follower {
	f := &Follower{o: o, conns: conns{o: o}, seen: map[string]Sight{}, fault: "no member was asked yet"}
	if err := f.load(); err != nil {
		o.Log.Error("the last good member list cannot be used", zap.String("cluster", o.Cluster), zap.Error(err))
	}
	return f
}

// List is the newest list; ok is false while none is known. It shares memory with later ones: do not write to it.
func (f *Follower) List() (l roster.Followed, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list, f.list.ClusterID != ""
}

// Status returns what is known.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{List: f.list, Members: maps.Clone(f.seen), Fault: f.fault}
}

// Run follows the cluster until ctx ends. It is called once.
func (f *Follower) Run(ctx context.Context) error {
	defer f.conns.close()
	tick := time.NewTicker(f.o.Every)
	defer tick.Stop()
	for {
		f.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Learn takes a list that another node of the rack has, if it is newer: this node may have no way to the cluster. While
// its members tell this node another list, theirs counts: the other node may be lied to. The sender's word on who serves
// counts while no member answers this node.
func (f *Follower) Learn(l roster.Followed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if own := f.agreement; time.Since(own.last) < toldFor && !own.list.Same(l) {
		return
	}
	err := f.takeLocked(l)
	if err != nil || f.list.Contact || !l.Contact || !f.list.Same(l) {
		return
	}
	f.told = time.Now()
	f.serveLocked(func(m roster.FollowedMember) bool {
		return slices.ContainsFunc(l.Members, func(o roster.FollowedMember) bool { return o.ID == m.ID && o.Serving })
	})
}

// takeLocked makes l the list if it is newer, and saves it. Of a list that says the same the known date stays: the date
// tells lists apart, and a quiet cluster must not cost a write a second.
func (f *Follower) takeLocked(l roster.Followed) error {
	if err := l.Check(); err != nil {
		return err
	}
	switch known := f.list; {
	case f.o.ID != "" && l.ClusterID != f.o.ID:
		return &strangerError{cluster: f.o.Cluster, got: l.ClusterID, want: f.o.ID}
	case f.o.ID == "" && known.ClusterID != "" && known.ClusterID != l.ClusterID:
		return &strangerError{cluster: f.o.Cluster, got: l.ClusterID, want: known.ClusterID}
	case known.ClusterID == l.ClusterID && known.Same(l):
		if l.Generation > known.Generation { // all nodes date it alike
			f.list.Generation, f.list.Index = l.Generation, l.Index
		}
	case known.ClusterID == l.ClusterID && !l.Later(known):
		return fmt.Errorf("it has the member list of raft index %d, and one of index %d is known", l.Index, known.Index)
	default:
		serving := map[string]bool{}
		for _, m := range known.Members {
			serving[m.ID] = m.Serving
		}
		l.Members = slices.Clone(l.Members)
		for i := range l.Members {
			l.Members[i].Serving = serving[l.Members[i].ID]
		}
		l.Contact = known.Contact
		f.list = l
		f.o.Log.Info("the member list changed", zap.String("cluster", f.o.Cluster), zap.Uint64("index", l.Index), zap.Int("members", len(l.Members)))
		f.o.Changed()
	}
	return f.saveLocked()
}

// serveLocked sets who serves.
func (f *Follower) serveLocked(serving func(roster.FollowedMember) bool) {
	next := slices.Clone(f.list.Members)
	for i := range next {
		next[i].Serving = serving(next[i])
	}
	changed := !slices.EqualFunc(next, f.list.Members, func(a, b roster.FollowedMember) bool { return a.Serving == b.Serving })
	f.list.Members = next
	if changed {
		f.o.Changed()
	}
}

// strangerError says that another etcd cluster answers.
type strangerError struct{ cluster, got, want string }

func (e *strangerError) Error() string {
	return fmt.Sprintf("an etcd cluster with the ID %s answers, expected %s; if it is the one that is meant now, write `id %s` into the block of cluster %s", e.got, e.want, e.got, e.cluster)
}

// round looks at every member that is known, and has those that serve tell the member list.
func (f *Follower) round(ctx context.Context) {
	known, _ := f.List()
	urls := slices.Clone(f.o.Endpoints)
	for _, m := range known.Members {
		// What only its own machine reaches may be another member here.
		urls = append(urls, slices.DeleteFunc(slices.Clone(m.ClientURLs), func(u string) bool { return !roster.Reachable(u) })...)
	}
	slices.Sort(urls)
	looks, err := f.conns.look(ctx, slices.Compact(urls))
	if ctx.Err() != nil {
		return
	}
	f.judge(looks)
	if err == nil {
		err = f.ask(ctx, looks)
		f.judge(looks) // the list may be a new one
	}
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.fault && (f.fault == "" || time.Since(f.warned) > warnEvery) {
		f.warned = time.Now()
		f.o.Log.Warn("the member list may be old", zap.String("cluster", f.o.Cluster), zap.Error(err))
	}
	f.fault = text
}

// judge says who serves: a member of this cluster that knows a leader, and is no learner, which serves no clients.
func (f *Follower) judge(looks []look) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, contact := map[string]Sight{}, false
	for _, l := range looks {
		if l.err == nil && (l.denied || f.list.ClusterID == "" || l.clusterID == f.list.ClusterID) {
			contact = true
			s := Sight{Error: l.why(), Version: l.version, Leader: l.leader}
			who := l.member(f.list)
			if was, twice := seen[who]; !twice || was.Error != "" {
				seen[who] = s
			}
		}
	}
	for _, m := range f.list.Members {
		if _, ok := seen[m.ID]; ok {
			continue
		}
		s := Sight{Error: "it advertises no client URL"}
		for _, l := range looks {
			if slices.Contains(m.ClientURLs, l.url) {
				s.Error = "it does not answer"
				if l.err != nil {
					s.Error = l.why()
				}
			}
		}
		seen[m.ID] = s
	}
	f.seen, f.list.Contact = seen, contact
	if contact || time.Since(f.told) > toldFor {
		f.serveLocked(func(m roster.FollowedMember) bool { return seen[m.ID].Error == "" })
	}
}
