package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"

	"github.com/google/go-cmp/cmp"
)

const goodCorefile = `rack1.example.com {
    etcdsrv {
        bundle cluster.bundle
        data   /var/lib/etcd-dns
        node infra0 10.0.1.10
        node infra1 10.0.1.11 fd00::11 peer 10.9.0.11
        node infra2 10.0.1.12
    }
    errors
}
`

func TestParseCorefile(t *testing.T) {
	o, err := ParseCorefile("/etc/etcd-dns/Corefile", []byte(goodCorefile))
	if err != nil {
		t.Fatal(err)
	}
	if o.Domain != "rack1.example.com." || o.DNSPort != 53 || o.Bundle != "/etc/etcd-dns/cluster.bundle" || o.Data != "/var/lib/etcd-dns" {
		t.Errorf("got %+v", o)
	}
	if o.AdminPort != 2378 || len(o.Clusters) != 1 || o.Clusters[0].PeerPort != 2380 || o.Clusters[0].ClientPort != 2379 || o.Clusters[0].Plain {
		t.Errorf("defaults: got %+v", o.Clusters)
	}
	var urls []string
	for _, m := range o.members("") {
		urls = append(urls, m.PeerURL)
	}
	want := []string{"https://infra0.rack1.example.com:2380", "https://infra1-peer.rack1.example.com:2380", "https://infra2.rack1.example.com:2380"}
	if d := cmp.Diff(want, urls); d != "" {
		t.Errorf("peer URLs (-want +got):\n%s", d)
	}
}

func TestParseCorefilePortAndTransport(t *testing.T) {
	for key, port := range map[string]uint16{"rack1.example.com": 53, "rack1.example.com:5300": 5300, "dns://rack1.example.com:5301": 5301, "RACK1.example.com.": 53} {
		o, err := ParseCorefile("Corefile", []byte(strings.Replace(goodCorefile, "rack1.example.com {", key+" {", 1)))
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if o.Domain != "rack1.example.com." || o.DNSPort != port {
			t.Errorf("%s: got %s port %d, want rack1.example.com. port %d", key, o.Domain, o.DNSPort, port)
		}
	}
}

func TestParseCorefileUnmapsAddresses(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "10.0.1.12", "::ffff:10.0.1.12 peer ::ffff:10.9.0.12\n ns ns1 ::FFFF:10.0.1.53", 1))
	if n := o.Nodes[2]; fmt.Sprint(n.Addrs, n.Peers, o.NameServers[0].Addrs) != "[10.0.1.12] [10.9.0.12] [10.0.1.53]" {
		t.Errorf("got %v, %v and %v", n.Addrs, n.Peers, o.NameServers)
	}
}

