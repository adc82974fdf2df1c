package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func addrList(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// says is the answer of a node at a time: where it is itself, and where it knows others to be.
func says(at time.Time, places roster.Places) srvboot.Answer {
	return srvboot.Answer{At: at, State: srvboot.State{Places: places}}
}

func place(life, moves uint64, list ...string) roster.Place {
	return roster.Place{Life: life, Moves: moves, Addrs: addrList(list...)}
}

func TestPlacesLearn(t *testing.T) {
	now := time.Now()
	type answers = map[string]srvboot.Answer
	for _, c := range []struct {
		name  string
		saved roster.Places
		// heard are the answers of one look after the other, a second apart.
		heard []answers
		want  map[string]string
	}{
		{"from disk", roster.Places{"b": place(1, 1, "10.0.0.2")}, nil, map[string]string{"b": "10.0.0.2"}},
		{"its own word, whatever the date", roster.Places{"b": place(9, 9, "10.0.0.2")},
			[]answers{{"b": says(now, roster.Places{"b": place(1, 0, "10.0.0.7")})}}, map[string]string{"b": "10.0.0.7"}},
		{"another's word, if it is later", roster.Places{"b": place(1, 1, "10.0.0.2"), "d": place(3, 1, "10.0.0.4")},
			[]answers{{"c": says(now, roster.Places{"b": place(1, 2, "10.0.0.7"), "d": place(2, 9, "10.0.0.8")})}},
			map[string]string{"b": "10.0.0.7", "d": "10.0.0.4"}},
		{"another's word about one that was met", nil,
			[]answers{{"b": says(now, roster.Places{"b": place(1, 1, "10.0.0.2")})}, {"c": says(now, roster.Places{"b": place(5, 5, "10.0.0.7")})}},
			map[string]string{"b": "10.0.0.2"}},
		{"another's word about this node", nil, []answers{{"b": says(now, roster.Places{"a": place(9, 9, "10.0.0.7")})}}, map[string]string{"a": "10.0.0.1"}},
		{"an older answer once more", nil,
			[]answers{{"b": says(now, roster.Places{"b": place(1, 2, "10.0.0.7")})}, {"b": says(now.Add(-time.Second), roster.Places{"b": place(1, 1, "10.0.0.2")})}},
			map[string]string{"b": "10.0.0.7"}},
		{"a swap: who comes first has the address", roster.Places{"b": place(1, 1, "10.0.0.2"), "c": place(1, 1, "10.0.0.3")},
			[]answers{{"b": says(now, roster.Places{"b": place(2, 1, "10.0.0.3")})}}, map[string]string{"b": "10.0.0.3", "c": ""}},
		{"a swap: both are back", roster.Places{"b": place(1, 1, "10.0.0.2"), "c": place(1, 1, "10.0.0.3")},
			[]answers{{"b": says(now, roster.Places{"b": place(2, 1, "10.0.0.3")})}, {"c": says(now, roster.Places{"c": place(2, 1, "10.0.0.2")})}},
			map[string]string{"b": "10.0.0.3", "c": "10.0.0.2"}},
		{"two that live say the same", nil,
			[]answers{{"b": says(now, roster.Places{"b": place(1, 1, "10.0.0.2")}), "c": says(now, roster.Places{"c": place(1, 1, "10.0.0.2")})}},
			map[string]string{"b": "10.0.0.2", "c": "10.0.0.2"}},
		{"nonsense", nil, []answers{{"b": says(now, roster.Places{"b": {Addrs: append(addrList("0.0.0.0", "224.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.9", "10.0.0.2"), netip.Addr{})}})}},
			map[string]string{"b": "10.0.0.2"}},
		{"none that is sent again and again", nil, []answers{{"b": {State: srvboot.State{Places: roster.Places{"b": place(1, 1, "10.0.0.2")}}}}}, map[string]string{"b": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlaces("a")
			p.moved(addrList("10.0.0.1"))
			p.recall(c.saved)
			for i, heard := range c.heard {
				p.learn(heard, now.Add(time.Duration(i)*time.Second))
			}
			for name, want := range c.want {
				var got []string
				for _, a := range p.of(name) {
					got = append(got, a.String())
				}
				if strings.Join(got, " ") != want {
					t.Errorf("%s is at %v, want %s", name, got, want)
				}
			}
		})
	}
}

// The own place of an earlier run is not this one's, and a date says which of two is.
func TestOwnPlace(t *testing.T) {
	p := newPlaces("a")
	p.recall(roster.Places{"a": place(1, 4, "10.0.0.9")})
	if got := p.of("a"); got != nil {
		t.Errorf("it is at %v before its interfaces were asked", got)
	}
	p.moved(addrList("10.0.0.1"))
	o := mustParse(t, goodCorefile)
	first := p.say(o, 3)["a"]
	p.moved(addrList("10.0.0.2"))
	second := p.say(o, 3)["a"]
	if !second.Later(first) || !p.say(o, 4)["a"].Later(second) || !slices.Equal(second.Addrs, addrList("10.0.0.2")) {
		t.Errorf("first %+v, then %+v", first, second)
	}
}

// The Corefile wins: what it gives a node counts, and what it gives one no other has.
func TestPlacesFill(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "node infra2 10.0.1.12", "node infra2\n node infra3", 1))
	p := newPlaces("infra2")
	p.moved(addrList("10.0.1.12"))
	p.recall(roster.Places{"infra0": place(9, 9, "10.0.1.99"), "infra3": place(1, 1, "10.0.1.10", "fd00::13"), "gone": place(1, 1, "10.0.1.20")})
	r := o.Roster(func(string) int { return 0 })
	p.recall(roster.Places{"renamed": place(1, 1, "10.0.1.11"), "renamed and met": place(1, 1)})
	r.Nodes = append(r.Nodes, roster.Node{Name: "gone", Addrs: addrList("10.0.1.19")}, roster.Node{Name: "renamed", Addrs: addrList("10.0.1.11")},
		roster.Node{Name: "renamed and met", Addrs: addrList("10.0.1.10")})
	r = p.fill(o, r)
	line, _ := o.node("infra0")
	for name, want := range map[string][]netip.Addr{"infra0": line.Addrs, "infra2": addrList("10.0.1.12"), "infra3": addrList("fd00::13"), "gone": addrList("10.0.1.20"), "renamed": addrList("10.0.1.11"), "renamed and met": addrList("10.0.1.10")} {
		if n, _ := r.Node(name); !slices.Equal(n.Addrs, want) {
			t.Errorf("%s has %v, want %v", name, n.Addrs, want)
		}
	}
	said := p.say(o, 1)
	for name, want := range map[string]bool{"infra0": false, "infra2": true, "infra3": true, "gone": true, "renamed": true} {
		if _, says := said[name]; says != want {
			t.Errorf("it speaks of %s: %v", name, says)
		}
	}
	if got := p.conflicts(o); len(got) != 1 || !strings.Contains(got[0], "infra3") || !strings.Contains(got[0], "10.0.1.10") || !strings.Contains(got[0], "infra0") {
		t.Errorf("conflicts: %q", got)
	}
}

