package srvboot

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
)

// event is something that may happen next; do returns the zero value when it changes nothing.
type event[W any] struct {
	name string
	do   func() W
}

// explored is a world of a model.
type explored[W any] interface {
	// events are all that may happen next.
	events() []event[W]
	// inspect checks what must hold in every world, and panics with a violation.
	inspect()
	// key names a world: two worlds with one key behave alike.
	key() string
	// heal repairs everything but lost data, and says what stands in the way of health (P9).
	heal() string
	path() *step
}

type comparableWorld[W any] interface {
	comparable
	explored[W]
}

var (
	_ explored[*world]  = (*world)(nil)
	_ explored[*mworld] = (*mworld)(nil)
)

// search explores breadth first, up to a number of worlds, and returns the violation that it met. Every so many worlds
// it checks that the world heals.
func search[W comparableWorld[W]](first W, limit, healEvery int) (found string, seen int, whole bool) {
	defer caught(&found)
	var none W
	seed := maphash.MakeSeed()
	known := map[uint64]bool{}
	front := []W{first}
	for len(front) > 0 {
		var next []W
		for _, w := range front {
			for _, e := range w.events() {
				c := e.do()
				if c == none {
					continue
				}
				c.inspect()
				k := maphash.String(seed, c.key())
				if known[k] {
					continue
				}
				known[k] = true
				seen++
				if seen%healEvery == 0 {
					if why := c.heal(); why != "" {
						return violation{"P9: no way out: " + why, c.path()}.String(), seen, false
					}
				}
				if seen >= limit {
					return "", seen, false
				}
				next = append(next, c)
			}
		}
		front = next
	}
	return "", seen, true
}

func caught(found *string) {
	switch v := recover().(type) {
	case nil:
	case violation:
		*found = v.String()
	default:
		panic(v)
	}
}

// walk explores at random.
func walk[W comparableWorld[W]](w W, seed uint64, steps int) (found string) {
	defer caught(&found)
	var none W
	rng := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		events := w.events()
		if c := events[rng.IntN(len(events))].do(); c != none {
			w = c
			w.inspect()
		}
	}
	if why := w.heal(); why != "" {
		return violation{"P9: no way out: " + why, w.path()}.String()
	}
	return ""
}

// play goes through a script: each line is the beginning of an event's name. What cannot happen is left out. Then
// everything heals.
func play[W comparableWorld[W]](w W, script []string) (found string) {
	defer caught(&found)
	w = after(w, script)
	if why := w.heal(); why != "" {
		return violation{"P9: no way out: " + why, w.path()}.String()
	}
	return ""
}

// after is the world after a script.
func after[W comparableWorld[W]](w W, script []string) W {
	var none W
	for _, line := range script {
		for _, e := range w.events() {
			if !strings.HasPrefix(e.name, line) {
				continue
			}
			if c := e.do(); c != none {
				w = c
				w.inspect()
			}
			break
		}
	}
	return w
}
