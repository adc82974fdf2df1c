package main

import "text/template"

// resolvers are the programs that --resolver knows, each with what makes it reach the zone without a delegation.
var resolvers = map[string]*template.Template{
	"unbound":          config("unbound.conf", resolverHead+unboundResolver),
	"bind":             config("named.conf", resolverHead+bindResolver),
	"knot":             config("kresd.conf", "-"+"- For Knot Resolver 5 in front of {{.Zone}}, where no parent delegates it.\n"+knotResolver),
	"powerdns":         config("recursor.conf", resolverHead+powerdnsResolver),
	"dnsmasq":          config("dnsmasq.conf", resolverHead+dnsmasqResolver),
	"systemd-resolved": config("dns-delegate", resolverHead+resolvedResolver),
}

// The configurations tell a validating resolver that an unsigned zone has no chain of trust, since a signed parent
// that does not delegate it proves that it does not exist.
const (
	resolverHead = `# For a resolver in front of {{.Zone}}, where no parent delegates it.
{{- if .Early}}
# It is signed, but not for long enough: caches may hold it without signatures for an hour. Run this again then for the trust anchor.
{{- else if .Insecure}}
# Whether the zone is signed is not known here: run this on a node to get the trust anchor.
{{- end}}
`
	unboundResolver = `server:
{{- range .DS}}
    trust-anchor: "{{$.Zone}}. DS {{$.Anchor .}}"
{{- end}}
{{- if not .Signed}}
    domain-insecure: "{{.Zone}}"
{{- end}}
    # Private addresses in the answers are meant.
    private-domain: "{{.Zone}}"
stub-zone:
    name: "{{.Zone}}"
{{- range .Nodes}}
    stub-addr: {{.Addr}}{{$.At}}
{{- end}}
`
	bindResolver = `{{if .Signed -}}
trust-anchors {
{{- range .DS}}
    "{{$.Zone}}" static-ds {{.KeyTag}} {{.Algorithm}} {{.DigestType}} "{{.Digest}}";
{{- end}}
};
{{else -}}
# In options { … }:
#     validate-except { "{{.Zone}}"; };
{{end -}}
zone "{{.Zone}}" {
{{- if eq .Port 53}}
    type static-stub;
    server-addresses { {{range .Nodes}}{{.Addr}}; {{end}}};
{{- else}}
    # A static-stub zone has no ports.
    type forward;
    forward only;
    forwarders { {{range .Nodes}}{{.Addr}} port {{$.Port}}; {{end}}};
{{- end}}
};
`
	knotResolver = `{{if .Signed -}}
-- policy.STUB hands answers on without validating them. To have them validated, delegate the zone and its DS.
{{else -}}
trust_anchors.set_insecure({'{{.Zone}}.'})
{{end -}}
policy.add(policy.suffix(
    policy.STUB({ {{range $i, $n := .Nodes}}{{if $i}}, {{end}}'{{$n.Addr}}{{$.At}}'{{end}} }),
    policy.todnames({'{{.Zone}}.'})))
`
	powerdnsResolver = `forward-zones={{.Zone}}={{.AddrPorts ";"}}
# In the file that lua-config-file names:
{{- range .DS}}
#     addTA('{{$.Zone}}', "{{$.Anchor .}}")
{{- end}}
{{- if not .Signed}}
#     addNTA('{{.Zone}}', "not signed")
{{- end}}
# Where a parent delegates the zone, these alone, and dont-query without the nodes' addresses if they are private. Until the
# cluster is born its names are SERVFAIL, which would be kept for a minute, and not be asked for again for another.
packetcache-servfail-ttl=1
dont-throttle-netmasks={{range $i, $n := .Nodes}}{{if $i}},{{end}}{{$n.Addr}}{{end}}
`
	dnsmasqResolver = `{{range .Nodes -}}
server=/{{$.Zone}}/{{.Addr}}{{if ne $.Port 53}}#{{$.Port}}{{end}}
{{end -}}
# Private addresses in the answers are meant, for those who set stop-dns-rebind.
rebind-domain-ok=/{{.Zone}}/
{{range .DS -}}
trust-anchor={{$.Zone}},{{.KeyTag}},{{.Algorithm}},{{.DigestType}},{{.Digest}}
{{end -}}
`
	resolvedResolver = `# systemd 258 and later: /etc/systemd/dns-delegate.d/{{.Zone}}.dns-delegate, then: systemctl reload systemd-resolved
[Delegate]
DNS={{.AddrPorts " "}}
Domains={{.Zone}}
{{- range .DS}}
# /etc/dnssec-trust-anchors.d/{{$.Zone}}.positive: {{$.Zone}}. IN DS {{$.Anchor .}}
{{- end}}
{{- if not .Signed}}
# With DNSSEC=yes, /etc/dnssec-trust-anchors.d/{{.Zone}}.negative: {{.Zone}}
{{- end}}
`
)
