package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/node"
)

// FuzzInit feeds what may be typed behind init's flags: a Corefile that init writes has the nodes that were named, with the
// addresses that were given, and nothing else.
func FuzzInit(f *testing.F) {
	f.Add("rack1.example.com", "infra0=10.0.1.10,fd00::10", "foo", false)
	f.Add("rack1.example.com", "infra0", "", true)
	f.Add("example.com", "infra0 10.0.1.10", "", false)
	f.Add("example.com", "infra0=10.0.1.10 peer 10.0.2.10", "", false)
	f.Add("a.b", "x=\n}\nerrors", "y {\n", false)
	f.Add("a.b", "infra0=::1 # infra1", "", false)
	f.Fuzz(func(t *testing.T, domain, line, srvName string, plain bool) {
		if strings.Contains(line+srvName+domain, "import") || strings.Contains(line+srvName+domain, "{$") || strings.Contains(line+srvName+domain, "{%") {
			return // import reads files, and the environment is not ours to fuzz
		}
		r := rack{Domain: domain, SrvName: srvName, Plain: plain, Data: node.DefaultData, Nodes: []rackNode{nodeFlag(line)}}
		o, _, err := r.render("/x")
		if err != nil {
			var u *usage
			if !errors.As(err, &u) || u.what == "" {
				t.Errorf("refused with %#v", err)
			}
			return
		}
		want := r.Nodes[0]
		if o.Domain != dns.CanonicalName(domain) || len(o.Nodes) != 1 || o.Nodes[0].Name != want.Name || o.Nodes[0].Cluster != srvName || len(o.Nodes[0].Peers) > 0 || len(o.Records) > 0 || len(o.Nodes[0].Addrs) != len(want.Addrs) {
			t.Fatalf("%q makes %+v", line, o.Nodes)
		}
		for i, a := range o.Nodes[0].Addrs {
			if given, err := netip.ParseAddr(want.Addrs[i]); err != nil || given.Unmap() != a {
				t.Errorf("%q has the addresses %v", line, o.Nodes[0].Addrs)
			}
		}
	})
}

// FuzzServerAddr feeds what may be typed behind --server.
func FuzzServerAddr(f *testing.F) {
	for _, s := range []string{"", "10.0.0.53", "10.0.0.53:5300", "[2001:db8::53]:53", "[::1]", "::1", "ns.example.com", "10.0.0.53:0", ":53", "[]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := serverAddr(s)
		var u *usage
		if err != nil && (!errors.As(err, &u) || u.hint == "") {
			t.Errorf("refused with %#v", err)
		}
		if err == nil && (s == "") == at.Addr().IsValid() {
			t.Errorf("%q is %v", s, at)
		}
	})
}
