//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The guide's discovery services: one's own at myetcd.local, and the public one, which is no longer there, at
// discovery.etcd.io. The lab's root has both names, and its only public CA vouches for them.
const (
	ownService    = "myetcd.local"
	publicService = "discovery.etcd.io"
	serviceZone   = "myetcd.local. 300 A 10.0.1.20\ndiscovery.etcd.io. 300 A 10.0.1.21\n"
	// guideToken is what the guide's /new answers with; ours is another one each time.
	guideToken = "https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de"
	newToken   = "curl -s https://discovery.etcd.io/new?size=3"
)

// services starts both.
func (g *guide) services() {
	g.t.Helper()
	public := newAuthority(g.t, "public")
	for name, addr := range map[string]string{ownService: "10.0.1.20", publicService: "10.0.1.21"} {
		h := g.addHost(name[:6], netip.MustParseAddr(addr)) // an interface has this name, too
		public.issue(filepath.Join(h.dir, "server"), name)
		if _, err := spawn(h, "log", []string{g.bin, "discovery", "serve", "--listen", addr + ":443", "--url", "https://" + name,
			"--data", filepath.Join(h.dir, "data"), "--cert", filepath.Join(h.dir, "server.crt"), "--key", filepath.Join(h.dir, "server.key")}); err != nil {
			g.t.Fatal(err)
		}
	}
	g.trust(public)
	g.root(serviceZone)
	for _, name := range []string{ownService, publicService} {
		g.Wait(name+" serves", healthyLimit, func() error {
			return g.Run(clientHost, "curl", "-sf", "https://"+name+"/health").Err()
		})
	}
}

// root adds records to the root zone.
func (g *guide) root(records string) {
	g.t.Helper()
	g.write(g.host(parentHost), "root.zone", rootZone+g.addressRecords("a.root.")+g.addressRecords("ns.example.com.")+records)
	g.writeDelegation(g.flavor.(guideFlavor).zone)
	g.reloadParent()
}

