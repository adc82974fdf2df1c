package srvboot

import (
	"fmt"
	"testing"
	"time"
)

// TestCrashPoints fails the k-th durable write of one node, or of all, before or after it took place, kills those
// nodes there, and starts them again: one birth, and the rack comes to health.
func TestCrashPoints(t *testing.T) {
	for _, who := range [][]string{{"n0"}, {"n1"}, {"n2"}, simNames(3)} {
		for k := 1; k <= 6; k++ {
			for _, fault := range []diskFault{failBefore, failAfter} {
				t.Run(fmt.Sprintf("%v write %d fault %d", who, k, fault), func(t *testing.T) {
					inRack(t, 3, func(r *rack) { crashAt(r, who, k, fault) })
				})
			}
		}
	}
}

func crashAt(r *rack, who []string, k int, fault diskFault) {
	hit := make(chan string, 100)
	for _, name := range who {
		r.nodes[name].disk.fault = func(write int) diskFault {
			if write < k {
				return fine
			}
			if write == k {
				hit <- name
				return fault
			}
			return failBefore // dead from here on
		}
	}
	r.start()
	deadline := time.After(8 * time.Second)
	for range who {
		select {
		case name := <-hit:
			r.stop(name)
			r.nodes[name].disk.fault = nil
		case <-deadline: // fewer writes than that
		}
	}
	for _, name := range who {
		if r.nodes[name].cancel == nil {
			r.start(name)
		} else {
			r.nodes[name].disk.fault = nil
		}
	}
	r.within(40*time.Second, "running", r.running(simNames(3)...))
}

// TestFullDisk fails every write for a while without a crash: nothing moves, and nothing is promised that is not kept.
func TestFullDisk(t *testing.T) {
	inRack(t, 3, func(r *rack) {
		full := true
		r.nodes["n1"].disk.fault = func(int) diskFault {
			if full {
				return failAfter
			}
			return fine
		}
		r.start()
		r.never(10*time.Second, "a birth on a full disk", func() bool { return r.phaseOf("n0").rank() >= Accepted.rank() })
		r.nodes["n1"].disk.mu.Lock()
		full = false
		r.nodes["n1"].disk.mu.Unlock()
		r.within(20*time.Second, "running", r.running(simNames(3)...))
	})
}

// TestPowerCuts cuts the power of the whole rack every few milliseconds of its birth.
func TestPowerCuts(t *testing.T) {
	for after := time.Millisecond; after < 80*time.Millisecond; after += 2 * time.Millisecond {
		inRack(t, 3, func(r *rack) {
			for _, n := range r.nodes {
				n.disk.syncAt = 3 * time.Millisecond
			}
			r.start()
			time.Sleep(after)
			r.stop()
			r.start()
			r.within(20*time.Second, "running", r.running(simNames(3)...))
		})
	}
}
