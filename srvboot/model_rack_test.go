package srvboot

import "testing"

// The beginnings that the scripts of the second model share: n2 of three comes back blank, asks, and gets in.
const (
	blank2 = "n2 crashes; n2 loses its disk; n2 starts; "
	out2   = "n2 asks; n0 asks; n0 derives; n0's change takes effect; "
)

// TestMemberModel explores the life of a cluster, breadth first: joining, replacing, removal, leaders that change, disks
// that are lost, put back and copied.
func TestMemberModel(t *testing.T) {
	t.Parallel()
	limit := fromEnv("ETCD_DNS_MODEL_STATES", 2000)
	total := 0
	for _, c := range []struct {
		n, spare int
		b        mbudget
		from     string
	}{
		{1, 0, mbudget{crash: 2, wipe: 1, write: 1}, ""},
		{1, 1, mbudget{crash: 1, wipe: 1, write: 1}, ""},
		{1, 1, mbudget{crash: 1, clone: 1, image: 1, write: 1}, ""},
		{2, 0, mbudget{crash: 2, wipe: 1, write: 1}, ""},
		{2, 0, mbudget{crash: 2, image: 1, write: 2}, ""},
		{3, 0, mbudget{crash: 2, wipe: 1, lead: 1}, ""},
		{3, 0, mbudget{crash: 3, wipe: 1, lead: 1, cut: 1, write: 1}, blank2},
		{3, 0, mbudget{crash: 3, wipe: 1, lead: 1, write: 1}, blank2 + out2},
		{3, 0, mbudget{crash: 3, wipe: 1, lead: 1, write: 1}, blank2 + out2 + out2},
		{3, 0, mbudget{crash: 2, image: 1, write: 2}, "n2 has an image taken; write; n2 crashes; n2 gets its image"},
		{3, 1, mbudget{crash: 2, wipe: 1, lead: 1, edit: 1}, "n3 starts"},
		{3, 1, mbudget{crash: 2, order: 2, wipe: 1}, ""},
		{3, 1, mbudget{crash: 1, clone: 1, cut: 1, write: 1}, ""},
	} {
		m := newMemberModel(c.n, c.spare, c.b)
		found, seen, whole := search(after(m.world(), lines(c.from)), limit, 40)
		total += seen
		t.Logf("n=%d+%d %+v after %d events: %d states, all of them: %v", c.n, c.spare, c.b, len(lines(c.from)), seen, whole)
		if found != "" {
			t.Errorf("n=%d+%d %+v: %s", c.n, c.spare, c.b, found)
		}
	}
	t.Logf("%d states explored", total)
}

func TestMemberModelWalks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fromEnv("ETCD_DNS_MODEL_WALKS", 40)) {
		for _, n := range []int{1, 2, 3, 5} {
			m := newMemberModel(n, 1, mbudget{crash: 4, wipe: (n - 1) / 2, image: 1, clone: int(seed % 2), cut: 2, write: 4, lead: 3, order: int(seed % 3), edit: 1})
			m.loose = seed%2 == 0
			if found := walk(m.world(), seed, 200); found != "" {
				t.Fatalf("n=%d seed %d: %s", n, seed, found)
			}
		}
	}
}
