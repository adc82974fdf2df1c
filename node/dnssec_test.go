package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// testRack is a rack whose nodes ask each other by function calls, with a clock that the test moves.
type testRack struct {
	now    time.Time
	nodes  map[string]*dnssec
	down   map[string]bool
	view   func() sign.View
	clocks map[string]time.Duration
	synced bool
}

var dnssecStart = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func newTestRack(t *testing.T, names ...string) *testRack {
	t.Helper()
	r := &testRack{now: dnssecStart, nodes: map[string]*dnssec{}, down: map[string]bool{}, clocks: map[string]time.Duration{}}
	b := newTestBundle(t)
	ring, err := sign.NewRing(b.Secrets().ZoneKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		r.nodes[name] = &dnssec{domain: b.Domain(), node: name, bundle: b.ID(), created: dnssecStart.Add(-time.Hour), file: filepath.Join(t.TempDir(), dnssecFile),
			ring: ring, log: zap.NewNop(), now: func() time.Time { return r.now.Add(r.clocks[name]) }, synced: func() bool { return r.synced },
			state: blankDNSSEC(), heard: map[string]heard{}, faults: map[string]string{}, prompts: newPrompt(), changed: func() {},
			others: func() []string {
				return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
			},
			look: func(context.Context) sign.View { return r.view() },
			ask: func(_ context.Context, node string) (dnssecAnswer, error) {
				if r.down[node] || r.down[name] {
					return dnssecAnswer{}, errors.New("no route")
				}
				return r.nodes[node].answer(), nil
			}}
	}
	return r
}

// sync lets every node ask every other one twice, so that news pass through.
func (r *testRack) sync(t *testing.T) {
	t.Helper()
	for range 2 {
		for _, d := range r.nodes {
			d.sync(t.Context())
		}
	}
}

// pass lets time go by, with a look every minute.
func (r *testRack) pass(t *testing.T, d time.Duration) {
	t.Helper()
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(dnssecLook)
		for _, n := range r.nodes {
			n.advance(t.Context())
		}
		r.sync(t)
	}
}

func (r *testRack) want(t *testing.T, what string, ok func(DNSSECStatus) bool) {
	t.Helper()
	for name, d := range r.nodes {
		if s := d.status(); !ok(s) {
			t.Fatalf("%s: %s is %+v", what, name, s)
		}
	}
}

// serving is the view of name servers that follow the nodes at once, and of a parent that has one DS.
func (r *testRack) serving(ds ...uint16) func() sign.View {
	return func() sign.View {
		v := sign.View{ZoneTTL: zoneTTL(nil), Parent: sign.Parent{Sets: [][]uint16{ds}}}
		if len(ds) > 0 {
			v.Parent.TTL = 7200
		}
		for name, d := range r.nodes {
			s := sign.Server{Name: name}
			state := d.answer().State
			for _, k := range state.Keys {
				s.Published = append(s.Published, k.Tag)
				if k.Phase == sign.Active {
					s.Signing = append(s.Signing, k.Tag)
				}
			}
			s.Deletes = state.Mode == sign.GoingOff
			v.Servers = append(v.Servers, s)
		}
		return v
	}
}

func (r *testRack) tags(t *testing.T, d *dnssec) (out []uint16) {
	t.Helper()
	for n := range uint32(2) {
		k, err := d.ring.Key(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k.Tag())
	}
	return out
}

