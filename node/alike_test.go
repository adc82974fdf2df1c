package node

import (
	"slices"
	"strings"
	"testing"
	"time"

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