func TestParseCorefileFoldsCase(t *testing.T) {
	o, err := ParseCorefile("Corefile", []byte(strings.Replace(goodCorefile, "infra0", "Infra0", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if o.Nodes[0].Name != "infra0" || len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], `"Infra0"`) {
		t.Errorf("got %q with warnings %q, want infra0 and one warning that names Infra0", o.Nodes[0].Name, o.Warnings)
	}
}

func TestParseCorefileRateLimit(t *testing.T) {
	for words, want := range map[string]int{"": DefaultRate, "rrl 50": 50, "rrl off": 0, "rrl exempt 10.0.0.0/8 fd00::/8\n rrl exempt 192.0.2.0/24\n rrl 7": 7} {
		o := mustParse(t, strings.Replace(goodCorefile, "bundle cluster.bundle", words, 1))
		exempt := 3 * strings.Count(words, "fd00")
		if o.Rate != want || len(o.RateExempt) != exempt {
			t.Errorf("%q: rate %d, want %d; exempt %v, want %d", words, o.Rate, want, o.RateExempt, exempt)
		}
	}
}

// Every rule with its place, its words and its way out.
// manyNodes are node lines.
func manyNodes(n int) (lines string) {
	for i := range n {
		lines += fmt.Sprintf("node n%d\n", i)
	}
	return lines
}

func TestParseCorefileRefuses(t *testing.T) {
	for _, c := range []struct {
		name, from, to string // goodCorefile with from replaced
		line           int
		what, hint     string
	}{
		{"unknown property", "data   /", "dta /", 4, `unknown property "dta"`, "did you mean data?"},
		{"unknown property far from all", "data   /", "zzzzzzzz /", 4, `unknown property "zzzzzzzz"`, "one of: "},
		{"unknown plugin", "errors\n", "erors\n", 9, `unknown plugin "erors"`, "did you mean errors?"},
		{"duplicate name", "infra2 10.0.1.12", "infra0 10.0.1.12", 7, "node infra0 stands here and in line 5", "its own name"},
		{"duplicate address", "10.0.1.12", "10.0.1.10", 7, "address 10.0.1.10 stands here and at node infra0 in line 5", "its own address"},
		{"duplicate peer address", "infra2 10.0.1.12", "infra2 10.9.0.11", 7, "address 10.9.0.11 stands here and at node infra1", "its own address"},
		{"a node too many", "node infra2 10.0.1.12", manyNodes(63), 69, "node n62 is the 65th, and a domain has 64 at most", "domains of their own"},
		{"underscore", "infra2", "infra_2", 7, `"infra_2" cannot name a node`, "such as infra0"},
		{"leading hyphen", "infra2", "-infra2", 7, "neither begins nor ends with a hyphen", "such as infra0"},
		{"all digits", "infra2", "2", 7, "all digits", "such as infra0"},
		{"label of 64", "infra2", strings.Repeat("a", 64), 7, "1 to 63 octets", "such as infra0"},
		{"reserved suffix", "infra2", "a-peer", 7, "-peer", "such as infra0"},
		{"no address and no name server", "node infra0 10.0.1.10\n        node infra1 10.0.1.11 fd00::11 peer 10.9.0.11\n        node infra2 10.0.1.12", "node infra0", 6, "the zone has no name server", "write ns NAME ADDRESS"},
		{"not an address", "10.0.1.12", "10.0.1.300", 7, `"10.0.1.300" is not an IP address`, "without port"},
		{"unspecified address", "10.0.1.12", "0.0.0.0", 7, "cannot be a node's address", "unicast"},
		{"IPv4-mapped unspecified address", "10.0.1.12", "::ffff:0.0.0.0", 7, "::ffff:0.0.0.0 cannot be a node's address", "unicast"},
		{"link-local address", "10.0.1.12", "fe80::1", 7, "fe80::1 cannot be a node's address", "that the other machines reach it by"},
		{"address with a zone", "10.0.1.12", "fe80::1%eth0", 7, "fe80::1%eth0 cannot be a node's address", "that the other machines reach it by"},
		{"global address with a zone", "10.0.1.12", "fd00::12%eth0", 7, "fd00::12%eth0 cannot be a node's address", "that the other machines reach it by"},
		{"peer address with a zone", "10.0.1.12", "10.0.1.12 peer fe80::1%eth0", 7, "fe80::1%eth0 cannot be a node's address", "that the other machines reach it by"},
		{"IPv4-mapped duplicate address", "10.0.1.12", "::ffff:10.0.1.10", 7, "address 10.0.1.10 stands here and at node infra0 in line 5", "its own address"},
		{"address in brackets", "10.0.1.12", "[fd00::12]", 7, `"[fd00::12]" is not an IP address`, "without port"},
		{"name server with a zone", "bundle cluster.bundle", "ns ns1 fe80::1%eth0", 3, "fe80::1%eth0 cannot be a name server's address", "that resolvers reach it by"},
		{"name server at any address", "bundle cluster.bundle", "ns ns1 ::", 3, ":: cannot be a name server's address", "that resolvers reach it by"},
		{"cluster ssl", "node infra2 10.0.1.12", "cluster ssl {\n node infra2 10.0.1.12\n}", 7, `"ssl" cannot name a cluster`, "such as foo"},
		{"cluster ssl-x", "node infra2 10.0.1.12", "cluster ssl-x {\n node infra2 10.0.1.12\n}", 7, "collide with the TLS names", "such as foo"},
		{"cluster too long", "node infra2 10.0.1.12", "cluster " + strings.Repeat("c", 47) + " {\n node infra2 10.0.1.12\n}", 7, "47 octets", "such as foo"},
		{"empty cluster", "node infra2 10.0.1.12", "node infra2 10.0.1.12\ncluster foo {\n}", 8, "cluster foo has no nodes", "into its block"},
		{"cluster twice", "node infra2 10.0.1.12", "cluster foo {\n node infra2 10.0.1.12\n}\ncluster foo {\n node infra3 10.0.1.13\n}", 10, "cluster foo stands here and in line 7", "one block"},
		{"a node in two clusters", "node infra2 10.0.1.12", "cluster foo {\n node infra0 10.0.1.12\n}", 8, "node infra0 is in cluster foo here and in the default cluster in line 5", "runs one member"},
		{"an address in two clusters", "node infra2 10.0.1.12", "cluster foo {\n node infra2 10.0.1.10\n}", 8, "address 10.0.1.10 stands here and at node infra0 in line 5", "its own address"},
		{"a cluster within a cluster", "node infra2 10.0.1.12", "cluster foo {\n cluster bar {\n node infra2 10.0.1.12\n }\n}", 8, `unknown property "cluster"`, "one of: "},
		{"a long nsid", "errors\n}", "errors\n nsid " + strings.Repeat("x", 65) + "\n}", 10, "nsid has 65 octets, expected 64 at most", "a short name"},
		{"discovery with a word", "node infra2 10.0.1.12", "discovery 8087", 7, "expected discovery, or discovery { … }", "listen 8087"},
		{"discovery in a cluster", "node infra2 10.0.1.12", "cluster foo {\n discovery\n}", 8, `unknown property "discovery"`, "one of: "},
		{"discovery without a port", "node infra2 10.0.1.12", "discovery {\n listen\n}", 8, "listen without a port", "listen 8087"},
		{"discovery at a bad port", "node infra2 10.0.1.12", "discovery {\n listen 0\n}", 8, `"0" is not a place to listen at`, "listen 8087"},
		{"discovery at an address alone", "node infra2 10.0.1.12", "discovery {\n listen 10.0.1.10\n}", 8, `"10.0.1.10" is not a place`, "ADDRESS:PORT"},
		{"discovery with a path", "node infra2 10.0.1.12", "discovery {\n url https://a/b\n}", 8, `"https://a/b" is not the URL of a service`, "without a path"},
		{"discovery with a typo", "node infra2 10.0.1.12", "discovery {\n lissen 1\n}", 8, `unknown property "lissen" of discovery`, "listen"},
		{"discovery twice", "node infra2 10.0.1.12", "discovery\ndiscovery", 8, "discovery stands here and in line 7", "keep one"},
		{"a word of discovery twice", "node infra2 10.0.1.12", "discovery {\n tls off\n tls off\n}", 9, "tls stands here and in line 8", "keep one"},
		{"discovery with half of TLS", "node infra2 10.0.1.12", "discovery {\n tls maybe\n}", 8, `expected tls on or tls off but got "maybe"`, "on by default"},
		{"endpoints outside of a cluster", "node infra2 10.0.1.12", "endpoints https://a:2379", 7, `unknown property "endpoints"`, "one of: "},
		{"endpoints without a URL", "node infra2 10.0.1.12", "cluster old {\n endpoints\n}", 8, "endpoints without a URL", "https://HOST:2379"},
		{"endpoint without a scheme", "node infra2 10.0.1.12", "cluster old {\n endpoints 10.0.9.1:2379\n}", 8, `"10.0.9.1:2379" is not a client URL`, "https://HOST:2379"},
		{"endpoint with a path", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a/v3\n}", 8, "is not a client URL", "https://HOST:2379"},
		{"endpoint with a bad port", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a:0\n}", 8, `"0" is not a port`, "1 to 65535"},
		{"endpoints and nodes", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a\n node infra2 10.0.1.12\n}", 9, "node stands in the block of cluster old, which has endpoints", "its own settings"},
		{"a CA for nodes", "node infra2 10.0.1.12", "cluster foo {\n node infra2 10.0.1.12\n ca ca.pem\n}", 9, "ca belongs to a cluster with endpoints", "or remove ca"},
		{"a certificate without a key", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a\n cert a.pem\n}", 8, "has one of cert and key", "both"},
		{"a bad cluster ID", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a\n id 12\n}", 9, `"12" is not the ID of an etcd cluster`, "16 hexadecimal digits"},
		{"node property in a cluster", "node infra2 10.0.1.12", "cluster foo {\n data /x\n node infra2 10.0.1.12\n}", 8, `unknown property "data"`, "one of: "},
		{"twice", "data   /var/lib/etcd-dns", "data /a\n data /b", 5, "data stands here and in line 4", "keep one"},
		{"size without numbers", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 3", 8, `expected size N of M but got "3"`, "such as size 3 of 5"},
		{"size in words", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize two of three", 8, `expected size N of M but got "two of three"`, "such as size 3 of 5"},
		{"size of nothing", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 0 of 3", 8, `expected size N of M but got "0 of 3"`, "such as size 3 of 5"},
		{"size of too many nodes", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 60 of 65", 8, `expected size N of M but got "60 of 65"`, "such as size 3 of 5"},
		{"size beyond the nodes", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 4 of 3", 8, "size 4 of 3: there cannot be more members than nodes", "write size 3 of 3 at most"},
		{"size of a half", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 2 of 4", 8, "size 2 of 4: 2 is not more than half of 4", "write size 3 of 4 or more"},
		{"size of other lines", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 3 of 5", 8, "size 3 of 5 counts 5 node lines, and the default cluster has 3", "write size 3 of 3, or the missing node lines"},
		{"size of fewer lines", "node infra2 10.0.1.12", "size 1 of 1\nnode infra2 10.0.1.12", 7, "size 1 of 1 counts 1 node lines, and the default cluster has 3", "write size 2 of 3"},
		{"size twice", "node infra2 10.0.1.12", "node infra2 10.0.1.12\nsize 2 of 3\nsize 3 of 3", 9, "size stands here and in line 8", "keep one"},
		{"size of another cluster", "node infra2 10.0.1.12", "cluster foo {\n size 2 of 3\n node infra2 10.0.1.12\n}", 8, "size 2 of 3 counts 3 node lines, and cluster foo has 1", "write size 1 of 1"},
		{"size without its cluster", goodCorefile, "rack1.example.com {\n etcdsrv {\n  size 1 of 1\n  cluster foo {\n   node infra2 10.0.1.12\n  }\n }\n}\n", 3, "no node line does", "into the block of its cluster"},
		{"size beside endpoints", "node infra2 10.0.1.12", "cluster old {\n endpoints https://a\n size 1 of 1\n}", 9, "size stands in the block of cluster old", "endpoints alone"},
		{"name without node", "bundle cluster.bundle", "name infra9", 3, "name infra9 has no node line", "did you mean infra0?"},
		{"port", "bundle cluster.bundle", "peer_port 70000", 3, `"70000" is not a port`, "1 to 65535"},
		{"port clash", "bundle cluster.bundle", "peer_port 2379", 0, "port 2379 serves both peer_port and client_port", "its own port"},
		{"ttl", "bundle cluster.bundle", "ttl 0", 3, `"0" is not a time`, "with its unit"},
		{"election", "bundle cluster.bundle", "election 200ms", 0, "less than five times heartbeat", "raise election"},
		{"quota", "bundle cluster.bundle", "quota 1TB", 3, `"1TB" is not a quota`, "such as 2GiB"},
		{"tls", "bundle cluster.bundle", "tls maybe", 3, "expected tls on or tls off", "tls off makes"},
		{"timing", "bundle cluster.bundle", "timing rock", 3, `unknown timing "rock"`, "did you mean rack?"},
		{"rrl", "bundle cluster.bundle", "rrl lots", 3, `"lots" is not a rate limit`, "rrl off"},
		{"rrl 0", "bundle cluster.bundle", "rrl 0", 3, `"0" is not a rate limit`, "1 to 1000000"},
		{"rrl twice", "bundle cluster.bundle", "rrl 5\n rrl off", 4, "the rate of rrl stands here and in line 3", "keep one"},
		{"rrl exempt", "bundle cluster.bundle", "rrl exempt 10.0.0.1/8", 3, `"10.0.0.1/8" is not a network`, "without host bits"},
		{"email", "bundle cluster.bundle", "email nobody", 3, `"nobody" is not a mail address`, "hostmaster@"},
		{"in-zone name server without address", "bundle cluster.bundle", "ns ns1", 0, "lies in the zone and has no address", "ns NAME ADDRESS"},
		{"argument", "etcdsrv {", "etcdsrv foo {", 2, "takes no argument", "between { and }"},
		{"no nodes", goodCorefile, "rack1.example.com {\n etcdsrv {\n  data /x\n }\n}\n", 0, "no node lines", "node NAME ADDRESS"},
		{"no etcdsrv", goodCorefile, "rack1.example.com {\n errors\n}\n", 0, "no server block with a configured etcdsrv", "etcdsrv { … }"},
		{"only reverse", "rack1.example.com {", "1.0.10.in-addr.arpa {", 0, "names no domain", "delegated subdomain"},
		{"unclosed", "    errors\n}\n", "    errors\n", 9, "", "docs/corefile.md"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(goodCorefile, c.from, c.to, 1)
			if text == goodCorefile {
				t.Fatalf("the row changes nothing: %q", c.from)
			}
			_, err := ParseCorefile("/x/Corefile", []byte(text))
			var e *ConfigError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			if !strings.Contains(e.What, c.what) || !strings.Contains(e.Hint(), c.hint) {
				t.Errorf("got %q, hint %q; want %q, hint %q", e.What, e.Hint(), c.what, c.hint)
			}
			if c.line != 0 && e.Line != c.line {
				t.Errorf("%v: got line %d, want %d", err, e.Line, c.line)
			}
		})
	}
}

func TestParseCorefileSize(t *testing.T) {
	o := mustParse(t, strings.Replace(goodCorefile, "node infra2 10.0.1.12", "size 2 of 3\nnode infra2 10.0.1.12\ncluster foo {\n node a 10.0.2.1\n size 1 of 1\n}\ncluster bar {\n node b 10.0.2.2\n}", 1))
	for name, want := range map[string]string{"": "2 of 3", "foo": "1 of 1", "bar": ""} {
		if c, ok := o.cluster(name); !ok || c.Size.String() != want {
			t.Errorf("cluster %q has size %q, want %q", name, c.Size, want)
		}
	}
}

func TestReadCorefileMissing(t *testing.T) {
	_, err := ReadCorefile(filepath.Join(t.TempDir(), "Corefile"))
	var e *ConfigError
	if !errors.As(err, &e) || !strings.Contains(e.What, "no such Corefile") || !strings.Contains(e.Hint(), "etcd-dns init") {
		t.Errorf("got %v", err)
	}
}

func TestRootCorefileParses(t *testing.T) {
	text, err := os.ReadFile("../Corefile")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCorefile("/etc/etcd-dns/Corefile", text); err != nil {
		t.Error(err)
	}
}

func FuzzParseCorefile(f *testing.F) {
	f.Add(goodCorefile)
	f.Add("a {\n etcdsrv {\n cluster foo {\n node x\n tls off\n}\n}\n}")
	f.Add("example.org:70000 10.in-addr.arpa {\n etcdsrv\n}")
	f.Add("a {\n etcdsrv {\n size 2 of 3\n node x\n node y\n node z\n cluster foo {\n size 1 of 1\n node v\n}\n}\n}")
	f.Add("x {\n etcdsrv {\n ns a. 1.2.3.4\n email a.b@c\n quota 1 GiB\n node a peer\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") || strings.Contains(text, "{$") || strings.Contains(text, "{%") {
			return // import reads files, and the environment is not ours to fuzz
		}
		o, err := ParseCorefile("/x/Corefile", []byte(text))
		if (o == nil) == (err == nil) {
			t.Errorf("got options %v with error %v, want exactly one", o, err)
		}
		if err != nil {
			return
		}
		for _, n := range o.Nodes {
			if badLabel(n.Name) != "" {
				t.Errorf("accepted the node name %q", n.Name)
			}
		}
		for _, c := range o.Clusters {
			if s := c.Size; s != (Size{}) && (s.Nodes != len(o.members(c.Name)) || s.Members > s.Nodes || 2*s.Members <= s.Nodes) {
				t.Errorf("accepted size %s of %d nodes", s, len(o.members(c.Name)))
			}
		}
		o.Roster(func(string) int { return 0 })
		o.Delegation()
	})
}

func TestParseOutsideCluster(t *testing.T) {
	text := strings.Replace(goodCorefile, "node infra2 10.0.1.12", "node infra2 10.0.1.12\ncluster old {\n endpoints https://E1.example.net http://10.0.9.1:12379 https://e1.example.net:2379\n ca ca.pem\n cert /x/a.pem\n key a.key\n id CDF818194E3A8C32\n}", 1)
	o, err := ParseCorefile("/etc/etcd-dns/Corefile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := o.cluster("old")
	want := OutsideOptions{Endpoints: []string{"https://e1.example.net:2379", "http://10.0.9.1:12379"}, CA: "/etc/etcd-dns/ca.pem", Cert: "/x/a.pem", Key: "/etc/etcd-dns/a.key", ID: "cdf818194e3a8c32"}
	if c.Outside == nil || !reflect.DeepEqual(*c.Outside, want) {
		t.Errorf("got %+v, want %+v", c.Outside, want)
	}
	r := o.Roster(func(string) int { return roster.NoSlot })
	if old, _ := r.Cluster("old"); !old.Outside || old.Knowledge != roster.Unknown {
		t.Errorf("the roster has it as %+v", old)
	}
}

func TestParseDiscovery(t *testing.T) {
	for text, want := range map[string]DiscoveryOptions{
		"discovery":                                        {Listen: addrPorts("0.0.0.0:8087"), URL: "https://rack1.example.com:8087"},
		"discovery {\n}":                                   {Listen: addrPorts("0.0.0.0:8087"), URL: "https://rack1.example.com:8087"},
		"discovery {\n listen 80\n}":                       {Listen: addrPorts("0.0.0.0:80"), URL: "https://rack1.example.com:80"},
		"discovery {\n tls off\n}":                         {Listen: addrPorts("0.0.0.0:8087"), URL: "http://rack1.example.com:8087", Plain: true},
		"discovery {\n url http://d/\n}":                   {Listen: addrPorts("0.0.0.0:8087"), URL: "http://d"},
		"discovery {\n listen 10.0.1.10:1 [fd00::11]:2\n}": {Listen: addrPorts("10.0.1.10:1", "[fd00::11]:2"), URL: "https://rack1.example.com:1"},
	} {
		o, err := ParseCorefile("Corefile", []byte(strings.Replace(goodCorefile, "node infra2", text+"\nnode infra2", 1)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, *o.Discovery, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

func addrPorts(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}
