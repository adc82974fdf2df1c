package sign

import (
	"encoding/json"
	"testing"
	"time"
)

func hinted(tb testing.TB, err error) {
	tb.Helper()
	if h, ok := err.(interface{ Hint() string }); err == nil || !ok || h.Hint() == "" {
		tb.Errorf("got %v, want an error with a hint", err)
	}
}

// Any two nodes that hear the same states end with the same one, whatever the order.
func TestMergeIsOrderless(t *testing.T) {
	ring, c := newTestRing(t, 7), right(testTime)
	on := onState(t, ring)
	roll := must[State](t)(RollOver(on, ring, c))
	off := must[State](t)(SwitchOff(on)) // at the same time, on another node
	step := on.Clone()
	step.Announced, step.Steps = true, 1
	later := on.Clone()
	later.Epoch += 1 // its inception is not reached at testTime
	current := on.Clone()
	current.Epoch = EpochAt(testTime)
	all := []State{{}, on, roll, off, step, later, current}
	for _, a := range all {
		for _, b := range all {
			if x, y := Merge(a, b, c), Merge(b, a, c); !x.Equal(y) {
				t.Errorf("%s and %s: %s one way, %s the other", short(a), short(b), short(x), short(y))
			}
			if x := Merge(a, b, c); !Merge(x, b, c).Equal(x) || !Merge(x, a, c).Equal(x) {
				t.Errorf("%s and %s: the merged state is not final", short(a), short(b))
			}
			for _, d := range all {
				if x, y := Merge(Merge(a, b, c), d, c), Merge(a, Merge(b, d, c), c); !x.Equal(y) {
					t.Errorf("%s, %s, %s: %s or %s", short(a), short(b), short(d), short(x), short(y))
				}
			}
		}
	}
	if got := Merge(step, roll, c); got.Commands != roll.Commands || len(got.Keys) != 2 {
		t.Errorf("a step undid a command: %s", short(got))
	}
}

// The epoch of a clock that runs ahead does not spread to nodes whose clocks are right, and they mend it.
func TestMergeEpoch(t *testing.T) {
	own := onState(t, newTestRing(t, 7))
	for _, c := range []struct {
		name        string
		ahead       int
		clock       Clock
		want, wants uint32 // after Merge; after Merge with a blank state of one's own
	}{
		{"equal", 0, right(testTime), own.Epoch, own.Epoch},
		{"behind", -1, right(testTime), own.Epoch, own.Epoch},
		{"a day early", 1, right(EpochStart(own.Epoch + 1).Add(-Early)), own.Epoch + 1, own.Epoch + 1},
		{"more than a day early", 1, right(EpochStart(own.Epoch + 1).Add(-Early - time.Second)), own.Epoch, own.Epoch},
		{"years ahead", 300, right(testTime), own.Epoch, own.Epoch},
		{"a node with a wrong clock follows", 1, Clock{Now: time.Unix(0, 0)}, own.Epoch + 1, own.Epoch + 1},
	} {
		other := own.Clone()
		other.Epoch = uint32(int(own.Epoch) + c.ahead)
		if got := Merge(own, other, c.clock); got.Epoch != c.want {
			t.Errorf("%s: epoch %d, want %d", c.name, got.Epoch, c.want)
		}
		if got := Merge(State{}, other, c.clock); got.Epoch != c.wants {
			t.Errorf("%s, blank: epoch %d, want %d", c.name, got.Epoch, c.wants)
		}
	}
}

func TestEpochs(t *testing.T) {
	e := EpochAt(testTime)
	if EpochStart(e).After(testTime) || !EpochStart(e+1).After(testTime) {
		t.Errorf("%s is not in epoch %d", testTime, e)
	}
	if got := Expiration(e).Sub(EpochStart(e + 1)); got != 9*24*time.Hour {
		t.Errorf("at the end of an epoch its signatures have %s left, want nine days", got)
	}
	if got := Inception(e); !got.Equal(EpochStart(e).Add(-24 * time.Hour)) {
		t.Errorf("inception %s", got)
	}
	if EpochAt(time.Unix(-5, 0)) != 0 {
		t.Error("a time before 1970 has an epoch")
	}
}

