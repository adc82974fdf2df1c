//go:build linux

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuideStatic is the guide's first way: every member knows all of them.
func TestGuideStatic(t *testing.T) {
	static := []string{
		`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state new`,
		`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls http://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state new`,
		`etcd --name infra2 --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --listen-peer-urls http://10.0.1.12:2380 \
  --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.12:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state new`,
	}
	guideRows(t, "", nil,
		guideRow{name: "Static", commands: static},
		// What begins with --initial-cluster does not count after the first start, and may be left out.
		guideRow{name: "StaticRestarted", then: true, before: (*guide).killMembers, commands: []string{
			`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379`,
			`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls http://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379`,
			`etcd --name infra2 --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --listen-peer-urls http://10.0.1.12:2380 \
  --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.12:2379`,
		}},
		// etcd 3.7 starts this one, and it and the others log that they do not know each other.
		guideRow{name: "ConflictingClusterID", then: true, commands: []string{conflicting}, want: fails,
			says: []string{"conflicting cluster ID to the target cluster (",
				"that cluster has http://10.0.1.10:2380, http://10.0.1.11:2380, http://10.0.1.12:2380, and it has http://10.0.1.10:2380, http://10.0.1.11:2380, http://10.0.1.13:2380", "hint: to join that cluster: etcdctl member add infra3 --peer-urls=http://10.0.1.13:2380"}, after: namesBothIDs},
		guideRow{name: "ConflictingClusterIDShownLater", before: func(g *guide) {
			g.run(conflicting)
			g.hears("infra3", "is starting a new election")
		}, commands: static, after: func(g *guide) {
			g.becomes("infra3", fails)
			g.hears("infra3", "says the first, as do 2 of the 3 members that infra3 has in its own")
			namesBothIDs(g)
		}},
		guideRow{name: "StaticByVariables",
			env: []string{"ETCD_INITIAL_CLUSTER=infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380", "ETCD_INITIAL_CLUSTER_STATE=new"},
			commands: []string{
				`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379`,
				`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls http://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379`,
				`etcd --name infra2 --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --listen-peer-urls http://10.0.1.12:2380 \
  --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.12:2379`,
			}},
		// The next two are errors of etcd 3.7's too, in other words.
		guideRow{name: "NameNotListed", commands: []string{`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls https://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380 \
  --initial-cluster-state new`}, want: fails, says: []string{"infra1 not listed in the initial cluster config",
			`--name is "infra1" and --initial-cluster has infra0`, "add infra1=http://10.0.1.11:2380 to --initial-cluster"}},
		guideRow{name: "DifferentAdvertisedURLs", commands: []string{`etcd --name infra0 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380 \
  --initial-cluster-state=new`}, want: fails, says: []string{"infra0 has different advertised URLs in the cluster and advertised peer URLs list",
			"--initial-cluster says http://10.0.1.10:2380, --initial-advertise-peer-urls says http://127.0.0.1:2380", "hint: write the same URLs in both"}},
		guideRow{name: "DifferentAdvertisedName", commands: []string{strings.Replace(static[0], "--initial-advertise-peer-urls http://10.0.1.10:2380", "--initial-advertise-peer-urls http://infra1.example.com:2380", 1)},
			want: fails, says: []string{"infra0 has different advertised URLs in the cluster", "--initial-advertise-peer-urls says http://infra1.example.com:2380"}},
		// The guide only warns of what follows.
		guideRow{name: "AdvertisedAtLocalhost", commands: []string{strings.Replace(static[0], "--advertise-client-urls http://10.0.1.10:2379", "--advertise-client-urls http://localhost:2379", 1)},
			want: runs, says: []string{"warning: --advertise-client-urls is http://localhost:2379", "write http://ADDRESS:2379"}},
		guideRow{name: "NameToListenOn", commands: []string{strings.Replace(static[0], "--listen-peer-urls http://10.0.1.10:2380", "--listen-peer-urls http://infra0.example.com:2380", 1)},
			want: fails, says: []string{"--listen-peer-urls http://infra0.example.com:2380: expected an IP address to listen on", "hint: write --listen-peer-urls http://10.0.1.10:2380"}},
		guideRow{name: "OneNameTwice", commands: []string{strings.ReplaceAll(static[0], "infra1=", "infra2=")},
			want: runs, says: []string{"warning: --initial-cluster has infra2 at 10.0.1.11 and 10.0.1.12", "give each its own name"}},
		// The guide sends the reader to that of etcd 2.3, which has this; etcd 3.6 dropped it.
		guideRow{name: "ProxyOfAPI2", commands: []string{`etcd --proxy on --listen-client-urls http://127.0.0.1:8080 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380`}, want: fails,
			says: []string{"--proxy on: the proxy of etcd's API 2 is gone", "hint: run etcd-dns etcd grpc-proxy start, or etcd-dns gateway start"}},
	)
}

