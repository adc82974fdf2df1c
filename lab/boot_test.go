//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// bootKinds are the racks of TestBoot.
var bootKinds = []struct {
	name string
	Options
}{
	{"TLS", Options{}},
	{"Plain", Options{Plain: true}},
	{"SrvName", Options{SrvName: "foo"}},
}

// Three nodes boot, and from a client that knows nothing but the domain, unmodified tools find the cluster through an
// ordinary resolver.
func TestBoot(t *testing.T) {
	for _, kind := range bootKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			l := New(t, kind.Options)
			l.StartAll()
			l.WaitHealthy()
			l.booted(t)
		})
	}
}

// booted is what every healthy rack shows; it stops the nodes.
func (l *Lab) booted(t *testing.T) {
	l.OneCluster()
	t.Run("Etcdctl", func(t *testing.T) { bootEtcdctl(t, l) })
	t.Run("Records", func(t *testing.T) { bootRecords(t, l) })
	t.Run("OtherNames", func(t *testing.T) { bootOtherNames(t, l) })
	t.Run("Asked", func(t *testing.T) { bootAsked(t, l) })
	t.Run("Member", func(t *testing.T) { bootMember(t, l) })
	t.Run("Etcd8268PeerNames", func(t *testing.T) { bootPeerNames(t, l) })
	t.Run("Tools", func(t *testing.T) { bootTools(t, l) })
	t.Run("Delegation", func(t *testing.T) { bootDelegation(t, l) })
	t.Run("Stop", func(t *testing.T) {
		for _, n := range l.Names() {
			l.Stop(n)
		}
	})
}