func TestCommands(t *testing.T) {
	ring, c := newTestRing(t, 7), right(testTime)
	on := onState(t, ring)
	if on.Mode != On || len(on.Keys) != 1 || on.Keys[0].Number != 0 || on.Epoch != EpochAt(testTime) || on.Announced || on.Check() != nil {
		t.Errorf("on: %s", short(on))
	}
	for name, err := range map[string]error{
		"on twice":              second(SwitchOn(on, ring, c)),
		"on by a wrong clock":   second(SwitchOn(State{}, ring, Clock{Now: testTime})),
		"rollover of nothing":   second(RollOver(State{}, ring, c)),
		"off of nothing":        second(SwitchOff(State{})),
		"stop of nothing":       second(StopNow(State{}, Facts{})),
		"finish of nothing":     second(FinishNow(on, Facts{}, c)),
		"stop beside a DS":      second(StopNow(on, Facts{ParentHasDS: true})),
		"rollover while off":    second(RollOver(must[State](t)(SwitchOff(on)), ring, c)),
		"rollover in another":   second(RollOver(must[State](t)(RollOver(on, ring, c)), ring, c)),
		"off twice":             second(SwitchOff(must[State](t)(SwitchOff(on)))),
		"rollover without keys": second(RollOver(State{Mode: On, Keys: []KeyState{{Number: MaxKeyNumber, Tag: 1, Phase: Active}}}, ring, c)),
	} {
		t.Run(name, func(t *testing.T) { hinted(t, err) })
	}
	stopped := must[State](t)(StopNow(on, Facts{}))
	again := must[State](t)(SwitchOn(stopped, ring, c))
	if stopped.Mode != Off || again.Keys[0].Tag != on.Keys[0].Tag || again.Commands != 3 {
		t.Errorf("off and on: %s, %s", short(stopped), short(again))
	}
	announced := on.Clone()
	announced.Announced = true
	back := must[State](t)(SwitchOn(must[State](t)(SwitchOff(announced)), ring, c))
	if back.Mode != On || back.Announced {
		t.Errorf("on from going-off: %s; want signed, and announced only after the wait", short(back))
	}
}

func second[T any](_ T, err error) error { return err }

// FinishNow takes a person's word for the parent's view alone.
func TestFinishNow(t *testing.T) {
	ring, c := newTestRing(t, 7), right(testTime)
	s := must[State](t)(RollOver(onState(t, ring), ring, c))
	s.Announced, s.Keys[0].Phase, s.Keys[1].Phase = true, Retiring, Active
	tag := s.Keys[1].Tag
	signed := map[uint16]time.Time{tag: testTime.Add(-2 * time.Hour)}
	for _, bad := range []Facts{
		{ParentErr: "x", ZoneTTL: time.Hour},
		{ParentErr: "x", ZoneTTL: 3 * time.Hour, Signing: signed},
		{ParentHasDS: true, ZoneTTL: time.Hour, Signing: signed},
	} {
		hinted(t, second(FinishNow(s, bad, c)))
	}
	got := must[State](t)(FinishNow(s, Facts{ParentErr: "x", ZoneTTL: time.Hour, Signing: signed}, c))
	if len(got.Keys) != 1 || got.Keys[0].Tag != tag || got.Check() != nil {
		t.Errorf("got %s", short(got))
	}
}

// A state comes from disks and from other nodes: what Check takes must do no harm.
func FuzzState(f *testing.F) {
	ring := newTestRing(f, 7)
	on := onState(f, ring)
	for _, s := range []State{{}, on, must[State](f)(RollOver(on, ring, right(testTime))), must[State](f)(SwitchOff(on))} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"mode":"on","keys":[{"number":4000000000,"tag":1,"phase":"active"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		if err := s.Check(); err != nil {
			hinted(t, err)
			return
		}
		merged := Merge(on, s, right(testTime))
		if err := merged.Check(); err != nil {
			t.Errorf("merged: %v", err)
		}
		next, _ := Advance(s, Facts{Plausible: true}, testTime)
		if err := next.Check(); err != nil {
			t.Errorf("advanced: %v", err)
		}
		if _, err := New(apex, s, ring); err == nil && !s.Signs() {
			t.Error("a signer for a zone that is not signed")
		}
	})
}
