//go:build linux

package lab

import (
	"text/template"
	"time"
)

// resolverKinds are the resolvers that the lab has, each with a configuration that says where it runs, where the root is and
// what the trust anchor is. All else is the program's default, unless it is Careful or something was Printed for it.
var resolverKinds = []*resolverKind{
	unboundKind,
	{kind: "bind", minimises: true,
		files: map[string]*template.Template{"named.conf": parsed(bindResolver)},
		check: []string{"named-checkconf", "DIR/named.conf"},
		argv:  []string{"named", "-g", "-n", "1", "-c", "DIR/named.conf"}},
	{kind: "knot", minimises: true, shuffles: true, trusting: true,
		files: map[string]*template.Template{"kresd.conf": parsed(knotResolver)},
		argv:  []string{"kresd", "-n", "-c", "DIR/kresd.conf", "DIR"},
		// It gives up a query after 10 s, and may spend all of them on a node that is silent.
		late: 11 * time.Second},
	// It minimises, but never stops at a label that begins with an underscore (RFC 9156 §2.3): these names it asks for at once.
	{kind: "powerdns",
		files: map[string]*template.Template{"recursor.conf": parsed(powerdnsResolver), "recursor.lua": parsed(powerdnsLua)},
		check: []string{"pdns_recursor", "--config-dir=DIR", "--config=check"},
		argv:  []string{"pdns_recursor", "--config-dir=DIR"}},
	{kind: "dnsmasq",
		files: map[string]*template.Template{"dnsmasq.conf": parsed(dnsmasqForwarder)},
		check: []string{"dnsmasq", "--test", "-C", "DIR/dnsmasq.conf"},
		argv:  []string{"dnsmasq", "-k", "-C", "DIR/dnsmasq.conf"},
		// It keeps a denial for 5 s that it got from Unbound when Unbound had kept it for that long.
		late: 11 * time.Second},
}

var unboundKind = &resolverKind{kind: "unbound", minimises: true, shuffles: true,
	files: map[string]*template.Template{"unbound.conf": parsed(unboundResolver)},
	check: []string{"unbound-checkconf", "DIR/unbound.conf"},
	argv:  []string{"unbound", "-d", "-p", "-c", "DIR/unbound.conf"}}

func parsed(text string) *template.Template { return template.Must(template.New("").Parse(text)) }

const (
	unboundResolver = `server:
  interface: {{.Addr}}
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{{.Dir}}"
  pidfile: "{{.Dir}}/unbound.pid"
  use-syslog: no
  logfile: "{{.Dir}}/unbound.log"
  val-log-level: 2
  root-hints: "{{.Dir}}/root.hints"
  trust-anchor: "{{.Anchor.Hdr.Name}} DS {{.Trust "%d %d %d %s"}}"
{{- if .Careful}}
  use-caps-for-id: yes
  qname-minimisation-strict: yes
{{- end}}
{{- if .Stub}}
include: "{{.Dir}}/include/rack.conf"
{{- end}}
`
	bindResolver = `options {
  directory "{{.Dir}}";
  pid-file none;
  session-keyfile none;
  managed-keys-directory "{{.Dir}}";
  listen-on { {{.Addr}}; };
  listen-on-v6 { none; };
  allow-query { any; };
  allow-recursion { any; };
  dnssec-validation yes;
{{- if .Careful}}
  qname-minimization strict;
{{- end}}
{{.Elsewhere "In options"}}};
controls { };
trust-anchors { {{.Anchor.Hdr.Name}} static-ds {{.Trust "%d %d %d \"%s\""}}; };
zone "." { type hint; file "root.hints"; };
{{- if .Stub}}
include "{{.Dir}}/include/rack.conf";
{{- end}}
`
	knotResolver = `net.listen('{{.Addr}}', 53, { kind = 'dns' })
modules = { 'hints > iterate' }
hints.root({ ['a.root.'] = '{{.Roots}}' })
cache.size = 10 * MB
trust_anchors.remove('.')
trust_anchors.add('{{.Anchor.Hdr.Name}} IN DS {{.Trust "%d %d %d %s"}}')
{{- if .Stub}}
dofile('{{.Dir}}/include/rack.conf')
{{- end}}
`
	// dont-query holds private addresses by default, which all of the lab's are. It does not matter where zones are forwarded.
	powerdnsResolver = `daemon=no
socket-dir={{.Dir}}
local-address={{.Addr}}
allow-from=0.0.0.0/0
security-poll-suffix=
hint-file={{.Dir}}/root.hints
lua-config-file={{.Dir}}/recursor.lua
dnssec=validate
dont-query={{if .Stub}}10.0.1.0/24, fd00::/16{{end}}
include-dir={{.Dir}}/include
`
	powerdnsLua = `clearTA('.')
addTA('{{.Anchor.Hdr.Name}}', "{{.Trust "%d %d %d %s"}}")
{{.Elsewhere "lua-config-file"}}`

	dnsmasqForwarder = `listen-address={{.Addr}}
bind-interfaces
user=root
pid-file=
no-resolv
no-hosts
log-facility=-
{{- if .Upstream.IsValid}}
server={{.Upstream}}
{{- end}}
dnssec
trust-anchor={{.Anchor.Hdr.Name}},{{.Trust "%d,%d,%d,%s"}}
{{- if .Stub}}
conf-file={{.Dir}}/include/rack.conf
{{- end}}
`
)
