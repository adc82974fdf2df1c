//go:build linux

package lab

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVoterBehindAWire: a voter has lost the wire to the leader only, and a copy of its machine with a blank disk starts under its
// name. The copy cannot see the voter, the leader does not hear it, and it is not replaced: the third member is connected with it.
func TestVoterBehindAWire(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Later: 1, Edit: fromTheNetwork("infra2")})
	members := l.Names()[:3]
	for _, n := range members {
		l.Start(n)
	}
	l.WaitHealthy(members...)
	leader := ""
	l.Wait("infra2 follows", healthyLimit, func() error {
		if leader = l.StatusText("infra0", "leader"); leader == "infra2" {
			_ = l.Tool("infra0", "member", "drain", "infra2") // asked again if it fails
		}
		if leader == "" || leader == "infra2" {
			return errorf("%q leads", leader)
		}
		return nil
	})
	third := map[string]string{"infra0": "infra1", "infra1": "infra0"}[leader]
	before := l.memberIDs(leader)
	id, err := os.ReadFile(filepath.Join("/etc/netns", l.host("infra2").ns, "machine-id"))
	if err == nil {
		err = l.host("infra3").etc("machine-id", string(id))
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Cut("infra2", leader)
	l.Cut("infra2", "infra3")
	copied := &impostor{node: l.node("infra3"), name: "infra2"}
	p, err := spawn(copied.host, "log", append([]string{l.bin(), "run"}, copied.place()...))
	if err != nil {
		t.Fatal(err)
	}
	copied.proc = p
	l.Wait("the copy is told why it waits", healthyLimit, func() error {
		if r := l.says(copied); !strings.Contains(r.Stdout, third+" is still connected with it, so another machine runs under the name infra2") {
			return errorf("%s", r)
		}
		return nil
	})
	l.Holds("the voter stays", 3*quietEnough, func() error {
		if now := l.memberIDs(leader); len(now) > 0 && !maps.Equal(now, before) {
			return errorf("the members were %x, and are %x", before, now)
		}
		return nil
	})
	l.Kill("infra3")
	l.Heal("infra2", leader)
	l.Heal("infra2", "infra3")
	l.WaitHealthy(members...)
}

// quietEnough is how long a leader must not have heard of a voter to replace it (safety.md R10 b).
const quietEnough = 5 * time.Second
