package srvboot

import (
	"strings"
	"testing"
)

// TestModelMutants breaks one rule at a time. A mutant that survives says that the model does not test that rule.
func TestModelMutants(t *testing.T) {
	for _, c := range []struct {
		name  string
		mut   mutant
		n     int
		b     budget
		wants string
	}{
		{"no ballots", mutant{noBallots: true}, 3, budget{crash: 1, ballot: 2}, "P1"},
		{"no stamp", mutant{noStamp: true}, 3, budget{crash: 1, wipe: 1}, "P2"},
		{"phase-1 majority", mutant{majority: true}, 3, budget{crash: 2, ballot: 2}, "P1"},
		{"gossip as fact", mutant{gossip: true}, 3, budget{crash: 2, wipe: 1, ballot: 2}, ""},
		{"new on WAL missing", mutant{noWAL: true}, 3, budget{crash: 1, wipe: 1}, "P2"},
		{"accept without persist", mutant{noPersist: true}, 3, budget{crash: 2, ballot: 2}, ""},
		{"promise of an earlier disk", mutant{noRun: true, unpromised: true}, 3, budget{crash: 2, wipe: 1, ballot: 1}, "P2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newModel(c.n, c.b)
			m.mut = c.mut
			for seed := range uint64(fromEnv("ETCD_DNS_MODEL_MUTANTS", 3000)) {
				m.loose = seed%2 == 0
				found := walk(m, seed, 120)
				if strings.HasPrefix(found, "P9") || found == "" || !strings.HasPrefix(found, c.wants) {
					continue
				}
				t.Logf("caught by seed %d: %s", seed, found)
				return
			}
			t.Errorf("the mutant survives")
		})
	}
}
