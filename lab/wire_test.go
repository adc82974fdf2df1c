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
	copied := l.startAs("infra3", "infra2")
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
	t.Run("CopyOfItsDiskInTheSameMachine", func(t *testing.T) { liveCopy(t, l, string(id), "is connected with member") })
	t.Run("CopyOfItsDiskInAnotherMachine", func(t *testing.T) {
		liveCopy(t, l, "0123456789abcdef0123456789abcdef\n", "hears of a member that runs under its ID")
	})
	l.Heal("infra2", leader)
	l.Heal("infra2", "infra3")
	l.WaitHealthy(members...)
	t.Run("CopyOfItsDiskAcrossACut", func(t *testing.T) { copyAcrossACut(t, l) })
	l.WaitHealthy(members...)
	l.Get("written at the original's side", "1")
}

// liveCopy starts a copy of infra2's disk, made while its member runs, on infra3, and wants it to wait for longer than a node needs to be sure
// that nothing runs elsewhere.
func liveCopy(t *testing.T, l *Lab, machine, says string) {
	l.Kill("infra3")
	l.Wipe("infra3")
	l.Must(clientHost, "cp", "-a", "--sparse=always", l.node("infra2").data(), l.node("infra3").data())
	if err := l.host("infra3").etc("machine-id", machine); err != nil {
		t.Fatal(err)
	}
	copied := l.startAs("infra3", "infra2")
	l.Wait("the copy says why it waits", healthyLimit, func() error {
		if r := l.says(copied); !strings.Contains(r.Stdout, says) {
			return errorf("%s", r)
		}
		return nil
	})
	l.Holds("it starts no member", 3*quietEnough, func() error { return l.idle("infra3") })
	l.Kill("infra3")
}

// copyAcrossACut: the copy is with one of the two others, which has long heard nothing of the original; that is with the third, and they
// go on. The two here must not be a second quorum.
func copyAcrossACut(t *testing.T, l *Lab) {
	for _, here := range []string{"infra0", "infra3"} {
		for _, there := range []string{"infra1", "infra2"} {
			l.Cut(here, there)
			defer l.Heal(here, there)
		}
	}
	l.Wait("the original's side goes on", healthyLimit, func() error { return l.At("infra1", "put", "written at the original's side", "1").Err() })
	liveCopy(t, l, "0123456789abcdef0123456789abcdef\n", "2 other members' nodes have to be sure for 10 s")
	if r := l.At("infra0", "put", "written at the copy's side", "1"); r.Err() == nil {
		t.Errorf("a second quorum: %v", r)
	}
}

// quietEnough is how long a leader must not have heard of a voter to replace it (safety.md R10 b).
const quietEnough = 5 * time.Second
