package srvboot

import (
	"strings"
	"testing"
)

// TestMemberModelMutants breaks one rule of membership at a time and plays a history that the rule is there for. The
// mutant must be caught, and the real rules must come through the same history, to the same health.
func TestMemberModelMutants(t *testing.T) {
	for _, c := range []struct {
		name     string
		n, spare int
		mut      memberMutant
		wants    string
		script   []string
	}{
		// R10 b: a blank machine comes up under the name of a member that works.
		{"removal without the leader's stream check", 3, 1, memberMutant{noStream: true}, "P5: voter",
			lines("n3 is called n2; n3 starts; n3 asks n0; n3 asks n1; n0 asks n3; n0 derives; n0's change takes effect")},
		// A change is carried out twice because its reply was lost.
		{"two changes in flight", 3, 1, memberMutant{twoAtOnce: true}, "P5",
			lines("n3 starts; n3 asks n0; n3 asks n1; n0 asks n3; n0 derives; n0's change takes effect untold; n0's change takes effect")},
		// R10 e: the leader has not noticed yet that it has no quorum; after the removal nobody could be added.
		{"removal without a connected quorum", 4, 0, memberMutant{noQuorum: true}, "P5: the removal",
			lines("n0 is elected; n3 crashes; n3 loses its disk; n3 starts; n3 asks n0; n3 asks n1; n0 asks n3; n2 crashes; n0 derives")},
		{"promotion without being in sync", 1, 1, memberMutant{unsynced: true}, "P5: learner",
			lines("n1 starts; write; n1 asks n0; n0 asks n1; n0 derives; n0's change takes effect; n1 asks n0; n1 acts; n1 acts; n0 asks n1;",
				"write without n1; n0 derives; n0's change takes effect")},
		// R3: etcd by itself starts a wiped member under the ID that the others list.
		{"reuse of a member ID after a wipe", 3, 0, memberMutant{reuse: true}, "R3",
			lines("n2 crashes; n2 loses its disk; n2 starts; n2 asks n0; n2 asks n1; n2 acts; n2 acts")},
		// Row 8: n0 and n2 hold a write that n1 missed, and n2 comes back older than n1 saw it. Together they would lack it.
		{"rollback ignored", 3, 0, memberMutant{noRollback: true}, "P4", lines(
			"n2 has an image taken; n0 is elected; write without n-1; write without n1; n0 crashes; n2 crashes; n2 gets its image; n2 starts; n2 asks n1; n2 acts;",
			"n1 is elected")},
		{"tombstone ignored", 3, 0, memberMutant{noTombstone: true}, "P5: n2 was removed",
			lines("a person removes n2; n0's change takes effect; n2 is told; n2 asks n0; n2 asks n1; n2 acts; n2 crashes; n2 loses its disk; n2 starts; n2 asks n0; n2 asks n1;",
				"n0 asks n2; n0 derives; n0's change takes effect")},
		// The new member of a replaced node is down for a moment, and what it said before it was replaced is believed.
		{"URL matched instead of member ID", 3, 0, memberMutant{byURL: true}, "P5: voter",
			lines(blank2, "n2 asks n0; n2 asks n1; n0 asks n2; n0 derives; n0's change takes effect; n2 asks n0; n0 asks n2; n0 derives; n0's change takes effect;",
				"n2 asks n0; n2 acts; n2 acts; catch up; n1 asks n2; n0 reaches n2; n2 asks n0; n0 is elected; n1 is elected; n1 asks n2; n1 derives; n1's change takes effect;",
				"n2 crashes; n0 is elected; n0 derives; n0's change takes effect")},
		// A learner was added for a run that started it, and whose disk is lost since.
		{"claim of an older run accepted", 3, 0, memberMutant{anyRun: true}, "R3",
			lines(blank2, "n2 asks n0; n2 asks n1; n0 asks n2; n0 derives; n0's change takes effect; n2 asks n0; n0 asks n2; n0 derives; n0's change takes effect;",
				"n2 asks n0; n2 acts; n2 acts; catch up; n2 crashes; n2 loses its disk; n2 starts; n2 asks n0; n2 asks n1; n2 acts; n2 acts")},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemberModel(c.n, c.spare, mbudget{crash: 4, wipe: 2, image: 1, clone: 1, cut: 2, write: 4, lead: 3, order: 1})
			m.loose = true
			if found := play(m.world(), c.script); found != "" {
				t.Errorf("the rules themselves fail: %s", found)
			}
			m.mut = c.mut
			found := play(m.world(), c.script)
			if !strings.HasPrefix(found, c.wants) {
				t.Errorf("the mutant survives: %s", found)
			}
			t.Logf("%d lines: %s", len(c.script), found)
		})
	}
}
