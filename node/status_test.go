package node

import (
	"strings"
	"testing"
)

// A node of another birth is named, whoever looks; one that is not born, or says nothing, is not.
func TestStatusNamesStrangers(t *testing.T) {
	nodes := []NodeStatus{{Name: "infra0", Cluster: "a"}, {Name: "infra1", Cluster: "a", Genesis: "g"}, {Name: "infra2", Cluster: "b", Genesis: "h"}, {Name: "infra3"}}
	for own, want := range map[string]string{"infra0": "infra2", "infra1": "infra2", "infra2": "infra0 infra1", "infra3": ""} {
		s := Status{Node: own, Nodes: nodes}
		var got []string
		for _, line := range s.strangers() {
			name, _, _ := strings.Cut(line, " ")
			got = append(got, name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s names %q, want %q", own, got, want)
		}
	}
}
