package sign

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files; only commit the changes if you understand what caused them")

// short is a state on one line.
func short(s State) string {
	var keys []string
	for _, k := range s.Keys {
		keys = append(keys, fmt.Sprintf("%d/%d %s", k.Number, k.Tag, k.Phase))
	}
	return fmt.Sprintf("%s, %d.%d, epoch %d, announced %t, DS TTL %d, keys [%s]", s.Mode, s.Commands, s.Steps, s.Epoch, s.Announced, s.DSTTL, strings.Join(keys, ", "))
}

// Facts → State for every row of the machine; the golden file is the table to read.
func TestAdvanceTable(t *testing.T) {
	now := testTime
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	served := func(d time.Duration, tags ...uint16) map[uint16]time.Time {
		out := map[uint16]time.Time{}
		for _, tag := range tags {
			out[tag] = ago(d)
		}
		return out
	}
	key := func(n uint32, p Phase) KeyState {
		return KeyState{Number: n, Tag: uint16(100 + n), Phase: p, Since: testTime}
	}
	epoch := EpochAt(now)
	base := State{Format: Format, Commands: 1, Mode: On, Epoch: epoch, Keys: []KeyState{key(0, Active)}}
	with := func(change func(*State)) State {
		s := base.Clone()
		change(&s)
		return s
	}
	announced := with(func(s *State) { s.Announced, s.DSTTL = true, 7200 })
	pre := with(func(s *State) {
		s.Announced, s.DSTTL, s.Keys = true, 7200, []KeyState{key(0, Active), key(1, PrePublished)}
	})
	retiring := with(func(s *State) {
		s.Announced, s.DSTTL, s.Keys = true, 7200, []KeyState{key(0, Retiring), key(1, Active)}
	})
	going := with(func(s *State) { s.Mode, s.Announced, s.DSTTL = GoingOff, true, 7200 })
	neverDS := with(func(s *State) { s.Mode = GoingOff })
	const long = 1000 * time.Hour
	whole := Facts{Published: served(long, 100, 101), Signing: served(long, 101), ZoneTTL: time.Hour, Plausible: true}
	facts := func(change func(*Facts)) Facts {
		f := whole
		change(&f)
		return f
	}
	var out strings.Builder
	for _, c := range []struct {
		name  string
		state State
		facts Facts
	}{
		{"off stays off", State{Mode: Off, Epoch: 1}, whole},
		{"nothing is known", base, Facts{ParentErr: "no route", Plausible: true}},
		{"a server is silent", base, Facts{Silent: []string{"infra2 192.0.2.12: timeout"}, Plausible: true}},
		{"signed, but not long enough", base, facts(func(f *Facts) { f.Signing = served(59*time.Minute, 100) })},
		{"signed for the longest TTL", base, facts(func(f *Facts) { f.Signing = served(time.Hour, 100) })},
		{"a longer TTL in the zone", base, facts(func(f *Facts) { f.Signing, f.ZoneTTL = served(time.Hour, 100), 2*time.Hour })},
		{"announced, no DS yet", announced, facts(func(f *Facts) { f.Signing, f.NoDS = served(long, 100), ago(long) })},
		{"announced, the parent is silent", announced, facts(func(f *Facts) { f.ParentErr = "timeout" })},
		{"secure", announced, facts(func(f *Facts) { f.DS, f.ParentHasDS, f.DSTTL = served(time.Minute, 100), true, 3600 })},
		{"a longer DS TTL is remembered", announced, facts(func(f *Facts) { f.DS, f.ParentHasDS, f.DSTTL = served(time.Minute, 100), true, 86400 })},
		{"the new key is not everywhere", pre, facts(func(f *Facts) { f.Published = served(long, 100) })},
		{"the new key is everywhere, not for long", pre, facts(func(f *Facts) { f.Published = served(time.Minute, 100, 101) })},
		{"the new key is in every cache", pre, facts(func(f *Facts) { f.Published = served(time.Hour, 100, 101) })},
		{"the old signatures may be cached", retiring, facts(func(f *Facts) { f.Signing, f.DS = served(time.Minute, 101), served(long, 101) })},
		{"the parent has the old DS only", retiring, facts(func(f *Facts) { f.DS, f.ParentHasDS = served(long, 100), true })},
		{"the old DS may be cached", retiring, facts(func(f *Facts) { f.DS, f.ParentHasDS = served(time.Hour, 101), true })},
		{"the parent is silent", retiring, facts(func(f *Facts) { f.ParentErr, f.DS = "timeout", nil })},
		{"the old key may go", retiring, facts(func(f *Facts) { f.DS, f.ParentHasDS = served(3*time.Hour, 101), true })},
		{"the old key may go: no DS at all", retiring, facts(func(f *Facts) { f.NoDS = ago(3 * time.Hour) })},
		{"off: a server still asks for a DS", going, facts(func(f *Facts) { f.NoDS = ago(long) })},
		{"off: the parent has the DS", going, facts(func(f *Facts) { f.Deleting, f.DS, f.ParentHasDS = ago(long), served(long, 100), true })},
		{"off: the parent is silent", going, facts(func(f *Facts) { f.Deleting, f.ParentErr = ago(long), "timeout" })},
		{"off: the DS may be cached", going, facts(func(f *Facts) { f.Deleting, f.NoDS = ago(long), ago(time.Hour) })},
		{"off: done", going, facts(func(f *Facts) { f.Deleting, f.NoDS = ago(long), ago(3*time.Hour) })},
		{"off: no node ever saw a DS TTL", neverDS, facts(func(f *Facts) { f.Deleting, f.NoDS = ago(long), ago(24*time.Hour) })},
		{"off: and then a day and an hour", neverDS, facts(func(f *Facts) { f.Deleting, f.NoDS = ago(long), ago(25*time.Hour) })},
		{"the epoch is over", with(func(s *State) { s.Epoch-- }), whole},
		{"the epoch is over by a wrong clock", with(func(s *State) { s.Epoch-- }), facts(func(f *Facts) { f.Plausible = false })},
		{"the epoch is the next", with(func(s *State) { s.Epoch++ }), whole},
		{"the epoch is of a clock weeks ahead", with(func(s *State) { s.Epoch += 5 }), whole},
		{"the same, seen by a wrong clock", with(func(s *State) { s.Epoch += 5 }), facts(func(f *Facts) { f.Plausible = false })},
	} {
		next, why := Advance(c.state, c.facts, now)
		if err := next.Check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		fmt.Fprintf(&out, "# %s\n  %s\n", c.name, short(c.state))
		if !next.Equal(c.state) {
			fmt.Fprintf(&out, "→ %s\n", short(next))
		}
		if why != "" {
			fmt.Fprintf(&out, "  waits: %s\n", why)
		}
	}
	golden(t, filepath.Join("testdata", "advance.txt"), out.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it with: go test ./zone/sign -update && git diff\n%s", path, got)
	}
}

