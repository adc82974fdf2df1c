package srvboot

import (
	"slices"
	"testing"
	"time"
)

// TestLearnerThatIsNotHeard: a learner of which the leader's node hears nothing is not promoted, and a lost voter does not wait for it
// for ever.
func TestLearnerThatIsNotHeard(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		born3(r)
		r.grow()
		r.start("n3")
		r.within(10*time.Second, "n3 is a learner", func() bool { _, l := r.members(); return slices.Equal(l, []string{"n3"}) })
		r.mu.Lock()
		r.cut[[2]string{"n0", "n3"}] = true
		r.mu.Unlock()
		r.loses("n2", learnerPatience+time.Minute)
		r.within(time.Minute, "n2 votes", r.votersAre("n0", "n1", "n2"))
		r.mend()
		r.within(time.Minute, "n3 votes", r.votersAre("n0", "n1", "n2", "n3"))
	})
}
