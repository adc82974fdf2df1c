package srvboot

import (
	"testing"
	"time"
)

// A running member's index is on the node's own disk after a while, for the day that an older image comes back (R9).
func TestOwnIndexIsRemembered(t *testing.T) {
	inRack(t, 1, func(r *rack) {
		name := simNames(1)[0]
		r.start()
		r.within(2*time.Second, "running", r.running(name))
		d := r.nodes[name].disk
		r.within(3*DefaultTiming().Remember, "an index on the disk", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.id.Index > 0
		})
	})
}