// bootEtcdctl is the client's day: write, read, list the members, all through SRV.
func bootEtcdctl(t *testing.T, l *Lab) {
	l.Flush()
	l.Put("greeting", "hello")
	l.Get("greeting", "hello")
	if err := isValue(l.Etcdctl("--insecure-discovery=false", "get", "greeting", "--print-value-only"), "hello"); err != nil != l.Plain {
		// A plain cluster has no endpoint that discovery may trust, so there it has to fail.
		t.Errorf("with --insecure-discovery=false: %v", err)
	}
	r := l.Etcdctl("member", "list", "-w", "json")
	var list struct {
		Members []struct {
			Name       string   `json:"name"`
			PeerURLs   []string `json:"peerURLs"`
			ClientURLs []string `json:"clientURLs"`
		} `json:"members"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		t.Fatal(err, r)
	}
	scheme := map[bool]string{false: "https", true: "http"}[l.Plain]
	var got, want []string
	for _, m := range list.Members {
		got = append(got, m.Name+fmt.Sprint(m.PeerURLs)+fmt.Sprint(m.ClientURLs))
	}
	for _, n := range l.Names() {
		want = append(want, fmt.Sprintf("%[1]s[%[2]s://%[1]s.%[3]s:2380][%[2]s://%[1]s.%[3]s:2379]", n, scheme, l.Domain))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, trimDots(got)); diff != "" {
		t.Errorf("member list (-want +got):\n%s", diff)
	}
}

// trimDots takes the trailing dot from host names in URLs, which etcd keeps as it was configured.
func trimDots(urls []string) []string {
	out := slices.Clone(urls)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], ".:", ":")
	}
	return out
}

// bootRecords is the guide's section "create DNS SRV records", seen by dig through the resolver and at each node.
func bootRecords(t *testing.T, l *Lab) {
	l.Flush()
	var hosts []string
	want := map[string][]string{}
	for _, n := range l.Names() {
		host := n + "." + l.Domain
		hosts = append(hosts, host, "A", host, "AAAA")
		for what, tail := range map[string]string{"server": "30 IN SRV 0 0 2380 ", "client": "5 IN SRV 0 0 2379 "} {
			want[what] = append(want[what], l.service(what)+". "+tail+host+".")
		}
		for _, a := range l.Addrs(n) {
			want["hosts"] = append(want["hosts"], fmt.Sprintf("%s. 30 IN %s %s", host, addressType(a), a))
		}
	}
	servers := []string{"the resolver"}
	for _, n := range l.Names() {
		servers = append(servers, l.Addrs(n)...)
	}
	for _, server := range servers {
		var at []string
		if server != "the resolver" {
			at = []string{"@" + server}
		}
		for what, query := range map[string][]string{
			"server": {"SRV", l.service("server")}, "client": {"SRV", l.service("client")}, "hosts": hosts,
		} {
			for _, transport := range []string{"+notcp", "+tcp"} {
				got := l.Dig(clientHost, slices.Concat(at, []string{transport}, query)...)
				if server == "the resolver" {
					got = withTTLs(got, want[what])
				}
				if diff := cmp.Diff(want[what], got); diff != "" {
					t.Errorf("%s at %s, %s (-want +got):\n%s", what, server, transport, diff)
				}
			}
		}
	}
}

// withTTLs gives the lines of a cache, whose TTLs run down, those of want if they are lower but not 0.
func withTTLs(got, want []string) []string {
	out := slices.Clone(got)
	for i := range min(len(got), len(want)) {
		g, w := strings.Fields(got[i]), strings.Fields(want[i])
		var have, full int
		if _, err := fmt.Sscan(g[1], &have); err != nil {
			continue
		}
		if _, err := fmt.Sscan(w[1], &full); err == nil && have > 0 && have <= full {
			g[1] = w[1]
			out[i] = strings.Join(g, " ")
		}
	}
	return out
}

// bootOtherNames shows that nothing but the cluster's own names exists: plain or -ssl, suffixed or not.
func bootOtherNames(t *testing.T, l *Lab) {
	for _, what := range []string{"server", "client"} {
		for _, ssl := range []string{"", "-ssl"} {
			for _, suffix := range []string{"", "-foo", "-bar"} {
				name := "_etcd-" + what + ssl + suffix + "._tcp." + l.Domain
				want := "NXDOMAIN"
				if name == l.service(what) {
					want = l.complete(what)
				}
				for _, n := range l.Names() {
					if got := l.Ask(clientHost, l.Addr(n), name, dns.TypeSRV); got != want {
						t.Errorf("%s at %s is %s, want %s", name, n, got, want)
					}
				}
				if got := l.Ask(clientHost, l.Addr(resolverHost), name, dns.TypeSRV); got != want {
					t.Errorf("%s through the resolver is %s, want %s", name, got, want)
				}
			}
		}
	}
}

// bootAsked shows that etcdctl asked the resolver for the cluster's names with their suffix and for no others.
func bootAsked(t *testing.T, l *Lab) {
	before := len(l.ResolverLog())
	l.Get("greeting", "hello")
	suffix := ""
	if l.SrvName != "" {
		suffix = "-" + l.SrvName
	}
	want := []string{"_etcd-client" + suffix + "._tcp." + l.Domain + ".", "_etcd-client-ssl" + suffix + "._tcp." + l.Domain + "."}
	slices.Sort(want)
	var got []string
	l.Wait("the queries in Unbound's log", 5*time.Second, func() error {
		got = nil
		for line := range strings.Lines(l.ResolverLog()[before:]) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[len(fields)-2] == "SRV" {
				got = append(got, fields[len(fields)-3])
			}
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if len(got) < len(want) {
			return fmt.Errorf("only %v", got)
		}
		return nil
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names that etcdctl asked for (-want +got):\n%s", diff)
	}
}

// bootMember shows that etcd itself asked for the cluster's names with their suffix and for no others: it logs the one
// of its two lookups that finds nothing.
func bootMember(t *testing.T, l *Lab) {
	absent := "_etcd-server"
	if l.Plain {
		absent += "-ssl"
	}
	if l.SrvName != "" {
		absent += "-" + l.SrvName
	}
	asked := regexp.MustCompile(`_etcd-server[a-z-]*\._tcp`)
	for _, n := range l.Names() {
		names := map[string]bool{}
		for line := range strings.Lines(l.Log(n)) {
			if strings.Contains(line, `"logger":"etcd"`) {
				for _, name := range asked.FindAllString(line, -1) {
					names[name] = true
				}
			}
		}
		if want := map[string]bool{absent + "._tcp": true}; !maps.Equal(names, want) {
			t.Errorf("the member of %s speaks of %v, want only the lookup that finds nothing, %v", n, names, want)
		}
	}
}

// rejectedPeer is how etcd says that it turns a peer away for its certificate, and not that a connection just ended.
var rejectedPeer = regexp.MustCompile(`rejected connection on peer endpoint.*(tls: |x509: |match)`)

// bootPeerNames: etcd-io/etcd#8268, #8797, #9575 and their like, peers that are turned away because a certificate, a PTR record or the
// order of start does not fit. There is no reverse zone here, and no member was ever turned away.
func bootPeerNames(t *testing.T, l *Lab) {
	for _, n := range l.Names() {
		for line := range strings.Lines(l.Log(n)) {
			if rejectedPeer.MatchString(line) && !strings.Contains(line, l.Addr(clientHost)) { // who tries ports is no peer
				t.Errorf("%s turns a peer away: %s", n, line)
			}
		}
		reverse, err := dns.ReverseAddr(l.Addr(n))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Ask(clientHost, l.Addr(resolverHost), reverse, dns.TypePTR); got != "NXDOMAIN" {
			t.Errorf("%s is %s, so this shows nothing", reverse, got)
		}
	}
}

// bootTools are the product's own commands on a node, which need no flags about the cluster, and etcdctl 3.7 on the
// client.
func bootTools(t *testing.T, l *Lab) {
	for _, n := range l.Names() {
		for _, args := range [][]string{{"status"}, {"check"}} {
			if err := l.Tool(n, args...).Err(); err != nil {
				t.Errorf("on %s: %v", n, err)
			}
		}
		args := slices.Concat([]string{"etcdctl"}, place(l.node(n)), []string{"get", "greeting", "--print-value-only"})
		if err := isValue(l.Run(n, l.bin(), args...), "hello"); err != nil {
			t.Errorf("on %s: %v", n, err)
		}
	}
	args := slices.Concat([]string{l.bin(), "etcdctl"}, l.etcdctlFlags(), []string{"get", "greeting", "--print-value-only"})
	if err := isValue(l.Run(clientHost, args[0], args[1:]...), "hello"); err != nil {
		t.Error(err)
	}
}

// bootDelegation: what init printed is what delegation prints, and on a node delegation finds it in the parent.
func bootDelegation(t *testing.T, l *Lab) {
	if r := l.Tool("infra0", "delegation"); r.Code != 0 {
		t.Errorf("the parent holds the delegation, but: %v", r)
	}
	want := records(t, l, l.Tool("infra0", "delegation", "--offline").Stdout)
	again := l.initRack(l.operator() + "-again")
	if diff := cmp.Diff(want, records(t, l, again.Stdout)); diff != "" {
		t.Errorf("init prints other records than delegation (-delegation +init):\n%s", diff)
	}
	l.writeDelegation("infra9." + l.Domain + ". A 10.0.9.9\n" + l.Domain + ". NS infra9." + l.Domain + ".\n")
	l.reloadParent()
	if r := l.Tool("infra0", "delegation"); r.Code != 1 {
		t.Errorf("the parent holds another delegation, but: %v", r)
	}
}

func records(t *testing.T, l *Lab, text string) (out []string) {
	t.Helper()
	parser := dns.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	if err := parser.Err(); err != nil || len(out) < 2*l.Nodes {
		t.Fatalf("%v: want at least NS and A of %d nodes:\n%s", err, l.Nodes, text)
	}
	slices.Sort(out)
	return out
}
