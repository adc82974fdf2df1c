package srvboot

import (
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"
)

// A blank node publishes what the others say the members are. One whose member has just been started again knows only what the
// cluster began with, which is not the set of a cluster that has grown: until it knows better, the blank node knows nothing.
func TestBlankNodeTakesNoListOfTheBirth(t *testing.T) {
	for _, tt := range []struct {
		name  string
		phase Phase
		index uint64
		want  roster.Knowledge
	}{
		{"born this moment", Born, 0, roster.Born},
		{"started again", Running, 0, roster.Unknown},
		{"running", Running, 7, roster.Born},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := caseFacts()
			blank0(&f)
			theirs("n1", phase(tt.phase))(&f)
			theirs("n1", func(s *State) {
				s.View = viewOfGenesis(f.Home, s.Accepted.Genesis)
				s.View.Index = tt.index
			})(&f)
			if v, _ := bestView(f, listDate{}); v.Knowledge != tt.want || v.Index != tt.index {
				t.Errorf("got %v at index %d, want %v", v.Knowledge, v.Index, tt.want)
			}
		})
	}
}

// TestBirthListIsNotOfNow: a node whose member ran, and that starts again alone, knows with whom its cluster began, and not who is in it
// now; only a born one, whose member has not run, does.
func TestBirthListIsNotOfNow(t *testing.T) {
	for phase, want := range map[Phase]roster.Knowledge{Born: roster.Born, Running: roster.Unknown, Joining: roster.Unknown} {
		f := caseFacts()
		for _, m := range []mod{disk(HasMember), own(phase), silent("n1", "timeout"), silent("n2", "timeout")} {
			m(&f)
		}
		if v, _ := bestView(f, listDate{}); v.Knowledge != want {
			t.Errorf("%s: %+v", phase, v)
		}
	}
}