func TestSources(t *testing.T) {
	routes := map[string]string{"10.0.1.10": "10.0.1.5", "10.0.9.9": "10.9.0.5", "fd00::10": "fd00::5", "fd00::11": "fe80::5", "127.0.1.10": "127.0.0.1",
		"192.0.2.1": "10.0.1.5", "2001:db8::1": "fd00::5", "10.0.1.5": "10.0.1.5"}
	for _, c := range []struct{ name, landmarks, want string }{
		{"by the first that is reached", "10.8.8.8 10.0.1.10 10.0.9.9", "10.0.1.5"},
		{"one a family, IPv4 first", "fd00::10 10.0.9.9", "10.9.0.5 fd00::5"},
		{"only the families that the Corefile speaks", "10.0.1.10", "10.0.1.5"},
		{"no use to others", "fd00::11 127.0.1.10", ""},
		{"the Corefile names this machine as a name server", "10.0.1.5", "10.0.1.5"},
		{"none: the default route", "", "10.0.1.5 fd00::5"},
		{"no route", "10.7.7.7", ""},
	} {
		var got []string
		for _, a := range sources(addrList(strings.Fields(c.landmarks)...), func(to netip.Addr) (netip.Addr, bool) {
			a, err := netip.ParseAddr(routes[to.String()])
			return a, err == nil
		}) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %q", c.name, got, c.want)
		}
	}
}

func TestSourceTo(t *testing.T) {
	if a, ok := sourceTo(netip.MustParseAddr("127.3.2.1")); !ok || !a.IsLoopback() {
		t.Errorf("to loopback it is %v, %v", a, ok)
	}
	if a, ok := sourceTo(netip.MustParseAddr("fe80::1")); ok {
		t.Errorf("without a zone there is no way, and it is %v", a)
	}
}
