package roster

import (
	"net/netip"
	"slices"
	"testing"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestPlaceLater(t *testing.T) {
	order := []Place{{}, {Moves: 1}, {Moves: 2}, {Life: 1}, {Life: 2}, {Life: 2, Moves: 7}}
	for i, a := range order {
		for j, b := range order {
			if got := a.Later(b); got != (i > j) {
				t.Errorf("%+v after %+v: %v", a, b, got)
			}
		}
	}
}

func TestVacate(t *testing.T) {
	kept := addrs("10.0.0.1", "fd00::1")
	p := Places{"a": {Addrs: kept}, "b": {Addrs: addrs("10.0.0.1")}, "c": {Addrs: addrs("10.0.0.1", "10.0.0.3")}}
	p.Vacate(addrs("10.0.0.1"), func(name string) bool { return name != "a" })
	if len(p["a"].Addrs) != 2 || len(p["b"].Addrs) != 0 || !slices.Equal(p["c"].Addrs, addrs("10.0.0.3")) {
		t.Errorf("got %v", p)
	}
	p.Vacate(addrs("10.0.0.1"), func(string) bool { return true })
	if !slices.Equal(kept, addrs("10.0.0.1", "fd00::1")) {
		t.Errorf("the list of somebody else was changed to %v", kept)
	}
}