// The watch begins anew whenever a condition breaks or is not known.
func TestWatch(t *testing.T) {
	good := Server{Name: "a", Published: []uint16{1, 2}, Signing: []uint16{1}, Deletes: true}
	other := Server{Name: "b", Published: []uint16{1}, Signing: []uint16{1}}
	silent := Server{Name: "b", Err: "timeout"}
	parent := Parent{Sets: [][]uint16{{1, 0}, {1}}, TTL: 60}
	at := func(n int) time.Time { return testTime.Add(time.Duration(n) * time.Minute) }
	var w Watch
	f := w.Observe(at(0), View{Servers: []Server{good, good}, Parent: parent})
	if !f.Published[2].Equal(at(0)) || !f.Signing[1].Equal(at(0)) || !f.Deleting.Equal(at(0)) || !f.DS[1].Equal(at(0)) || !f.NoDS.IsZero() || !f.ParentHasDS || !f.Foreign || len(f.DS) != 1 {
		t.Errorf("at first: %+v", f)
	}
	f = w.Observe(at(1), View{Servers: []Server{good, other}, Parent: Parent{Sets: [][]uint16{{1}, {}}}})
	if !f.Published[2].IsZero() || !f.Published[1].Equal(at(0)) || !f.Deleting.IsZero() || !f.DS[1].IsZero() || !f.NoDS.IsZero() || !f.ParentHasDS {
		t.Errorf("one server differs: %+v", f)
	}
	f = w.Observe(at(2), View{Servers: []Server{good, good}, Parent: Parent{Sets: [][]uint16{{}, {}}}})
	if !f.Published[2].Equal(at(2)) || !f.Published[1].Equal(at(0)) || !f.NoDS.Equal(at(2)) || f.ParentHasDS {
		t.Errorf("well again: %+v", f)
	}
	f = w.Observe(at(3), View{Servers: []Server{good, silent}, Parent: Parent{Err: "timeout"}})
	if len(f.Published)+len(f.Signing)+len(f.DS) != 0 || !f.NoDS.IsZero() || len(f.Silent) != 1 || f.ParentErr == "" {
		t.Errorf("nobody answers: %+v", f)
	}
	w.Observe(at(3), View{Servers: []Server{good}, Parent: parent})
	if f = w.Observe(at(4), View{Servers: []Server{good}, Parent: parent, Commands: 2}); !f.Signing[1].Equal(at(4)) || !f.DS[1].Equal(at(4)) {
		t.Errorf("off and on in between: %+v", f)
	}
	w.Observe(at(4), View{Servers: []Server{good}, Parent: parent})
	if f = w.Observe(at(5).Add(MaxGap), View{Servers: []Server{good}, Parent: parent}); !f.Published[1].Equal(at(5).Add(MaxGap)) || !f.DS[1].Equal(at(5).Add(MaxGap)) {
		t.Errorf("the machine slept: %+v", f)
	}
	if f = w.Observe(at(6).Add(MaxGap), View{}); f.ParentErr == "" || len(f.Published) != 0 || !f.NoDS.IsZero() {
		t.Errorf("nobody to ask: %+v", f)
	}
}
