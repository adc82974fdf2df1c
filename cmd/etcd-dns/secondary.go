package main

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"text/template"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

// neighbour is what a secondary or a resolver has to know of the zone. Names are without their trailing dots.
type neighbour struct {
	Zone string
	// Nodes are the name servers, one entry for each address.
	Nodes []nodeAddr
	Port  uint16
	// Key, Algorithm and Secret are the TSIG key, Secret in base64.
	Key, Algorithm, Secret string
	// DS are the trust anchors; Signed is false for a zone without signatures.
	DS     []*dns.DS
	Signed bool
	// Insecure says that Signed is not known for lack of a running node, Early that the zone is signed, but not for long enough.
	Insecure, Early bool
}

type nodeAddr struct {
	Name string
	Addr netip.Addr
}

// Anchor is a DS record as text without class and TTL: tag, algorithm, digest type, digest.
func (neighbour) Anchor(ds *dns.DS) string {
	return fmt.Sprintf("%d %d %d %s", ds.KeyTag, ds.Algorithm, ds.DigestType, strings.ToUpper(ds.Digest))
}

// At is the port behind an address as NSD, Unbound and Knot write it; nothing for 53.
func (n neighbour) At() string { return n.port("@") }

func (n neighbour) port(sign string) string {
	if n.Port == 53 {
		return ""
	}
	return fmt.Sprintf("%s%d", sign, n.Port)
}

// Addrs are the addresses, each with its port behind the sign unless that is 53, joined.
func (n neighbour) Addrs(sign, join string) string {
	var out []string
	for _, a := range n.Nodes {
		out = append(out, a.Addr.String()+n.port(sign))
	}
	return strings.Join(out, join)
}

// AddrPorts are the addresses as 192.0.2.1:53 and [2001:db8::1]:53, joined.
func (n neighbour) AddrPorts(join string) string {
	var out []string
	for _, a := range n.Nodes {
		out = append(out, netip.AddrPortFrom(a.Addr, n.Port).String())
	}
	return strings.Join(out, join)
}

// newNeighbour describes the zone of a Corefile.
func newNeighbour(o *node.Options) (neighbour, error) {
	n := neighbour{Zone: strings.TrimSuffix(o.Domain, "."), Port: o.DNSPort}
	for _, l := range o.Nodes {
		for _, a := range l.Addrs {
			n.Nodes = append(n.Nodes, nodeAddr{Name: fmt.Sprintf("%s-%d", l.Name, len(n.Nodes)), Addr: a})
		}
	}
	if len(n.Nodes) == 0 {
		return n, &usageErr{what: "no node line has an address", hint: "write node NAME ADDRESS in the Corefile"}
	}
	return n, nil
}

// noSecret stands in the place of the secret. It is not base64, so that no program takes it.
const noSecret = "SECRET-FROM-ETCD-DNS-DELEGATION---SHOW-SECRET"

// addKey adds the TSIG key of the bundle.
func (n *neighbour) addKey(o *node.Options, show bool) error {
	b, err := certs.LoadBundle(o.Bundle)
	if err != nil {
		return err
	}
	s := b.Secrets()
	n.Key, n.Algorithm, n.Secret = strings.TrimSuffix(s.TSIGName, "."), strings.TrimSuffix(s.TSIGAlgorithm, "."), noSecret
	if show {
		n.Secret = base64.StdEncoding.EncodeToString(s.TSIG)
	}
	return nil
}

// secondaries are the programs that --secondary knows, each with its configuration.
var secondaries = map[string]*template.Template{
	"nsd":      config("nsd.conf", secondaryHead+nsdSecondary),
	"knot":     config("knot.conf", secondaryHead+knotSecondary),
	"bind":     config("named.conf", secondaryHead+bindSecondary),
	"powerdns": config("pdns.conf", secondaryHead+powerdnsSecondary),
}

func config(name, text string) *template.Template {
	return template.Must(template.New(name).Parse(text))
}

const (
	secondaryHead = `# For a secondary of {{.Zone}}. In the server block of every node's Corefile:
#     transfer {
#         to ADDRESS-OF-THE-SECONDARY
#     }
# and to have it in the NS set, in etcdsrv: ns NAME-OF-THE-SECONDARY
`
	nsdSecondary = `key:
    name: "{{.Key}}"
    algorithm: {{.Algorithm}}
    secret: "{{.Secret}}"
zone:
    name: "{{.Zone}}"
    zonefile: "{{.Zone}}.zone"
    # Ask every primary for its serial, not the first alone.
    multi-master-check: yes
{{- range .Nodes}}
    request-xfr: {{.Addr}}{{$.At}} {{$.Key}}
    allow-notify: {{.Addr}} {{$.Key}}
{{- end}}
`
	knotSecondary = `key:
  - id: {{.Key}}
    algorithm: {{.Algorithm}}
    secret: "{{.Secret}}"
remote:
{{- range .Nodes}}
  - id: {{.Name}}.{{$.Zone}}
    address: {{.Addr}}{{$.At}}
    key: {{$.Key}}
{{- end}}
acl:
  - id: notify.{{.Zone}}
    address: [ {{range $i, $n := .Nodes}}{{if $i}}, {{end}}{{$n.Addr}}{{end}} ]
    key: {{.Key}}
    action: notify
zone:
  - domain: {{.Zone}}
    master: [ {{range $i, $n := .Nodes}}{{if $i}}, {{end}}{{$n.Name}}.{{$.Zone}}{{end}} ]
    acl: notify.{{.Zone}}
`
	bindSecondary = `key "{{.Key}}" {
    algorithm {{.Algorithm}};
    secret "{{.Secret}}";
};
zone "{{.Zone}}" {
    type secondary;
    file "{{.Zone}}.db";
    # All nodes are primaries, and one of them may be a moment behind.
    multi-master yes;
    primaries {
{{- range .Nodes}}
        {{.Addr}} port {{$.Port}} key "{{$.Key}}";
{{- end}}
    };
    allow-notify { key "{{.Key}}"; };
};
`
	powerdnsSecondary = `# Then, with the database that pdns.conf names:
#     pdnsutil import-tsig-key {{.Key}} {{.Algorithm}} '{{.Secret}}'
#     pdnsutil create-secondary-zone {{.Zone}} {{.AddrPorts " "}}
#     pdnsutil activate-tsig-key {{.Zone}} {{.Key}} secondary
secondary=yes
allow-notify-from={{range $i, $n := .Nodes}}{{if $i}},{{end}}{{$n.Addr}}{{end}}
`
)
