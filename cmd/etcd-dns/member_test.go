package main

import (
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/node"
)

// member list says why a node waits, whether the list has its member or not.
func TestMemberListSaysWhoWaits(t *testing.T) {
	s := node.Status{
		Members: []node.MemberStatus{{ID: "aa", Name: "infra0", Serving: true, Leader: true}, {ID: "bb", Name: "infra1"}},
		Nodes: []node.NodeStatus{{Name: "infra0", Reachable: true}, {Name: "infra1", Reachable: true, Plan: "ask", Reason: "its disk is lost"},
			{Name: "infra2", Plan: "wait", Error: "no answer"}},
	}
	var out strings.Builder
	if err := writeMembers(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"infra1: its disk is lost\n", "infra2: no answer\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "infra0:") {
		t.Errorf("it says that infra0 waits:\n%s", out.String())
	}
}
