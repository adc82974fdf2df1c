package node

import (
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

func TestSizeEdit(t *testing.T) {
	for _, c := range []struct {
		name  string
		now   Size
		born  srvboot.Genesis
		phase srvboot.Phase
		want  string
	}{
		{"as born", Size{3, 4}, srvboot.Genesis{ID: "g", Size: 3, Of: 4}, srvboot.Running, ""},
		{"a node more", Size{3, 5}, srvboot.Genesis{ID: "g", Size: 3, Of: 4}, srvboot.Running, ""},
		{"never one", Size{}, srvboot.Genesis{ID: "g"}, srvboot.Running, ""},
		{"a member more", Size{4, 4}, srvboot.Genesis{ID: "g", Size: 3, Of: 4}, srvboot.Running, "size 4 of 4 comes too late: the cluster keeps the 3 members"},
		{"a joiner sees it too", Size{4, 4}, srvboot.Genesis{ID: "g", Size: 3, Of: 4}, srvboot.Joining, "size 4 of 4 comes too late"},
		{"gone", Size{}, srvboot.Genesis{ID: "g", Size: 3, Of: 4}, srvboot.Running, "the size is gone from the Corefile, and the cluster keeps the 3 members"},
		{"after the birth", Size{3, 4}, srvboot.Genesis{ID: "g"}, srvboot.Running, "born without, and every node with a line joins"},
		{"not born yet", Size{3, 4}, srvboot.Genesis{ID: "g", Size: 2, Of: 3}, srvboot.Accepted, ""},
		{"the marker was lost", Size{3, 4}, srvboot.Genesis{ClusterID: "c"}, srvboot.Running, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(sizeEdit(c.now, srvboot.State{Phase: c.phase, Accepted: &srvboot.Acceptance{Genesis: c.born}}), "; ")
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := sizeEdit(Size{3, 4}, srvboot.State{Phase: srvboot.Fresh}); got != nil {
		t.Errorf("a spare says %q", got)
	}
}
