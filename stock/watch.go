package stock

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"time"
)

const (
	// lookEvery is how often a member without a leader looks at its peers.
	lookEvery = time.Second
	// looks is how often in a row it must see the same before it is believed: peers may be about to end themselves.
	looks = 3
)

// watch looks, until a member has a leader for the first time, whether it ever can: with a majority of its members in another
// cluster there will be none. etcd would log "request cluster ID mismatch" for ever. A member that has seen no leader has
// acknowledged nothing since it started, so that no data depends on its going on.
type watch struct {
	s *settings
	// fresh says that this is the member's first start.
	fresh bool
	every time.Duration
	// led reports whether the member has a leader.
	led func() bool
}

func newWatch(s *settings, fresh bool) *watch {
	return &watch{s: s, fresh: fresh, every: lookEvery, led: hasLeader}
}

// run returns nil when the member has a leader or ctx ends, and what is wrong when it cannot get one.
func (w *watch) run(ctx context.Context) error {
	urls, err := w.s.urls("initial-advertise-peer-urls")
	if err != nil {
		return nil //nolint:nilerr // etcd says it
	}
	ask, err := newAsker(w.s, w.fresh && w.s.checksDomain(urls.StringSlice()))
	if err != nil {
		return nil //nolint:nilerr // etcd says it
	}
	defer ask.CloseIdleConnections()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for seen := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.led() {
			return nil
		}
		problem := w.look(ctx, ask, urls.StringSlice())
		if problem == nil {
			seen = 0
			continue
		}
		if seen++; seen == looks {
			return problem
		}
	}
}

// look asks the member itself what its cluster and its peers are, and then those.
func (w *watch) look(ctx context.Context, ask asker, own []string) *Problem {
	var self identity
	for _, id := range ask.all(ctx, own) {
		if id.cluster != "" {
			self = id
		}
	}
	var urls []string
	member, voters := map[string]int{}, 0
	for i, m := range self.members {
		if m.IsLearner {
			continue
		}
		voters++
		for _, u := range m.PeerURLs {
			urls = append(urls, u)
			member[u] = i
		}
	}
	strangers, other, at := map[int]bool{}, "", "" // none while the member itself does not answer
	for u, id := range ask.all(ctx, urls) {
		if id.cluster != "" && id.cluster != self.cluster {
			strangers[member[u]] = true
			if at == "" || u < at {
				other, at = id.cluster, u
			}
		}
	}
	if quorum := voters/2 + 1; at == "" || voters-len(strangers) >= quorum {
		return nil
	}
	what := fmt.Sprintf("conflicting cluster ID to the target cluster (%s != %s): %s says the first, as do %d of the %d members that %s has in its own, which has the second. Exiting.",
		other, self.cluster, at, len(strangers), voters, w.s.get("name"))
	fix := fmt.Sprintf("%s holds a member of the second cluster: correct --data-dir, or --initial-advertise-peer-urls", w.s.dir())
	if w.fresh {
		fix = fmt.Sprintf("remove %s, which this start has made; then etcdctl member add %s --peer-urls=%s to join the first cluster, or correct --initial-cluster and --initial-cluster-token",
			w.s.dir(), w.s.get("name"), w.s.get("initial-advertise-peer-urls"))
	}
	return &Problem{What: what, Fix: fix}
}

// hasLeader asks raft, of the etcd in this process, by the variable that it publishes (etcdserver/raft.go). It is null until
// raft runs.
func hasLeader() bool {
	var status struct {
		Lead string `json:"lead"` // in hexadecimal
	}
	v := expvar.Get("raft.status")
	return v != nil && json.Unmarshal([]byte(v.String()), &status) == nil && status.Lead != "" && status.Lead != "0"
}
