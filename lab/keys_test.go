//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The gossip key is replaced in three steps while the rack runs, node by node. In the middle of each step a node with the older
// bundle starts anew, and is heard. In the end the old key opens nothing.
func TestGossipKeyRotation(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	l.StartAll()
	l.WaitHealthy()
	l.Put("kept", "1")
	members := map[string]int{}
	for _, n := range []string{"infra0", "infra1"} {
		members[n] = l.MemberPID(n)
	}
	bundle := filepath.Join(l.operator(), "cluster.bundle")
	first, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= 3; step++ {
		r := l.Run(clientHost, l.bin(), "ca", "rotate", "gossip", "--bundle", bundle)
		if want := fmt.Sprintf("generation %d of %s, step %d of 3", step+1, bundle, step); r.Code != 0 || !strings.Contains(r.Stderr, want) {
			t.Fatalf("want %q: %v", want, r)
		}
		l.handOut("infra0", bundle)
		l.WaitStatus("infra0", "bundle_generation", fmt.Sprint(step+1))
		l.WaitStatus("infra0", "warnings", fmt.Sprintf("infra2 holds generation %d of the bundle, others %d", step, step+1))
		at, of := l.heardAlive("infra0", "infra2"), l.heardAlive("infra2", "infra0")
		l.Stop("infra2")
		l.Start("infra2")
		l.gossips("infra0", "infra2", at)
		l.gossips("infra2", "infra0", of)
		for _, n := range []string{"infra1", "infra2"} {
			l.handOut(n, bundle)
			l.WaitStatus(n, "bundle_generation", fmt.Sprint(step+1))
		}
		l.WaitHealthy()
		l.Wait("all hold one generation", healthyLimit, func() error {
			if got := l.StatusText("infra0", "warnings"); strings.Contains(got, "generation") {
				return errorf("%s", got)
			}
			return nil
		})
	}
	for _, n := range []string{"infra0", "infra1"} {
		if other := map[string]string{"infra0": "infra1", "infra1": "infra0"}[n]; l.lastHeard(n, other) != "alive" || strings.Count(l.Log(n), `"gossip: a node is dead","node":"`+other) > 0 {
			t.Errorf("%s missed %s in between", n, other)
		}
		if now := l.MemberPID(n); now != members[n] {
			t.Errorf("the member of %s is process %d and was %d", n, now, members[n])
		}
	}

	l.Stop("infra2")
	l.write(l.host("infra2"), "cluster.bundle", string(first))
	l.Start("infra2")
	l.WaitStatus("infra0", "warnings", "infra2 holds generation 1 of the bundle, others 4")
	l.Holds("nobody hears the old key", quiet, func() error {
		if word := l.lastHeard("infra0", "infra2"); word == "alive" {
			return errorf("infra2 is %s at infra0", word)
		}
		return nil
	})
	before := l.heardAlive("infra0", "infra2")
	l.handOut("infra2", bundle)
	l.gossips("infra0", "infra2", before)
	l.WaitHealthy()
	l.Get("kept", "1")
}

// handOut copies a bundle to a running node, and reloads it.
func (l *Lab) handOut(name, bundle string) {
	l.t.Helper()
	l.giveBundle(name, bundle)
	l.Signal(name, syscall.SIGHUP)
}

// giveBundle copies a bundle to a node, which takes it at its next reload or start.
func (l *Lab) giveBundle(name, bundle string) {
	l.t.Helper()
	text, err := os.ReadFile(bundle)
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(l.host(name).dir, "cluster.bundle")
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		l.t.Fatal(err)
	}
}

// lastHeard is what a node's gossip said last about another one: alive, dead or left.
func (l *Lab) lastHeard(at, other string) string {
	word := ""
	for line := range strings.Lines(l.Log(at)) {
		if _, rest, ok := strings.Cut(line, `"msg":"gossip: a node is `); ok && strings.Contains(rest, `"node":"`+other+`"`) {
			word, _, _ = strings.Cut(rest, `"`)
		}
	}
	return word
}

// heardAlive is how often a node's gossip said that another one is alive.
func (l *Lab) heardAlive(at, other string) (n int) {
	for line := range strings.Lines(l.Log(at)) {
		if strings.Contains(line, `"msg":"gossip: a node is alive"`) && strings.Contains(line, `"node":"`+other+`"`) {
			n++
		}
	}
	return n
}

// gossips waits until a node's gossip has another node's run, which it had not when heardAlive was before.
func (l *Lab) gossips(at, other string, before int) {
	l.t.Helper()
	l.Wait(at+" hears "+other, 30*time.Second, func() error {
		if word := l.lastHeard(at, other); word != "alive" || l.heardAlive(at, other) == before {
			return errorf("%s is %q", other, word)
		}
		return nil
	})
}
