package gateway

import (
	"math/rand/v2"
	"testing"
)

// drawn makes a random source that returns v, and checks the bound it is asked for.
func drawn(t *testing.T, v int) func(int) int {
	return func(n int) int {
		if v < 0 || v >= n {
			t.Errorf("a number in [0, %d) is drawn, the case wants %d", n, v)
		}
		return v
	}
}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []candidate
		turn int
		draw int // -1: nothing may be drawn
		want int
	}{
		{"nobody", nil, 0, -1, -1},
		{"one", []candidate{{}}, 7, -1, 0},
		{"turn", []candidate{{}, {}, {}}, 5, -1, 2},
		{"the fewest connections, before the turn", []candidate{{load: 2}, {load: 1}, {load: 2}}, 0, -1, 1},
		{"the turn among equals", []candidate{{load: 1}, {load: 1}, {load: 2}}, 4, -1, 1},
		{"the lowest priority, whatever its load", []candidate{{priority: 20}, {priority: 10, load: 99}, {priority: 20}}, 0, -1, 1},
		{"the next priority when the lowest is down", []candidate{{priority: 10, down: true}, {priority: 20}, {priority: 30}}, 0, -1, 1},
		{"down only if all are", []candidate{{down: true}, {down: true, load: 1}}, 1, -1, 0},
		{"all down: the lowest priority", []candidate{{priority: 2, down: true}, {priority: 1, down: true}}, 0, -1, 1},
		{"equal weights are no weights", []candidate{{weight: 1}, {weight: 1}, {weight: 1}}, 2, -1, 2},
		{"a weight counts within its priority", []candidate{{priority: 1, weight: 5}, {priority: 2, weight: 9}}, 0, -1, 0},
		{"one in doubt, in its turn", []candidate{{doubt: true}, {load: 9}, {load: 8}}, 3, -1, 0},
		{"one in doubt, out of turn", []candidate{{doubt: true}, {load: 9}, {load: 8}}, 4, -1, 2},
		{"all in doubt: the turn", []candidate{{load: 9, doubt: true}, {doubt: true}}, 2, -1, 0},
		{"in doubt, but the others are down", []candidate{{doubt: true}, {down: true}}, 1, -1, 0},
		{"doubt is nothing to a weight", []candidate{{weight: 10, doubt: true}, {weight: 30}}, 2, 10, 0},
		// RFC 2782: running sums 10, 40, 100.
		{"sum 0", []candidate{{weight: 10}, {weight: 30}, {weight: 60}}, 0, 0, 0},
		{"sum 10", []candidate{{weight: 10}, {weight: 30}, {weight: 60}}, 0, 10, 0},
		{"sum 11", []candidate{{weight: 10}, {weight: 30}, {weight: 60}}, 0, 11, 1},
		{"sum 100", []candidate{{weight: 10}, {weight: 30}, {weight: 60}}, 0, 100, 2},
		{"weight 0 when 0 is drawn", []candidate{{weight: 9}, {weight: 0}}, 0, 0, 1},
		{"and never else", []candidate{{weight: 9}, {weight: 0}}, 1, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pick(c.all, c.turn, drawn(t, c.draw)); got != c.want {
				t.Errorf("picked %d, want %d", got, c.want)
			}
		})
	}
}

// Weights that stock etcd's gateway mis-picks: 1, 1, 1 gives it 199, 101 and 0 of 300.
func TestPickSpread(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // the same numbers each time
	for _, c := range []struct {
		name     string
		weights  []uint16
		atLeast  []int // of 3000
		atMost   []int
		standing bool // connections stay open
	}{
		{"weights 0, short", []uint16{0, 0, 0}, []int{1000, 1000, 1000}, []int{1000, 1000, 1000}, false},
		{"weights 1, short", []uint16{1, 1, 1}, []int{1000, 1000, 1000}, []int{1000, 1000, 1000}, false},
		{"weights 1, standing", []uint16{1, 1, 1}, []int{1000, 1000, 1000}, []int{1000, 1000, 1000}, true},
		{"weights 0 and 1", []uint16{0, 1}, []int{1400, 1400}, []int{1600, 1600}, true}, // one of two numbers each
		{"weights 1 and 2", []uint16{1, 2}, []int{1000, 1700}, []int{1300, 2000}, true}, // of 0 to 3 the first one in turn has one more
		{"weights 100, 200, 300", []uint16{100, 200, 300}, []int{400, 900, 1400}, []int{600, 1100, 1600}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, got := make([]candidate, len(c.weights)), make([]int, len(c.weights))
			for i, w := range c.weights {
				all[i].weight = w
			}
			turn := 0
			for range 3000 {
				i := pick(all, turn, random.IntN)
				got[i]++
				turn++
				if c.standing {
					all[i].load++
				}
			}
			for i := range got {
				if got[i] < c.atLeast[i] || got[i] > c.atMost[i] {
					t.Errorf("%v: %v, want between %v and %v", c.weights, got, c.atLeast, c.atMost)
				}
			}
		})
	}
}