// proxy runs an HTTP proxy on the client host, which connects (RFC 9110 §9.3.6) and nothing else.
func (g *guide) proxy() {
	g.t.Helper()
	var l net.Listener
	err := inNetns(g.host(clientHost).ns, func() (err error) {
		l, err = net.Listen("tcp", g.Addr(clientHost)+":3128")
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	connect := func(w http.ResponseWriter, r *http.Request) {
		var there net.Conn
		err := inNetns(g.host(clientHost).ns, func() (err error) {
			there, err = net.DialTimeout("tcp", net.JoinHostPort("10.0.1.21", r.URL.Port()), queryLimit)
			return err
		})
		if err != nil || r.Method != http.MethodConnect || r.URL.Hostname() != publicService {
			http.Error(w, fmt.Sprintf("%s %s: %v", r.Method, r.Host, err), http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = there.Close()
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 Connected\r\n\r\n")
		go func() { // ends with either connection
			_, _ = io.Copy(there, here)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}
	server := &http.Server{Handler: http.HandlerFunc(connect), ReadHeaderTimeout: queryLimit}
	go func() { _ = server.Serve(l) }() // ends with Close
	g.t.Cleanup(func() { _ = server.Close() })
}

var tokenURL = regexp.MustCompile(`https://discovery\.etcd\.io/[0-9a-f]{40}`)

// takeToken makes the reader use the token that the service has just made.
func takeToken(g *guide) {
	g.t.Helper()
	if g.words[guideToken] = tokenURL.FindString(g.said(clientHost)); g.words[guideToken] == "" {
		g.t.Fatal("/new answers with no URL of its own")
	}
}

// makeToken makes one in silence.
func makeToken(g *guide) {
	g.t.Helper()
	g.run(newToken)
	g.becomes(clientHost, ends)
	takeToken(g)
}

// publicMembers start by a token of the public service.
var publicMembers = []string{
	`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379 \
  --discovery https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de`,
	`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls http://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379 \
  --discovery https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de`,
	`etcd --name infra2 --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --listen-peer-urls http://10.0.1.12:2380 \
  --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.12:2379 \
  --discovery https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de`,
}

// TestGuideDiscovery is the guide's second way: the members find each other by a token.
func TestGuideDiscovery(t *testing.T) {
	alone := []string{
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
	}
	// A fourth member, for what goes wrong with a token.
	const fourth = `etcd --name infra3 --initial-advertise-peer-urls http://10.0.1.13:2380 \
  --listen-peer-urls http://10.0.1.13:2380 \
  --listen-client-urls http://10.0.1.13:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.13:2379 \
  --discovery https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de`
	guideRows(t, "", (*guide).services,
		guideRow{name: "CustomToken", want: ends, says: []string{`"key":"/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83/_config/size","value":"3"`},
			commands: []string{`curl -X PUT https://myetcd.local/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83/_config/size -d value=3`}},
		guideRow{name: "Custom", commands: []string{
			`etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 \
  --listen-peer-urls http://10.0.1.10:2380 \
  --listen-client-urls http://10.0.1.10:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.10:2379 \
  --discovery https://myetcd.local/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83`,
			`etcd --name infra1 --initial-advertise-peer-urls http://10.0.1.11:2380 \
  --listen-peer-urls http://10.0.1.11:2380 \
  --listen-client-urls http://10.0.1.11:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.11:2379 \
  --discovery https://myetcd.local/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83`,
			`etcd --name infra2 --initial-advertise-peer-urls http://10.0.1.12:2380 \
  --listen-peer-urls http://10.0.1.12:2380 \
  --listen-client-urls http://10.0.1.12:2379,http://127.0.0.1:2379 \
  --advertise-client-urls http://10.0.1.12:2379 \
  --discovery https://myetcd.local/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83`,
		}},
		// Nobody has made the guide's token here.
		guideRow{name: "NoSize", commands: publicMembers[:1], want: fails, says: []string{
			"error: the cluster doesn't have a size configuration value in https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579cbf573de/_config",
			"hint: make a token: curl"}},
		guideRow{name: "NewToken", want: ends, commands: []string{`curl https://discovery.etcd.io/new?size=3`}, after: takeToken},
		// etcd 3.7 knows neither --discovery nor its variable.
		guideRow{name: "Public", before: func(g *guide) {
			if g.words[guideToken] == "" {
				makeToken(g)
			}
		}, commands: publicMembers},
		// The data directories are there, so that the token is not looked at.
		guideRow{name: "TokenIgnored", then: true, before: (*guide).killMembers, commands: publicMembers,
			says: []string{"discovery token ignored since a cluster has already been initialized. Valid log found at infra"}},
		guideRow{name: "FullToken", then: true, commands: []string{fourth}, want: fails, says: []string{
			"the cluster of this token has all its members", "is for 3 members, and these have registered: infra", "hint: a token is for one birth of one cluster: make a new one, or join"}},
		// A member with a blank disk may not take the place that it had.
		guideRow{name: "ReusedByBlankMember", then: true, before: func(g *guide) {
			if err := errors.Join(killAll(g.host("infra1").ns), os.RemoveAll(filepath.Join(g.work("infra1"), "infra1.etcd"))); err != nil {
				g.t.Fatal(err)
			}
		}, commands: publicMembers[1:2], want: fails, says: []string{"infra1 is a member of that cluster already, and has served, but its data directory infra1.etcd is blank", "hint: etcdctl member remove "}},
		// Other machines try to be another cluster by the token of the one before.
		guideRow{name: "ReusedByAnotherCluster", commands: []string{fourth}, want: fails, says: []string{"the cluster of this token has all its members"}},
		// The service says what the cluster's token and state are, whatever stands in the variables for them.
		guideRow{name: "ByVariable", before: makeToken, commands: alone, env: []string{"ETCD_DISCOVERY=" + guideToken,
			"ETCD_INITIAL_CLUSTER=", "ETCD_INITIAL_CLUSTER_TOKEN=etcd-cluster-1", "ETCD_INITIAL_CLUSTER_STATE=new"}},
		// With a file etcd looks at no flag, so that what the flags say stands in it, too.
		guideRow{name: "ByFile", before: func(g *guide) {
			makeToken(g)
			for i, name := range g.Names()[:3] {
				g.write(g.host(name), "work/etcd.conf.yml", fmt.Sprintf(`name: infra%[1]d
initial-advertise-peer-urls: http://10.0.1.1%[1]d:2380
listen-peer-urls: http://10.0.1.1%[1]d:2380
listen-client-urls: http://10.0.1.1%[1]d:2379,http://127.0.0.1:2379
advertise-client-urls: http://10.0.1.1%[1]d:2379
discovery: %[2]s
`, i, g.words[guideToken]))
			}
		}, commands: func() (out []string) {
			for _, c := range alone {
				out = append(out, c+" --config-file /path/to/etcd.conf.yml")
			}
			return out
		}()},
		// The members cannot reach the service themselves.
		guideRow{name: "ByProxy", before: func(g *guide) {
			makeToken(g)
			g.proxy()
			for _, name := range g.Names() {
				g.Cut(name, publicService[:6])
			}
		}, commands: alone, env: []string{"ETCD_DISCOVERY=" + guideToken, "ETCD_DISCOVERY_PROXY=http://10.0.0.7:3128"}, after: func(g *guide) {
			for _, name := range g.Names() {
				g.Heal(name, publicService[:6])
			}
		}},
		guideRow{name: "DuplicateNames", before: func(g *guide) {
			makeToken(g)
			for _, c := range publicMembers[:2] {
				g.run(c)
			}
		}, commands: []string{fourth}, words: map[string]string{"--name infra3": "--name infra1"}, want: fails,
			says: []string{"found duplicate member", "10.0.1.11:2380", "10.0.1.13:2380", "hint: give each member --name and --initial-advertise-peer-urls of its own"},
			after: func(g *guide) {
				g.becomes("infra0", fails)
				g.becomes("infra1", fails)
			}},
	)
}
