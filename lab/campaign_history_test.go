package lab

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// record is what clients of a cluster did: every operation with the times of its call and of its return.
type record struct {
	start time.Time

	mu  sync.Mutex
	ops []operation
}

// operation is one put or linearizable get of one key. No two puts ever have the same value.
type operation struct {
	client int
	key    string
	put    bool
	// value is what was put, or what the get returned; empty for a key that is not there.
	value string
	// call and ret are since the start of the record. A put that failed may have been applied, and may be still: it has not returned.
	call, ret time.Duration
	failed    bool
}

func newRecord() *record { return &record{start: time.Now()} }

// now is the time of a call.
func (r *record) now() time.Duration { return time.Since(r.start) }

// done adds an operation that has ended with err. A get that failed says nothing and is left out.
func (r *record) done(o operation, err error) {
	o.ret, o.failed = r.now(), err != nil
	if o.failed && !o.put {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// acknowledged are the keys below a prefix with what a put of them returned success for.
func (r *record) acknowledged(prefix string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for _, o := range r.ops {
		if o.put && !o.failed && strings.HasPrefix(o.key, prefix) {
			out[o.key] = o.value
		}
	}
	return out
}

// counts are the puts that were acknowledged, the gets, and the puts that failed.
func (r *record) counts() (acked, gets, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.ops {
		switch {
		case !o.put:
			gets++
		case o.failed:
			failed++
		default:
			acked++
		}
	}
	return acked, gets, failed
}

// judgeLimit bounds the search for an order.
const judgeLimit = 30 * time.Second

// linearizable is an error unless for every key there is one order of its operations, each between its call and its
// return, in which every get returns what was put last. Keys are independent of each other (Herlihy and Wing, Linearizability,
// 1990, theorem 1), and none exists before the record begins.
func (r *record) linearizable() error {
	r.mu.Lock()
	byKey := map[string][]operation{}
	for _, o := range r.ops {
		byKey[o.key] = append(byKey[o.key], o)
	}
	r.mu.Unlock()
	var all error
	for key, ops := range byKey {
		if err := oneRegister(ops); err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", key, err))
		}
	}
	return all
}

// register is the model of one key.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		o := input.(operation)
		if o.put {
			return true, o.value
		}
		return o.value == state.(string), state
	},
	DescribeOperation: func(input, _ any) string {
		o := input.(operation)
		return fmt.Sprintf("%s put=%v %q", o.key, o.put, o.value)
	},
}

// oneRegister judges the operations of one key.
func oneRegister(ops []operation) error {
	read := map[string]time.Duration{} // the earliest return of a get with the value
	written := map[string]bool{"": true}
	for _, o := range ops {
		if o.put {
			written[o.value] = true
		} else if at, ok := read[o.value]; !ok || o.ret < at {
			read[o.value] = o.ret
		}
	}
	for value := range read {
		if !written[value] {
			return fmt.Errorf("a get returned %q, which nobody ever put", value)
		}
	}
	var history []porcupine.Operation
	for _, o := range ops {
		ret := int64(o.ret)
		if o.put && o.failed {
			// Nobody saw it: whether it was applied, last or just before another put, changes nothing. Somebody saw it: it was
			// applied before that get returned. Either keeps the search short without deciding anything.
			at, seen := read[o.value]
			if !seen {
				continue
			}
			if at < o.call {
				return fmt.Errorf("a get returned %q at %v, before the put at %v", o.value, at, o.call)
			}
			ret = int64(at)
		}
		history = append(history, porcupine.Operation{ClientId: o.client, Input: o, Call: int64(o.call), Output: nil, Return: ret})
	}
	switch porcupine.CheckOperationsTimeout(register, history, judgeLimit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%d operations: no verdict within %v", len(history), judgeLimit)
	}
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	return fmt.Errorf("no order of its %d operations explains them:\n%s", len(history), operations(ops))
}

// operations prints the last hundred for a person.
func operations(ops []operation) string {
	var b strings.Builder
	for _, o := range ops[max(0, len(ops)-100):] {
		what := map[bool]string{true: "put", false: "get"}[o.put]
		if o.failed {
			what = "failed put"
		}
		fmt.Fprintf(&b, "  %v to %v, client %d: %s %q\n", o.call.Round(time.Millisecond), o.ret.Round(time.Millisecond), o.client, what, o.value)
	}
	return b.String()
}

// The judge itself: what etcd promises passes, and what it must never do does not.
func TestLinearizable(t *testing.T) {
	put := func(value string, call, ret time.Duration) operation {
		return operation{key: "k", put: true, value: value, call: call, ret: ret}
	}
	get := func(value string, call, ret time.Duration) operation {
		return operation{key: "k", value: value, call: call, ret: ret}
	}
	failed := func(o operation) operation { o.failed = true; return o }
	for _, tt := range []struct {
		name string
		ops  []operation
		bad  string
	}{
		{"nothing", nil, ""},
		{"in order", []operation{get("", 0, 1), put("a", 1, 2), get("a", 3, 4)}, ""},
		{"side by side", []operation{put("a", 0, 10), put("b", 0, 10), get("a", 1, 2), get("b", 3, 4)}, ""},
		{"forgotten", []operation{put("a", 0, 1), get("", 2, 3)}, "no order"},
		{"stale", []operation{put("a", 0, 1), put("b", 2, 3), get("b", 4, 5), get("a", 6, 7)}, "no order"},
		{"stale by half", []operation{put("a", 0, 1), put("b", 2, 9), get("b", 3, 4), get("a", 5, 6)}, "no order"},
		{"failed and not applied", []operation{put("a", 0, 1), failed(put("b", 2, 3)), get("a", 4, 5)}, ""},
		{"failed and applied later", []operation{put("a", 0, 1), failed(put("b", 2, 3)), get("a", 4, 5), get("b", 6, 7), get("b", 8, 9)}, ""},
		{"failed, applied and forgotten", []operation{put("a", 0, 1), failed(put("b", 2, 3)), get("b", 4, 5), get("a", 6, 7)}, "no order"},
		{"seen before it was put", []operation{get("b", 0, 1), failed(put("b", 2, 3))}, "before the put"},
		{"out of nothing", []operation{get("c", 0, 1)}, "nobody ever put"},
		{"many failed", manyFailed(put, get, failed), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &record{ops: tt.ops}
			err := r.linearizable()
			if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("got %v, want %q", err, tt.bad)
			}
		})
	}
}

// manyFailed are failed puts that nobody saw, beside a history that is well: without what oneRegister leaves out the search
// would try each of them everywhere.
func manyFailed(put, get func(string, time.Duration, time.Duration) operation, failed func(operation) operation) (ops []operation) {
	for i := range time.Duration(100) {
		o := failed(put(fmt.Sprint("f", i), i, i))
		o.ret = math.MaxInt64
		ops = append(ops, o, put(fmt.Sprint(i), 10*i, 10*i+1), get(fmt.Sprint(i), 10*i+2, 10*i+3))
	}
	return ops
}
