//go:build linux

package lab

import (
	"path/filepath"
	"strings"
	"testing"
)

// guideSecure are the records of a cluster with TLS; away is one whose members are hosts of another domain.
const (
	guideSecure = `_etcd-server-ssl._tcp.example.com. 300 IN SRV 0 0 2380 infra0.example.com.
_etcd-server-ssl._tcp.example.com. 300 IN SRV 0 0 2380 infra1.example.com.
_etcd-server-ssl._tcp.example.com. 300 IN SRV 0 0 2380 infra2.example.com.
_etcd-client-ssl._tcp.example.com. 300 IN SRV 0 0 2379 infra0.example.com.
_etcd-client-ssl._tcp.example.com. 300 IN SRV 0 0 2379 infra1.example.com.
_etcd-client-ssl._tcp.example.com. 300 IN SRV 0 0 2379 infra2.example.com.
_etcd-server-ssl-away._tcp.example.com. 300 IN SRV 0 0 2380 infra0.example.net.
_etcd-server-ssl-away._tcp.example.com. 300 IN SRV 0 0 2380 infra1.example.net.
_etcd-server-ssl-away._tcp.example.com. 300 IN SRV 0 0 2380 infra2.example.net.
`
	awayZone = "infra0.example.net. 300 A 10.0.1.10\ninfra1.example.net. 300 A 10.0.1.11\ninfra2.example.net. 300 A 10.0.1.12\n"
)

// TestGuideDNSWithTLS: SRV records name members with TLS, with a CA of one's own and without one.
func TestGuideDNSWithTLS(t *testing.T) {
	// The guide has no command line for these: they are those of its two parts together.
	own := []string{
		`etcd --name infra0 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra0.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra0.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra0-client.crt --key-file=/path/to/infra0-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra0-peer.crt --peer-key-file=/path/to/infra0-peer.key`,
		`etcd --name infra1 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra1.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra1.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra1-client.crt --key-file=/path/to/infra1-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra1-peer.crt --peer-key-file=/path/to/infra1-peer.key`,
		`etcd --name infra2 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra2.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra2.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra2-client.crt --key-file=/path/to/infra2-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra2-peer.crt --peer-key-file=/path/to/infra2-peer.key`,
	}
	public := []string{
		`etcd --name infra0 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra0.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra0.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --cert-file=/path/to/infra0-client.crt --key-file=/path/to/infra0-client.key \
  --peer-cert-file=/path/to/infra0-peer.crt --peer-key-file=/path/to/infra0-peer.key`,
		`etcd --name infra1 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra1.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra1.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --cert-file=/path/to/infra1-client.crt --key-file=/path/to/infra1-client.key \
  --peer-cert-file=/path/to/infra1-peer.crt --peer-key-file=/path/to/infra1-peer.key`,
		`etcd --name infra2 \
  --discovery-srv example.com \
  --initial-advertise-peer-urls https://infra2.example.com:2380 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster-state new \
  --advertise-client-urls https://infra2.example.com:2379 \
  --listen-client-urls https://0.0.0.0:2379 \
  --listen-peer-urls https://0.0.0.0:2380 \
  --cert-file=/path/to/infra2-client.crt --key-file=/path/to/infra2-client.key \
  --peer-cert-file=/path/to/infra2-peer.crt --peer-key-file=/path/to/infra2-peer.key`,
	}
	away := func() (out []string) {
		for _, c := range public {
			c = strings.Replace(c, "--discovery-srv example.com", "--discovery-srv example.com --discovery-srv-name away", 1)
			out = append(out, strings.ReplaceAll(c, ".example.com:", ".example.net:"))
		}
		return out
	}()
	// certified makes the hosts' only public CA, and certificates of it for these names beside those of the members.
	certified := func(names ...string) func(*guide) {
		return func(g *guide) {
			ca := newAuthority(g.t, "public")
			g.trust(ca)
			g.members(ca, ca, names...)
		}
	}
	guideRows(t, guideSecure, func(g *guide) { g.root(awayZone) },
		guideRow{name: "OwnCA", before: func(g *guide) {
			g.members(newAuthority(g.t, "clients"), newAuthority(g.t, "peers"), "example.com")
		}, commands: own, after: silent},
		guideRow{name: "Gateway", then: true, commands: []string{`etcd gateway start --discovery-srv=example.com`},
			want: runs, says: []string{"ready to proxy client requests"}, after: carries},
		guideRow{name: "GRPCProxy", then: true, before: func(g *guide) {
			if err := killAll(g.host(clientHost).ns); err != nil {
				g.t.Fatal(err)
			}
			g.scheme = "http"
		}, commands: []string{`etcd grpc-proxy start --discovery-srv=example.com --listen-addr=127.0.0.1:23790 \
  --cacert=/path/to/ca.crt --cert=/path/to/client.crt --key=/path/to/client.key`}, want: runs, after: func(g *guide) {
			g.Wait("a write through the proxy", healthyLimit, func() error {
				return g.Run(clientHost, "etcdctl", "--endpoints", "http://127.0.0.1:23790", "put", "through", "it").Err()
			})
		}},
		// Without a CA of one's own the other members' certificates are for the domain, whoever's host it is.
		guideRow{name: "PublicCA", before: certified("example.com"), commands: public, after: silent},
		guideRow{name: "DomainNotInCertificate", before: certified(), commands: public, want: runs, says: []string{
			"-peer.crt is for infra", "but not for example.com, which the other members look for"}, after: func(g *guide) {
			g.hears("infra0", "rejected connection")
			g.hears("infra0", "tls: bad certificate")
			g.hears("infra0", `"server-name":"example.com"`)
		}},
		guideRow{name: "TargetsOutsideTheDomain", before: certified("example.com"), commands: away, says: []string{
			"warning: the SRV records of example.com name infra0.example.net, infra1.example.net, infra2.example.net, outside it", "--peer-trusted-ca-file"}},
		guideRow{name: "CertificateForAnother", before: func(g *guide) {
			g.members(newAuthority(g.t, "clients"), newAuthority(g.t, "peers"), "example.com")
			newAuthority(g.t, "other").issue(filepath.Join(g.work("infra0"), "infra0-peer"), "elsewhere.example.com", "example.com")
		}, commands: own[:1], want: runs, says: []string{"infra0-peer.crt is for elsewhere.example.com, example.com", "but not for infra0.example.com, which the other members look for"}},
	)
}

// silent: there is nothing to warn of.
func silent(g *guide) {
	g.t.Helper()
	for _, name := range g.Names() {
		if strings.Contains(g.said(name), "etcd-dns: warning:") {
			g.t.Errorf("%s warns without a cause:\n%s", name, g.said(name))
		}
	}
}
