package node

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/follow"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// How often a member list that is followed is asked for, and how long one question may take. A change is published within
// two rounds and a question.
const (
	followEvery   = 500 * time.Millisecond
	followTimeout = time.Second
	// followRestored is long enough for a person to end what answers in a cluster's place.
	followRestored = 5 * time.Minute
)

// followers run one follow.Follower for each outside cluster of the Corefile that serves now.
type followers struct {
	log     *zap.Logger
	changed func()
	prompts prompt

	mu  sync.Mutex
	all map[string]*following // by srv-name, guarded by mu
	odd []string              // what is odd about what is published, guarded by mu
	// refused says of the clusters that are left out why the zone cannot hold their lists; guarded by mu.
	refused map[string]string

	// compile says why the zone cannot hold a roster. fits are its last verdicts, by srv-name. Both are the caller's of publish.
	compile func(r roster.Roster, records []dns.RR) error
	fits    map[string]fit
}

// following is one of them.
type following struct {
	*follow.Follower
	options OutsideOptions
	// stop ends its run; nil while it does not run.
	stop context.CancelFunc
}

// newFollowers returns followers of nothing. changed is called when a list changed, and must not block.
func newFollowers(log *zap.Logger, changed func()) *followers {
	return &followers{log: log, changed: changed, prompts: newPrompt(), all: map[string]*following{}, compile: compiles, fits: map[string]fit{}}
}

// set takes over a Corefile.
func (f *followers) set(o *Options) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := map[string]bool{}
	for _, c := range o.Clusters {
		if c.Outside == nil {
			continue
		}
		keep[c.Name] = true
		if was := f.all[c.Name]; was != nil {
			if reflect.DeepEqual(was.options, *c.Outside) {
				continue
			}
			was.end()
		}
		f.all[c.Name] = &following{options: *c.Outside, Follower: follow.New(follow.Options{Cluster: c.Name, Endpoints: c.Outside.Endpoints,
			CA: c.Outside.CA, Cert: c.Outside.Cert, Key: c.Outside.Key, ID: c.Outside.ID, File: o.File("followed-" + c.Name + ".json"),
			Every: followEvery, Timeout: followTimeout, Restored: followRestored, Changed: f.changed, Log: f.log})}
	}
	maps.DeleteFunc(f.all, func(name string, one *following) bool {
		if !keep[name] {
			one.end()
		}
		return !keep[name]
	})
	f.prompts.send()
}

func (f *following) end() {
	if f.stop != nil {
		f.stop()
	}
}

// run follows until ctx ends, and returns when every follower has ended.
func (f *followers) run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for {
		f.mu.Lock()
		for _, one := range f.all {
			if one.stop == nil {
				own, stop := context.WithCancel(ctx)
				one.stop = stop
				group.Go(func() { _ = one.Run(own) }) // it ends with its context, and has no other error
			}
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-f.prompts:
		}
	}
}

// sorted returns the followers in the order of srv-names.
func (f *followers) sorted() (names []string, out map[string]*follow.Follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out = map[string]*follow.Follower{}
	for name, one := range f.all {
		out[name] = one.Follower
	}
	return slices.Sorted(maps.Keys(out)), out
}

// lists are the member lists that are known, for the other nodes.
func (f *followers) lists() map[string]roster.Followed {
	names, all := f.sorted()
	var out map[string]roster.Followed
	for _, name := range names {
		if l, ok := all[name].List(); ok {
			if out == nil {
				out = map[string]roster.Followed{}
			}
			out[name] = l
		}
	}
	return out
}

// publish lays the lists over a roster, after what the other nodes know was taken in. told says who serves clients. A
// list that the zone cannot hold is left out: its own names are not answered for, and all others are.
func (f *followers) publish(r roster.Roster, answers map[string]srvboot.Answer, records []dns.RR) (out roster.Roster, told func(cluster, node string) bool) {
	names, all := f.sorted()
	serving := map[[2]string]bool{}
	var odd []string
	refused := map[string]string{}
	for _, name := range names {
		for _, a := range answers {
			if l, ok := a.State.Followed[name]; ok && a.Fresh(time.Now(), staleAnswer) {
				all[name].Learn(l)
			}
		}
		l, ok := all[name].List()
		if !ok {
			continue
		}
		next, more := r.Follow(name, l, func(label string) bool { return isTaken(r, records, label) })
		if err := f.fit(name, r, next, records); err != nil {
			refused[name] = strings.ReplaceAll(err.Error(), "\n", "; ")
			continue
		}
		r, odd = next, append(odd, more...)
		c, _ := r.Cluster(name)
		for _, m := range c.Members {
			serving[[2]string{name, m.Node}] = m.Serving
		}
	}
	f.mu.Lock()
	was := f.refused
	f.odd, f.refused = odd, refused
	f.mu.Unlock()
	for name, why := range refused {
		if was[name] != why {
			f.log.Error("the member list of a cluster that is followed cannot be published; all else is", zap.String("cluster", name), zap.String("why", why))
		}
	}
	return r, func(cluster, node string) bool { return serving[[2]string{cluster, node}] }
}

// fit is what the zone said of a roster with the list of one cluster.
type fit struct {
	roster  roster.Roster
	records []dns.RR
	err     error
}

// fit tries whether the zone can hold next, which is r with the list of one cluster more. That the zone cannot hold r
// itself is not that cluster's doing. The rack's own clusters are left out: what outside clusters share with them are
// the nodes, and what happens in them then costs no trial.
func (f *followers) fit(name string, r, next roster.Roster, records []dns.RR) error {
	r, next = outsideOnly(r), outsideOnly(next)
	last, ok := f.fits[name]
	if !ok || !slices.Equal(last.records, records) || !last.roster.Equal(next) {
		last = fit{roster: next, records: records}
		if last.err = f.compile(next, records); last.err != nil && f.compile(r, records) != nil {
			last.err = nil
		}
		f.fits[name] = last
	}
	return last.err
}

func outsideOnly(r roster.Roster) roster.Roster {
	r.Clusters = slices.DeleteFunc(slices.Clone(r.Clusters), func(c roster.Cluster) bool { return !c.Outside })
	return r
}

func compiles(r roster.Roster, records []dns.RR) error {
	_, err := zone.Compile(r, zone.Options{Records: records}, 0)
	return err
}

// isTaken reports whether a label below the domain is somebody's: a node's, a name server's, or that of a record.
func isTaken(r roster.Roster, records []dns.RR, label string) bool {
	name := label + "." + r.Domain
	return slices.ContainsFunc(r.Nodes, func(n roster.Node) bool { return n.Name == label || len(n.PeerAddrs) > 0 && n.PeerHost() == label }) ||
		slices.ContainsFunc(r.NameServers, func(s roster.NameServer) bool { return s.Name == name }) ||
		slices.ContainsFunc(records, func(rr dns.RR) bool { return strings.EqualFold(rr.Header().Name, name) })
}

// status of one outside cluster, and why its list is not published.
func (f *followers) status(cluster string) (s follow.Status, refused string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, ok := f.all[cluster]
	if !ok {
		return s, "", false
	}
	return one.Status(), f.refused[cluster], true
}

// oddities are what is odd about the lists that are published.
func (f *followers) oddities() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.odd)
}
