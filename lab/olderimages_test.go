//go:build linux

package lab

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// Older images of more disks than one, as when a hypervisor puts a rack back to a snapshot of yesterday.
func TestOlderImages(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("in the image", "1")
	before := l.memberIDs("infra0")
	l.KillAll()
	back := map[string]func(){}
	for _, n := range l.Names() {
		back[n] = l.image(n)
	}
	l.StartAll()
	l.WaitHealthy()
	l.Put("acknowledged after the image", "2")
	for _, of := range []string{"infra1", "infra2"} {
		l.Wait("infra0 remembers the latest life of "+of, healthyLimit, func() error {
			if s := l.memory("infra0", of); s.Life != 2 {
				return errorf("it remembers %+v", s)
			}
			return nil
		})
	}
	if t.Run("TwoOfThree", func(t *testing.T) { twoOlder(t, l, back, before) }) {
		t.Run("All", func(t *testing.T) { allOlder(t, l, back, before) })
	}
}

// twoOlder: infra0 has what the two others forgot, and is no quorum, so nobody serves; status names the way out, which is to put the latest
// disk of one back. The two hear infra0 alone: a majority of disks that forgot is beyond what is promised, and if they heard each other
// first, one of them might start before it hears infra0.
func twoOlder(t *testing.T, l *Lab, back map[string]func(), before map[string]uint64) {
	l.KillAll()
	latest := l.image("infra1")
	back["infra1"]()
	back["infra2"]()
	l.Cut("infra1", "infra2")
	l.StartAll()
	for _, n := range []string{"infra1", "infra2"} {
		l.WaitStatus(n, "waiting", "this disk is older than what was seen of this node: infra0 saw")
		l.WaitStatus(n, "plan.hint", "put the latest disk back")
	}
	l.Holds("no quorum forgets what was acknowledged", quiet, func() error {
		for _, n := range []string{"infra1", "infra2"} {
			if err := l.idle(n); err != nil {
				return err
			}
		}
		if r := l.At("infra0", "get", "in the image"); r.Code == 0 { // it waits for a quorum for as long as etcdctl does
			return errorf("infra0 serves: %v", r)
		}
		return nil
	})
	l.Kill("infra1")
	latest()
	l.Heal("infra1", "infra2")
	l.Start("infra1")
	l.Wait("infra2 is replaced", 2*healthyLimit, func() error {
		if id := l.memberIDs("infra0")["infra2"]; id == 0 || id == before["infra2"] {
			return errorf("its member is %x; %s", id, l.StatusText("infra2", "plan"))
		}
		return nil
	})
	l.voters(l.Names()...)
	l.WaitHealthy()
	for _, n := range l.Names() {
		l.GetAt(n, "acknowledged after the image", "2")
	}
	if err := sameMembers([]string{"infra0", "infra1"}, before, l.memberIDs("infra0")); err != nil {
		t.Error(err)
	}
}

// allOlder: the whole rack is put back to one moment. Nobody can know better, and it goes on from there.
func allOlder(t *testing.T, l *Lab, back map[string]func(), before map[string]uint64) {
	l.KillAll()
	for _, n := range l.Names() {
		back[n]()
	}
	l.StartAll()
	l.WaitHealthy()
	l.voters(l.Names()...)
	l.Get("in the image", "1")
	l.Get("acknowledged after the image", "")
	l.Put("written after that", "3")
	for _, n := range l.Names() {
		l.GetAt(n, "written after that", "3")
		if aside, _ := filepath.Glob(filepath.Join(l.node(n).data(), "etcd.aside-*")); len(aside) > 0 {
			t.Errorf("%s has set data aside: %s", n, strings.Join(aside, " "))
		}
	}
	if now := l.memberIDs("infra0"); !maps.Equal(now, before) {
		t.Errorf("the members were %x and are %x", before, now)
	}
}
