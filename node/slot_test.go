package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// answersWith are answers of now, with a node's number each; roster.NoSlot for none.
func answersWith(slots map[string]int) map[string]srvboot.Answer {
	out := map[string]srvboot.Answer{}
	for name, s := range slots {
		a := srvboot.Answer{Node: name, At: time.Now(), State: srvboot.State{Node: name}}
		if s != roster.NoSlot {
			a.State.Slot = &s
		}
		out[name] = a
	}
	return out
}

// Nodes that init did not know each take a number that no other has, in whatever order they come, and keep it.
func TestNumbering(t *testing.T) {
	b, dir := newTestBundle(t), t.TempDir() // of infra0 to infra2, and more
	taken := func(s int) string { return fmt.Sprint(s) }
	wish := func(name string) int {
		var none [roster.MaxSlot + 1]string
		s, err := pickSlot(name, none)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	own := wish("later3")
	for _, c := range []struct {
		what    string
		had     int // on disk
		members []string
		others  map[string]int
		want    int // -2 for any that is free
		wait    string
	}{
		{"the first of all", roster.NoSlot, nil, nil, own, ""},
		{"nobody has its number", roster.NoSlot, []string{"later4"}, map[string]int{"later4": (own + 7) % 64}, own, ""},
		{"somebody has its number", roster.NoSlot, []string{"later4"}, map[string]int{"later4": own}, -2, ""},
		{"a member was not heard", roster.NoSlot, []string{"infra1", "later4"}, nil, roster.NoSlot, "later4"},
		{"a member that the bundle knows need not be", roster.NoSlot, []string{"infra1"}, nil, own, ""},
		{"another new one comes first", roster.NoSlot, nil, map[string]int{"later1": roster.NoSlot}, roster.NoSlot, "later1"},
		{"another new one comes later", roster.NoSlot, nil, map[string]int{"later4": roster.NoSlot}, own, ""},
		{"it has one", 40, []string{"later4"}, nil, 40, ""},
		{"it has one, as another has whose name comes first", 40, nil, map[string]int{"later1": 40}, own, ""},
		{"it has one, as another has whose name comes later", 40, nil, map[string]int{"later4": 40}, 40, ""},
		{"it has one of the bundle's", 1, nil, nil, own, ""},
		{"another says what is none", roster.NoSlot, nil, map[string]int{"later4": 64}, own, ""},
	} {
		file := filepath.Join(dir, strings.ReplaceAll(c.what, " ", "-"))
		if c.had != roster.NoSlot {
			if err := os.WriteFile(file, fmt.Appendf(nil, `{"format":1,"slot":%d}`, c.had), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		u := newNumbering("later3", b, file, zap.NewNop())
		err := u.settle(c.members, answersWith(c.others), time.Now())
		if c.wait == "" && err != nil || c.wait != "" && (err == nil || !strings.Contains(err.Error(), c.wait)) {
			t.Errorf("%s: %v, want one that names %q", c.what, err, c.wait)
		}
		got := u.own()
		for name, s := range c.others {
			if got == s && got != roster.NoSlot && !(c.had == s && name > "later3") {
				t.Errorf("%s: %s of %s", c.what, taken(got), name)
			}
		}
		if got != c.want && c.want != -2 {
			t.Errorf("%s: %s, want %s", c.what, taken(got), taken(c.want))
		}
		if again := newNumbering("later3", b, file, zap.NewNop()); again.own() != got {
			t.Errorf("%s: %s after a restart, was %s", c.what, taken(again.own()), taken(got))
		}
	}
	for _, damaged := range []string{"", "{", `{"format":1,"slot":64}`, `{"format":1,"slot":-1}`, `{"format":2,"slot":3}`} {
		file := filepath.Join(dir, "damaged")
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if u := newNumbering("later3", b, file, zap.NewNop()); u.own() != roster.NoSlot {
			t.Errorf("%q is read as %d", damaged, u.own())
		}
	}
	// Those that init knew have the bundle's, whatever is on disk.
	if u := newNumbering("infra1", b, filepath.Join(dir, "damaged"), zap.NewNop()); u.own() != 1 || u.settle(nil, answersWith(map[string]int{"later4": 1}), time.Now()) != nil {
		t.Errorf("infra1 has %d", u.own())
	}
	// A number of the bundle that came here with a file is given up, whatever the names are.
	copied := filepath.Join(dir, "copied")
	if err := os.WriteFile(copied, []byte(`{"format":1,"slot":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if u := newNumbering("alpha", b, copied, zap.NewNop()); u.settle(nil, nil, time.Now()) != nil || u.own() == 1 {
		t.Errorf("alpha keeps the number of infra1")
	}
	var full [roster.MaxSlot + 1]string
	for i := range full {
		full[i] = "x"
	}
	if _, err := pickSlot("later3", full); err == nil {
		t.Error("a number where all are taken")
	}
}
