package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func TestAlikeLines(t *testing.T) {
	o := mustParse(t, `rack1.example.com {
    etcdsrv {
        name   infra0   # of this machine
        bundle cluster.bundle
        data   /var/lib/etcd-dns
        node infra0   10.0.1.10
        node infra1 10.0.1.11
        record www TXT "two words" ""
        cluster foo {
            node infra2 10.0.1.12
        }
    }
    errors
}
`)
	want := []string{"node infra0 10.0.1.10", "node infra1 10.0.1.11", `record www TXT "two words" ""`, "cluster foo", "cluster foo { node infra2 10.0.1.12 }"}
	if !slices.Equal(o.Alike, want) {
		t.Errorf("got %q, want %q", o.Alike, want)
	}
}

func TestOtherCorefiles(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	own := mustParse(t, goodCorefile)
	for _, tt := range []struct{ name, from, to, want string }{
		{"equal", "", "", ""},
		{"spaces, comments and the machine's words", "bundle cluster.bundle", "name infra1\n # here\n bundle  other.bundle", ""},
		{"an address", "node infra2 10.0.1.12", "node infra2 10.0.1.99", "only there: `node infra2 10.0.1.99`; only here: `node infra2 10.0.1.12`"},
		{"a line less", "        node infra2 10.0.1.12\n", "", "infra1 has another Corefile: only here: `node infra2 10.0.1.12`; make"},
		{"a word more", "bundle cluster.bundle", "bundle cluster.bundle\nttl 60s", "only there: `ttl 60s`; make"},
		{"the order", "node infra1 10.0.1.11 fd00::11 peer 10.9.0.11\n        node infra2 10.0.1.12",
			"node infra2 10.0.1.12\n        node infra1 10.0.1.11 fd00::11 peer 10.9.0.11", "the same lines in another order"},
		{"much", "bundle cluster.bundle", "bundle cluster.bundle\nttl 60s\naliases on\nrrl off\njoin 10.0.1.1\nquota 2GiB", "`join 10.0.1.1` and 1 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(goodCorefile, tt.from, tt.to, 1)
			if text == goodCorefile && tt.from != "" {
				t.Fatalf("%q is not in\n%s", tt.from, goodCorefile)
			}
			theirs := mustParse(t, text)
			answer := srvboot.Answer{Node: "infra1", At: now, State: srvboot.State{Corefile: theirs.alikeDigest(), Lines: theirs.Alike}}
			old := answer
			old.At = now.Add(-time.Minute)
			got := strings.Join(own.otherCorefiles(map[string]srvboot.Answer{"infra1": answer, "infra2": old}, now), "\n")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestToldNodes(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	own := mustParse(t, goodCorefile)
	for _, tt := range []struct {
		line string
		want string
		age  time.Duration
	}{
		{"node infra9 10.0.1.19", "infra9 [10.0.1.19] []", 0},
		{"node infra9 10.0.1.19 fd00::19 peer 10.9.0.19", "infra9 [10.0.1.19 fd00::19] [10.9.0.19]", 0},
		{"cluster foo { node infra9 10.0.1.19 }", "infra9 [10.0.1.19] []", 0},
		{"node infra9 10.0.1.19", "", staleAnswer + time.Second},
		{"node infra1 10.0.1.19", "", 0},    // this Corefile has a line for it
		{"node infra9 10.9.0.11", "", 0},    // infra1's
		{"node infra9", "", 0},              // from the network
		{"node infra9 127.0.0.1%lo", "", 0}, // no Corefile has it
		{"node infra9 ten", "", 0},
		{"node -x 10.0.1.19", "", 0},
		{"node", "", 0},
		{"record infra9 A 10.0.1.19", "", 0},
	} {
		var got []string
		for _, n := range own.toldNodes(map[string]srvboot.Answer{"infra2": {Node: "infra2", At: now.Add(-tt.age), Asked: now, State: srvboot.State{Lines: []string{tt.line}}}}, nil, now) {
			got = append(got, fmt.Sprint(n.Name, " ", n.Addrs, " ", n.PeerAddrs))
			if n.Slot != roster.NoSlot {
				t.Errorf("%q: slot %d", tt.line, n.Slot)
			}
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// Where other nodes' lines for one differ, it is the node itself that knows, and what is published stays while anybody says so.
func TestToldNodesDiffer(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	o := mustParse(t, goodCorefile)
	answer := func(line string) srvboot.Answer {
		return srvboot.Answer{At: now, Asked: now, State: srvboot.State{Lines: []string{line}}}
	}
	answers := map[string]srvboot.Answer{"infra0": answer("node infra9 10.0.1.19 peer 10.9.0.1"), "infra1": answer("node infra9 10.0.1.19 peer 10.9.0.2")}
	for _, c := range []struct{ self, last, want string }{
		{"10.9.0.3 long ago", "10.9.0.1", "10.9.0.3"},
		{"", "", "10.9.0.1"},
		{"", "10.9.0.1", "10.9.0.1"},
		{"", "10.9.0.2", "10.9.0.2"},
		{"", "10.9.0.3", "10.9.0.1"},
		{"10.9.0.2", "10.9.0.1", "10.9.0.2"},
		{"10.9.0.3", "10.9.0.1", "10.9.0.3"},
	} {
		var last []roster.Node
		if c.last != "" {
			last = []roster.Node{{Name: "infra9", PeerAddrs: []netip.Addr{netip.MustParseAddr(c.last)}}}
		}
		delete(answers, "infra9")
		if c.self != "" {
			line, old := strings.CutSuffix("node infra9 10.0.1.19 peer "+c.self, " long ago")
			a := answer(line)
			if old {
				a.At = now.Add(-time.Hour)
			}
			answers["infra9"] = a
		}
		if got := o.toldNodes(answers, last, now); len(got) == 0 || fmt.Sprint(got[0].PeerAddrs) != "["+c.want+"]" {
			t.Errorf("itself %q, published %q: %v, want %s first", c.self, c.last, got, c.want)
		}
	}
}

func FuzzNodeLine(f *testing.F) {
	f.Add("node infra9 10.0.1.19 fd00::19 peer 10.9.0.19")
	f.Add("cluster foo { node infra9 10.0.1.19 }")
	f.Fuzz(func(t *testing.T, line string) {
		n, ok := nodeOf(line)
		if ok && (badLabel(n.Name) != "" || len(n.Addrs) == 0 || slices.ContainsFunc(slices.Concat(n.Addrs, n.PeerAddrs), func(a netip.Addr) bool { return !reachable(a) })) {
			t.Errorf("%q is taken for %+v", line, n)
		}
	})
}