// A whole life: on, announced, secure, rolled over, off, on three nodes that agree at every stage.
func TestDNSSECLife(t *testing.T) {
	r := newTestRack(t, "infra0", "infra1", "infra2")
	tags := r.tags(t, r.nodes["infra0"])
	r.view = r.serving()
	r.sync(t)
	r.want(t, "before", func(s DNSSECStatus) bool { return s.Mode == sign.Off && s.Known && len(s.DS) == 0 })
	if err := r.nodes["infra1"].command("on"); err != nil {
		t.Fatal(err)
	}
	r.sync(t)
	r.want(t, "on", func(s DNSSECStatus) bool { return s.Mode == sign.On && !s.Announced && len(s.DS) == 0 })
	id := r.nodes["infra0"].signer().ID()
	for _, d := range r.nodes {
		if d.signer().ID() != id {
			t.Errorf("%s signs as %s, infra0 as %s", d.node, d.signer().ID(), id)
		}
	}
	r.pass(t, 64*time.Minute)
	r.want(t, "announced", func(s DNSSECStatus) bool {
		return s.Announced && len(s.DS) == 1 && strings.Contains(s.DS[0], fmt.Sprintf("DS\t%d 13 2 ", tags[0])) && s.Waiting != ""
	})
	r.view = r.serving(tags[0])
	r.pass(t, 2*time.Minute)
	r.want(t, "secure", func(s DNSSECStatus) bool { return s.Parent == "secure" && s.Waiting == "" })
	if err := r.nodes["infra2"].command("rollover"); err != nil {
		t.Fatal(err)
	}
	r.sync(t)
	r.want(t, "pre-published", func(s DNSSECStatus) bool { return len(s.Keys) == 2 && s.Keys[1].Phase == sign.PrePublished })
	r.pass(t, 150*time.Minute)
	r.want(t, "the new key signs", func(s DNSSECStatus) bool {
		return len(s.Keys) == 2 && s.Keys[1].Phase == sign.Active && s.Parent == "other" && strings.Contains(s.DS[0], fmt.Sprintf("DS\t%d ", tags[1]))
	})
	r.view = r.serving(tags[1])
	r.pass(t, 170*time.Minute)
	r.want(t, "the old DS may be cached", func(s DNSSECStatus) bool { return len(s.Keys) == 2 })
	r.pass(t, 15*time.Minute)
	r.want(t, "rolled over", func(s DNSSECStatus) bool { return len(s.Keys) == 1 && s.Keys[0].Number == 1 && s.Parent == "secure" })
	if err := r.nodes["infra0"].command("off"); err != nil {
		t.Fatal(err)
	}
	r.pass(t, 24*time.Hour)
	r.want(t, "the DS is still there", func(s DNSSECStatus) bool { return s.Mode == sign.GoingOff && len(s.DS) == 0 })
	r.view = r.serving()
	r.pass(t, 185*time.Minute)
	r.want(t, "off", func(s DNSSECStatus) bool { return s.Mode == sign.Off })
	for _, d := range r.nodes {
		if d.signer() != nil {
			t.Errorf("%s still signs", d.node)
		}
	}
}

// Off and on again within a minute: caches hold the zone without signatures, so the wait begins anew.
func TestDNSSECOffAndOn(t *testing.T) {
	r := newTestRack(t, "infra0", "infra1")
	r.view = r.serving()
	r.sync(t)
	for _, c := range []string{"on", "off-now", "on"} {
		if c == "off-now" {
			r.pass(t, 64*time.Minute)
			r.want(t, "announced", func(s DNSSECStatus) bool { return s.Announced })
		}
		if err := r.nodes["infra0"].command(c); err != nil {
			t.Fatal(err)
		}
		r.sync(t)
	}
	r.pass(t, 58*time.Minute)
	r.want(t, "on again", func(s DNSSECStatus) bool { return s.Mode == sign.On && !s.Announced })
	r.pass(t, 6*time.Minute)
	r.want(t, "announced again", func(s DNSSECStatus) bool { return s.Announced })
}

