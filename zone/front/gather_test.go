package front

import (
	"sync"
	"testing"
)

// Connections that wait together all go on, and the next ones wait anew.
func TestGathering(t *testing.T) {
	g := &gathering{}
	for range 3 {
		var waiting sync.WaitGroup
		for range 64 {
			waiting.Go(func() {
				for range 4 {
					g.wait()
				}
			})
		}
		waiting.Wait()
		if g.over != nil {
			t.Fatal("a wait is under way and nobody waits")
		}
	}
}
