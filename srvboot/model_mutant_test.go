package srvboot

import (
	"strings"
	"testing"
)

// lines splits a script.
func lines(parts ...string) []string {
	var out []string
	for _, p := range parts {
		for line := range strings.SplitSeq(p, ";") {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
	}
	return out
}

// The beginnings that the scripts share.
const (
	promisesN0 = "n0 asks n1; n0 asks n2; n0 acts; n0>n1 Prepare; n0>n2 Prepare; "
	acceptedN0 = promisesN0 + "n0 acts; n0>n1 Accept; n0>n2 Accept; "
	starts0    = "n0 acts; n0 acts; n0 acts; n0 writes; "
	joins1     = "n1 asks n0; n1 asks n2; n1 acts; n1 acts; n1 acts; n1 writes; "
	joins2     = "n2 asks n0; n2 asks n1; n2 acts; n2 acts; n2 acts; n2 writes; "
	wiped0     = "n0 crashes; n0 loses its disk; n0 starts; "
)

// TestModelMutants breaks one rule at a time, and plays a history that the rule is there for. The mutant must be
// caught, and the real rules must come through the same history, to the same health.
func TestModelMutants(t *testing.T) {
	for _, c := range []struct {
		name   string
		mut    mutant
		wants  string
		script []string
	}{
		{"no ballots", mutant{noBallots: true}, "P1", lines("n0 asks n1; n0 asks n2; n1 asks n0; n1 asks n2; n0 acts; n1 gives up;",
			"n0>n1 Prepare; n0>n2 Prepare; n1>n0 Prepare; n1>n2 Prepare; n0 acts; n1 asks n0; n1 acts; n0>n2 Accept; n1 asks n2;",
			"n1>n0 Accept 1 by n1/r1 G-n1-r1-1 without; n1>n2 Accept 1 by n1/r1 G-n1-r1-1 without; n0 asks n1; n0 asks n2;",
			"n0 acts; n0 acts; n0>n1 Accept 1 by n0/r1 G-n0-r1-1 without; n1 acts; n1 acts")},
		{"no stamp", mutant{noStamp: true}, "P2", lines(acceptedN0, starts0, joins1,
			"n0 crashes; n0 loses its etcd directory; n0 starts; n0 acts")},
		{"new on WAL missing", mutant{noWAL: true}, "P2", lines(acceptedN0, starts0, joins1,
			"n0 crashes; n0 loses its log; n0 starts; n0 acts")},
		{"phase-1 majority", mutant{majority: true}, "P2", lines(promisesN0,
			"n0 acts; n0>n2 Accept; n2 asks n0; n2 asks n1; n0>n1 Accept;", starts0, joins1, wiped0,
			"n2 asks n0; n2 gives up; n2>n0 Prepare; n2 acts; n2>n0 Accept; n0 asks n1; n0 asks n2; n0 acts; n0 acts; n0 acts")},
		{"gossip as fact", mutant{gossip: true}, "P1", lines("n0 acts; n0 acts; n0 acts; n0 acts;",
			"n2 asks n1; n1 asks n2; n1 acts; n1>n2 Prepare; n1 acts; n1>n2 Accept; n1 acts; n1 acts")},
		{"accept without persist", mutant{noPersist: true}, "P1", lines(acceptedN0, "n0 acts; n0 acts;", wiped0,
			"n1 crashes; n1 starts; n2 crashes; n2 starts; n0 asks n1; n0 asks n2; n0 acts; n0>n1 Prepare 2; n0>n2 Prepare 2;",
			"n0 acts; n0>n1 Accept 2; n0>n2 Accept 2; n0 acts; n0 acts")},
		// Two histories that safety.md's T1 and T3 do not exclude: a promise or an acceptance made on another disk.
		{"promise asked of an earlier disk", mutant{noRun: true}, "P2", lines(promisesN0, "n0 acts; n0>n1 Accept; n1 asks n0; n1 asks n2;",
			"n0>n2 Accept; n1 gives up; n1>n2 Prepare; n0 acts; n0 acts;", joins2, "n0 acts; n0 writes;", wiped0,
			"n1>n0 Prepare; n1 acts; n1>n0 Accept; n0 asks n1; n0 asks n2; n0 acts; n0 acts; n0 acts")},
		{"accept without a promise", mutant{unpromised: true}, "P2", lines(promisesN0, "n0 acts; n1 asks n0; n1 asks n2; n1 gives up;",
			"n1>n0 Prepare; n1>n2 Prepare; n1 acts; n1>n0 Accept; n1>n2 Accept; n0 asks n1; n0 asks n2;", starts0, joins2, wiped0,
			"n1>n0 Accept; n0 asks n1; n0 asks n2; n0 acts; n0 acts; n0 acts")},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(3, budget{crash: 3, wipe: 1, ballot: 2})
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
