package srvboot

import "time"

const (
	// learnerPause is how long a node is not let in again whose second learner had to be taken out, and learnerPauseMax the most that
	// grows to, doubled each time. The first may have died with its disk.
	learnerPause    = 10 * time.Second
	learnerPauseMax = 10 * time.Minute
)

// learnerRetry is what the leader's node keeps of a node whose learners never came to vote. Without a pause a newcomer that cannot start,
// or does not hear that it was let in, would have the membership change for ever, and no lost voter be replaced.
type learnerRetry struct {
	until time.Time
	pause time.Duration
}

// again is what is kept after one more. What was long ago does not count.
func (r learnerRetry) again(now time.Time) learnerRetry {
	if now.Sub(r.until) > learnerPauseMax+learnerLost*time.Second {
		r = learnerRetry{}
	}
	return learnerRetry{until: now.Add(r.pause), pause: min(max(2*r.pause, learnerPause), learnerPauseMax)}
}

// learned notes how a step went that was about a node's learner; members is the list that it led away from.
func (w *steward) learned(c Change, members []MemberEntry, err error) {
	e, _ := (&living{List: members}).byID(c.ID)
	switch {
	case err != nil || !e.IsLearner:
	case c.Op == PromoteLearner:
		delete(w.failed, c.Node)
	case c.Op == RemoveMember:
		if w.failed == nil {
			w.failed = map[string]learnerRetry{}
		}
		w.failed[c.Node] = w.failed[c.Node].again(time.Now())
	}
}

// notBefore is ChangeFacts.NotBefore.
func (w *steward) notBefore() map[string]time.Time {
	out := make(map[string]time.Time, len(w.failed))
	for node, r := range w.failed {
		out[node] = r.until
	}
	return out
}
