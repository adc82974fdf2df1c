//go:build linux

package lab

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guideSRV are the guide's first two record sets, and those of a cluster that is called foo.
const guideSRV = `_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra0.example.com.
_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra1.example.com.
_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra2.example.com.
_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra0.example.com.
_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra1.example.com.
_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra2.example.com.
_etcd-server-foo._tcp.example.com. 300 IN SRV 0 0 2380 infra0.example.com.
_etcd-server-foo._tcp.example.com. 300 IN SRV 0 0 2380 infra1.example.com.
_etcd-server-foo._tcp.example.com. 300 IN SRV 0 0 2380 infra2.example.com.
`

// digs is a row that asks as the guide does, and must get what it has, whose lines stand in any order.
func digs(name, command, want string) guideRow {
	return guideRow{name: name, commands: []string{command}, want: ends, after: func(g *guide) {
		var got []string
		for line := range strings.Lines(g.said(clientHost)) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		slices.Sort(got)
		if diff := cmp.Diff(strings.Split(want, "\n"), got); diff != "" {
			g.t.Errorf("%s (-want +got):\n%s", command, diff)
		}
	}}
}

// TestGuideDNS is the guide's third way: SRV records name the members.
func TestGuideDNS(t *testing.T) {
	names := []string{
		`etcd --name infra0 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://infra0.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://infra0.example.com:2379 \
  --listen-client-urls http://0.0.0.0:2379 \
  --listen-peer-urls http://0.0.0.0:2380`,
		`etcd --name infra1 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://infra1.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://infra1.example.com:2379 \
  --listen-client-urls http://0.0.0.0:2379 \
  --listen-peer-urls http://0.0.0.0:2380`,
		`etcd --name infra2 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://infra2.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://infra2.example.com:2379 \
  --listen-client-urls http://0.0.0.0:2379 \
  --listen-peer-urls http://0.0.0.0:2380`,
	}
	named := func(commands []string, more string) (out []string) {
		for _, c := range commands {
			out = append(out, strings.Replace(c, "--discovery-srv example.com", "--discovery-srv example.com"+more, 1))
		}
		return out
	}
	guideRows(t, guideSRV, nil,
		digs("DigServer", `dig +noall +answer SRV _etcd-server._tcp.example.com`, `_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra0.example.com.
_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra1.example.com.
_etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 infra2.example.com.`),
		digs("DigClient", `dig +noall +answer SRV _etcd-client._tcp.example.com`, `_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra0.example.com.
_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra1.example.com.
_etcd-client._tcp.example.com. 300 IN SRV 0 0 2379 infra2.example.com.`),
		digs("DigHosts", `dig +noall +answer infra0.example.com infra1.example.com infra2.example.com`, `infra0.example.com. 300 IN A 10.0.1.10
infra1.example.com. 300 IN A 10.0.1.11
infra2.example.com. 300 IN A 10.0.1.12`),
		guideRow{name: "Names", commands: names, after: func(g *guide) {
			g.lookedUp("_etcd-server-ssl._tcp", "_etcd-server._tcp")
			// A client finds them by the second record set.
			if err := isValue(g.Run(clientHost, "etcdctl", "--discovery-srv", "example.com", "get", "guide", "--print-value-only"), "Names"); err != nil {
				g.t.Error(err)
			}
		}},
		// etcd's gateway takes members without TLS only when told so.
		guideRow{name: "GatewayWithoutTLS", then: true, commands: []string{`etcd gateway start --discovery-srv=example.com --insecure-discovery`},
			want: runs, says: []string{"ready to proxy client requests"}, after: carries},
		guideRow{name: "Addresses", commands: []string{
			`etcd --name infra0 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://10.0.1.10:2379 \
  --listen-client-urls http://10.0.1.10:2379 \
  --listen-peer-urls http://10.0.1.10:2380`,
			`etcd --name infra1 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://10.0.1.11:2379 \
  --listen-client-urls http://10.0.1.11:2379 \
  --listen-peer-urls http://10.0.1.11:2380`,
			`etcd --name infra2 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls http://10.0.1.12:2379 \
  --listen-client-urls http://10.0.1.12:2379 \
  --listen-peer-urls http://10.0.1.12:2380`,
		}},
		guideRow{name: "ServiceName", commands: named(names, " --discovery-srv-name foo"), after: func(g *guide) {
			g.lookedUp("_etcd-server-ssl-foo._tcp", "_etcd-server-foo._tcp")
		}},
		guideRow{name: "NotInSRV", commands: []string{strings.ReplaceAll(names[0], "infra0", "infra3")}, words: map[string]string{"http://infra3.example.com": "http://10.0.1.13"}, want: fails, says: []string{
			`cannot find local etcd member "infra3" in SRV records: --initial-advertise-peer-urls is http://10.0.1.13:2380`,
			"infra0.example.com:2380, infra1.example.com:2380, infra2.example.com:2380", "hint: publish _etcd-server._tcp.example.com. 300 IN SRV 0 0 2380 NAME., with the address of NAME; or correct"}},
		guideRow{name: "NoSRV", commands: named(names[:1], " --discovery-srv-name bar"), want: fails, says: []string{
			"no SRV records at _etcd-server-ssl-bar._tcp.example.com, nor at _etcd-server-bar._tcp.example.com", "hint: dig SRV _etcd-server-bar._tcp.example.com"}},
	)
}

// lookedUp: the members have looked up both names, the first one first.
func (g *guide) lookedUp(first, second string) {
	g.t.Helper()
	_, rest, found := strings.Cut(g.ResolverLog(), first+".example.com. SRV IN")
	if !found || !strings.Contains(rest, second+".example.com. SRV IN") {
		g.t.Errorf("the resolver was not asked for %s, and then for %s", first, second)
	}
}

// carries: what goes through a proxy on the client arrives.
func carries(g *guide) {
	g.t.Helper()
	g.Wait("a write through the proxy", healthyLimit, func() error {
		return g.ctl(g.scheme+"://127.0.0.1:23790", "put", "through", "it").Err()
	})
	if err := isValue(g.ctl(g.url("infra1"), "get", "through", "--print-value-only"), "it"); err != nil {
		g.t.Error(err)
	}
}
