package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// answer is what one member told of the member list.
type answer struct {
	url  string
	list roster.Followed
	err  error
}

// agreement is a member list that more than half of the members that answer tell.
type agreement struct {
	list roster.Followed
	// since is when they began to, last when they did so last.
	since, last time.Time
}

// agreeGap is how long an agreement may be silent and still go on.
const agreeGap = 10 * time.Second

// ask has every member that serves tell the list, and takes the one that more than half of those that answer tell. A
// member that lies is outvoted, and so is one of an etcd before 3.5 that lags.
func (f *Follower) ask(ctx context.Context, looks []look) error {
	known, _ := f.List()
	answers, errs := f.poll(ctx, looks, known)
	list, more := agreed(answers)
	if more != nil || len(answers) == 0 {
		return joined(append(errs, more...))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.agreeLocked(list, time.Now())
}

// poll asks each member once, however many URLs it has. errs are of those that have no say: they do not answer, or are
// of another cluster.
func (f *Follower) poll(ctx context.Context, looks []look, known roster.Followed) (answers []answer, errs []error) {
	want := cmp.Or(f.o.ID, known.ClusterID)
	asked := map[string]bool{}
	var all sync.WaitGroup
	room := make(chan struct{}, maxAtOnce)
	looks = slices.SortedStableFunc(slices.Values(looks), func(a, b look) int { return cmp.Compare(len(a.why()), len(b.why())) })
	answers = make([]answer, 0, len(looks)) // it does not move while they write to it
	for _, l := range looks {
		who := l.member(known)
		switch {
		case l.err != nil || l.learner:
			errs = append(errs, fmt.Errorf("%s: %s", l.url, l.why()))
			continue
		case want != "" && l.clusterID != want && !l.denied:
			errs = append(errs, fmt.Errorf("%s: %w", l.url, &strangerError{cluster: f.o.Cluster, got: l.clusterID, want: want}))
			continue
		case asked[who]:
			continue
		}
		asked[who] = true
		answers = append(answers, answer{url: l.url})
		a := &answers[len(answers)-1]
		if why := l.why(); why != "" {
			a.err = errors.New(why)
			continue
		}
		all.Go(func() {
			room <- struct{}{}
			a.list, a.err = f.conns.list(ctx, l.url, known)
			<-room
		})
	}
	all.Wait()
	return answers, errs
}

// member is who has a vote at a URL: the member that advertises it, so that one which lies has no vote of another's; at
// an endpoint that no member advertises the one that it says it is.
func (l look) member(known roster.Followed) string {
	owner := ""
	for _, m := range known.Members {
		if slices.Contains(m.ClientURLs, l.url) {
			if m.ID == l.memberID { // several may stand behind one URL
				return m.ID
			}
			owner = cmp.Or(owner, m.ID)
		}
	}
	return cmp.Or(owner, l.memberID, l.url)
}

// agreed returns the list that more than half tell, with the middle one of their dates, the lower of two: a date out of
// the air would bar all later lists.
func agreed(answers []answer) (list roster.Followed, errs []error) {
	for _, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.url, a.err))
			continue
		}
		errs = append(errs, fmt.Errorf("%s: it tells a list of %d members that not more than half of the %d members that answer tell", a.url, len(a.list.Members), len(answers)))
		var dates []uint64
		for _, o := range answers {
			if o.err == nil && o.list.Same(a.list) {
				dates = append(dates, o.list.Index)
			}
		}
		if len(dates) > len(answers)/2 {
			slices.Sort(dates)
			a.list.Index = dates[(len(dates)-1)/2]
			return a.list, nil
		}
	}
	return list, errs
}

// agreeLocked takes a list that the members agree on. When its date is an earlier one than that of the known list, the
// cluster was restored from a snapshot, or the known list is a lie: it is taken once they have agreed on it for so long
// that it is no moment's error, and begins a new generation.
func (f *Follower) agreeLocked(l roster.Followed, now time.Time) error {
	if was := f.agreement; !was.list.Same(l) || now.Sub(was.last) > agreeGap {
		f.agreement = agreement{list: l, since: now}
	}
	f.agreement.last = now
	known := f.list
	l.Generation = known.Generation
	if known.ClusterID == l.ClusterID && !known.Same(l) && !l.Later(known) {
		if at := f.agreement.since.Add(f.o.Restored); now.Before(at) {
			return fmt.Errorf("its members agree on the member list of raft index %d, and one of index %d is known; a cluster that was restored from a snapshot is like that: "+
				"if they still agree then, it is taken at %s", f.agreement.list.Index, known.Index, at.UTC().Format("15:04:05Z"))
		}
		l.Generation++
	}
	return f.takeLocked(l)
}

// joined joins what went wrong, of many the first ones.
func joined(errs []error) error {
	const some = 8
	if more := len(errs) - some; more > 0 {
		errs = append(slices.Clone(errs[:some]), fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}