// What a node knows outlives it; without a memory it waits for the others before it takes a command.
func TestDNSSECMemory(t *testing.T) {
	r := newTestRack(t, "infra0", "infra1")
	r.view = r.serving()
	r.synced = true
	a, b := r.nodes["infra0"], r.nodes["infra1"]
	r.down["infra1"] = true
	r.sync(t)
	if err := a.command("on"); err == nil || a.status().Known {
		t.Errorf("a node that may have forgotten took a command: %v", err)
	}
	r.down["infra1"] = false
	r.sync(t)
	if _, err := os.Stat(a.file); err != nil {
		t.Errorf("that nobody signs is not remembered: %v", err)
	}
	if err := a.command("on"); err != nil {
		t.Fatal(err)
	}
	r.sync(t)

	again := newTestRack(t, "infra0", "infra1").nodes["infra0"]
	again.domain, again.ring, again.file, again.created = b.domain, b.ring, b.file, b.created
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	if again.signer() == nil || again.signer().ID() != a.signer().ID() || !again.status().Known {
		t.Errorf("after a restart: %+v", again.status())
	}
	for _, damaged := range []string{"", "{", `{"format":1,"mode":"maybe","keys":[]}`, `{"format":1,"mode":"on","keys":[]}`} {
		lost := newTestRack(t, "infra0", "infra1").nodes["infra0"]
		write(t, lost.file, damaged)
		if err := lost.load(); err != nil || lost.signer() != nil || lost.status().Known {
			t.Errorf("%q: %v, %+v; want a node that waits for the others", damaged, err, lost.status())
		}
	}
	newer := newTestRack(t, "infra0").nodes["infra0"]
	write(t, newer.file, `{"format":2}`)
	if err := newer.load(); err == nil {
		t.Error("a state of a newer version was taken")
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A full disk stops this node's own steps and commands; what the others have it follows all the same, and says so.
func TestDNSSECFullDisk(t *testing.T) {
	r := newTestRack(t, "infra0", "infra1")
	r.view = r.serving()
	r.sync(t)
	full := r.nodes["infra0"]
	file := full.file
	full.file = filepath.Join(t.TempDir(), "gone", dnssecFile)
	if err := full.command("on"); err == nil || full.signer() != nil {
		t.Errorf("a command that is not on disk was obeyed: %v", err)
	}
	if err := r.nodes["infra1"].command("on"); err != nil {
		t.Fatal(err)
	}
	r.sync(t)
	if full.signer() == nil || len(full.status().Problems) != 1 {
		t.Errorf("the rack signs, this node: %+v", full.status())
	}
	full.file = file
	r.sync(t)
	if s, err := readDNSSEC(file); err != nil || s.Mode != sign.On || len(full.status().Problems) != 0 {
		t.Errorf("with room again: %v, %v, %v", s, err, full.status().Problems)
	}
}

// The epoch follows clocks that agree, and a node whose clock is alone follows the others.
func TestDNSSECEpoch(t *testing.T) {
	r := newTestRack(t, "infra0", "infra1", "infra2")
	r.view = r.serving()
	r.sync(t)
	if err := r.nodes["infra0"].command("on"); err != nil {
		t.Fatal(err)
	}
	first := sign.EpochAt(dnssecStart)
	r.clocks["infra2"] = 400 * 24 * time.Hour
	r.sync(t)
	r.want(t, "a clock is a year ahead", func(s DNSSECStatus) bool {
		return s.Epoch.Number == first && s.Epoch.ClockPlausible == (s.Node != "infra2")
	})
	r.now = sign.EpochStart(first + 1)
	r.sync(t)
	r.want(t, "the next epoch", func(s DNSSECStatus) bool { return s.Epoch.Number == first+1 })
	if err := r.nodes["infra2"].command("off"); err != nil {
		t.Errorf("a wrong clock keeps nobody from switching off: %v", err)
	}
}

func TestPlausible(t *testing.T) {
	const near, far = 30 * time.Minute, -48 * time.Hour
	for _, c := range []struct {
		name         string
		others       int
		ahead        []time.Duration
		synced, want bool
	}{
		{"a rack of one", 0, nil, false, true},
		{"nobody heard", 2, nil, false, false},
		{"nobody heard, time service", 2, nil, true, true},
		{"two agree", 1, []time.Duration{near}, false, true},
		{"two differ", 1, []time.Duration{far}, false, false},
		{"two differ, time service", 1, []time.Duration{far}, true, true},
		{"two of three", 2, []time.Duration{near, far}, false, true},
		{"one of three, time service", 2, []time.Duration{far, far}, true, false},
		{"exactly an hour", 1, []time.Duration{-time.Hour}, false, true},
	} {
		if got := plausible(c.others, c.ahead, func() bool { return c.synced }); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

// A node takes nothing from another rack, another node or a later version.
func TestCheckDNSSEC(t *testing.T) {
	good := dnssecAnswer{Format: 1, Bundle: "b", Node: "n", State: blankDNSSEC()}
	if err := checkDNSSEC(good, "n", "b"); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*dnssecAnswer){
		"bundle": func(a *dnssecAnswer) { a.Bundle = "c" }, "node": func(a *dnssecAnswer) { a.Node = "m" },
		"format": func(a *dnssecAnswer) { a.Format = 2 }, "state": func(a *dnssecAnswer) { a.State.Mode = sign.On },
	} {
		a := good
		change(&a)
		if checkDNSSEC(a, "n", "b") == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