// conflicting is the guide's third error: infra3 takes itself for the third member of a cluster that has another one.
const conflicting = `etcd --name infra3 --initial-advertise-peer-urls http://10.0.1.13:2380 \
  --listen-peer-urls http://10.0.1.13:2380 \
  --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.13:2379 \
  --initial-cluster infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra3=http://10.0.1.13:2380 \
  --initial-cluster-state=new`

// namesBothIDs: the first ID is that of the cluster that is there, the second another one.
func namesBothIDs(g *guide) {
	g.t.Helper()
	ids := regexp.MustCompile(`\(([0-9a-f]+) != ([0-9a-f]+)\)`).FindStringSubmatch(g.said("infra3"))
	target := g.Must(clientHost, "curl", "-s", "-D", "-", "-o", "/dev/null", "http://10.0.1.10:2380/members")
	if ids == nil || ids[1] == ids[2] || !strings.Contains(target, ids[1]) {
		g.t.Errorf("the IDs are %q, and infra0 says\n%s", ids, target)
	}
}

// killMembers is a power cut; the disks stay.
func (g *guide) killMembers() {
	g.t.Helper()
	for _, name := range g.Names() {
		if err := killAll(g.host(name).ns); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestGuideTLS: certificates of a CA of one's own, for clients and for peers, and certificates that etcd makes for itself.
func TestGuideTLS(t *testing.T) {
	guideRows(t, "", nil,
		guideRow{name: "SelfSigned", before: func(g *guide) {
			g.members(newAuthority(g.t, "clients"), newAuthority(g.t, "peers"))
		}, commands: []string{
			`etcd --name infra0 --initial-advertise-peer-urls https://10.0.1.10:2380 \
  --listen-peer-urls https://10.0.1.10:2380 \
  --listen-client-urls https://10.0.1.10:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.10:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra0-client.crt --key-file=/path/to/infra0-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra0-peer.crt --peer-key-file=/path/to/infra0-peer.key`,
			`etcd --name infra1 --initial-advertise-peer-urls https://10.0.1.11:2380 \
  --listen-peer-urls https://10.0.1.11:2380 \
  --listen-client-urls https://10.0.1.11:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.11:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra1-client.crt --key-file=/path/to/infra1-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra1-peer.crt --peer-key-file=/path/to/infra1-peer.key`,
			`etcd --name infra2 --initial-advertise-peer-urls https://10.0.1.12:2380 \
  --listen-peer-urls https://10.0.1.12:2380 \
  --listen-client-urls https://10.0.1.12:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.12:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --client-cert-auth --trusted-ca-file=/path/to/ca-client.crt \
  --cert-file=/path/to/infra2-client.crt --key-file=/path/to/infra2-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file=/path/to/infra2-peer.crt --peer-key-file=/path/to/infra2-peer.key`,
		}, after: func(g *guide) {
			flags := g.flags
			g.flags = flags[:2]
			if r := g.ctl(g.url("infra0"), "get", "guide"); r.Code == 0 {
				g.t.Errorf("a client without a certificate gets in: %v", r)
			}
			g.flags = flags
		}},
		guideRow{name: "Auto", before: func(g *guide) {
			g.scheme, g.flags = "https", []string{"--insecure-transport=false", "--insecure-skip-tls-verify"}
		}, commands: []string{
			`etcd --name infra0 --initial-advertise-peer-urls https://10.0.1.10:2380 \
  --listen-peer-urls https://10.0.1.10:2380 \
  --listen-client-urls https://10.0.1.10:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.10:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --auto-tls \
  --peer-auto-tls`,
			`etcd --name infra1 --initial-advertise-peer-urls https://10.0.1.11:2380 \
  --listen-peer-urls https://10.0.1.11:2380 \
  --listen-client-urls https://10.0.1.11:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.11:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --auto-tls \
  --peer-auto-tls`,
			`etcd --name infra2 --initial-advertise-peer-urls https://10.0.1.12:2380 \
  --listen-peer-urls https://10.0.1.12:2380 \
  --listen-client-urls https://10.0.1.12:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.12:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
  --auto-tls \
  --peer-auto-tls`,
		}, after: func(g *guide) {
			for _, pair := range []string{"client", "peer"} {
				if _, err := os.Stat(filepath.Join(g.work("infra0"), "infra0.etcd", "fixtures", pair, "cert.pem")); errors.Is(err, os.ErrNotExist) {
					g.t.Errorf("etcd made no certificate: %v", err)
				}
			}
		}},
	)
}
