package srvboot

import (
	"fmt"
	"testing"
	"time"
)

func TestBootToRunning(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inRack(t, n, func(r *rack) {
				r.start()
				spawned := func() bool {
					r.mu.Lock()
					defer r.mu.Unlock()
					for _, node := range r.nodes {
						if node.run == nil {
							return false
						}
					}
					return true
				}
				if took := r.within(2*time.Second, "spawned", spawned); took > 150*time.Millisecond {
					t.Errorf("all members spawned after %s", took)
				} else {
					t.Logf("all %d members spawned after %s", n, took)
				}
				r.within(2*time.Second, "running", r.running(simNames(n)...))
			})
		})
	}
}
