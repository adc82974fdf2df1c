//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// The parent host serves the root and example.com with NSD, so that the resolver recurses as it would on the
// Internet: from its root hints down to the nodes.
const (
	rootZone = `$TTL 3600
.                 SOA a.root. hostmaster.root. 1 1800 900 604800 60
.                 NS  a.root.
a.root.           A   10.0.0.53
example.com.      NS  ns.example.com.
ns.example.com.   A   10.0.0.53
`
	exampleZone = `$ORIGIN example.com.
$TTL 60
@    SOA ns hostmaster %d 1800 900 604800 60
@    NS  ns
ns   A   10.0.0.53
`
	rootHints = ". 3600 NS a.root.\na.root. 3600 A 10.0.0.53\n"

	nsdConf = `server:
  ip-address: 10.0.0.53
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "%[1]s"
  logfile: "%[1]s/nsd.log"
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  xfrdir: "%[1]s"
  zonelistfile: "%[1]s/zone.list"
  database: ""
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "root.zone"
zone:
  name: "example.com"
  zonefile: "example.com.zone"
`
	unboundConf = `server:
  interface: 10.0.0.2
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: "%[1]s"
  pidfile: "%[1]s/unbound.pid"
  use-syslog: no
  logfile: "%[1]s/unbound.log"
  log-queries: yes
  root-hints: "%[1]s/root.hints"
  module-config: "iterator"
  do-ip6: no
remote-control:
  control-enable: yes
  control-interface: "%[1]s/control"
  control-use-cert: no
`
)

// serveParent starts NSD with the delegation in example.com.
func (l *Lab) serveParent(delegation string) {
	l.t.Helper()
	h := l.host(parentHost)
	l.writeDelegation(delegation)
	l.write(h, "root.zone", rootZone)
	l.write(h, "nsd.conf", fmt.Sprintf(nsdConf, h.dir))
	l.parent = l.daemon(h, "nsd", "-d", "-c", filepath.Join(h.dir, "nsd.conf"))
	l.Wait("NSD answers", 10*time.Second, func() error {
		_, err := l.Query(parentHost, l.Addr(parentHost), l.Domain, dns.TypeNS)
		return err
	})
}

// writeDelegation writes example.com with the records given, which must all be at or below the domain: nothing else
// belongs in what an operator pastes into a parent zone.
func (l *Lab) writeDelegation(records string) {
	l.t.Helper()
	parser := dns.NewZoneParser(strings.NewReader(records), "example.com.", "delegation")
	parser.SetDefaultTTL(60)
	count := 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if !dns.IsSubDomain(dns.Fqdn(l.Domain), rr.Header().Name) {
			l.t.Fatalf("the delegation holds %v, which is not below %s", rr, l.Domain)
		}
		count++
	}
	if err := parser.Err(); err != nil || count == 0 {
		l.t.Fatalf("no delegation (%v):\n%s", err, records)
	}
	l.serial++
	l.write(l.host(parentHost), "example.com.zone", fmt.Sprintf(exampleZone, l.serial)+records)
}

// reloadParent makes NSD read its zones again.
func (l *Lab) reloadParent() {
	l.t.Helper()
	want := l.serial
	if err := l.parent.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		l.t.Fatal(err)
	}
	l.Wait("NSD serves the new zone", 10*time.Second, func() error {
		m, err := l.Query(clientHost, l.Addr(parentHost), "example.com", dns.TypeSOA)
		if err != nil || len(m.Answer) != 1 {
			return fmt.Errorf("%v: %w", m, err)
		}
		if soa := m.Answer[0].(*dns.SOA); soa.Serial != want {
			return fmt.Errorf("serial %d, want %d", soa.Serial, want)
		}
		return nil
	})
}

// startResolver starts Unbound.
func (l *Lab) startResolver() {
	l.t.Helper()
	h := l.host(resolverHost)
	l.write(h, "root.hints", rootHints)
	l.write(h, "unbound.conf", fmt.Sprintf(unboundConf, h.dir))
	l.daemon(h, "unbound", "-d", "-p", "-c", filepath.Join(h.dir, "unbound.conf"))
	l.Wait("Unbound answers", 10*time.Second, func() error {
		m, err := l.Query(clientHost, l.Addr(resolverHost), "ns.example.com", dns.TypeA)
		if err == nil && len(m.Answer) == 0 {
			err = errors.New(m.String())
		}
		return err
	})
}

// Flush makes the resolver forget all that it knows, and which servers it found dead.
func (l *Lab) Flush() {
	l.t.Helper()
	conf := filepath.Join(l.host(resolverHost).dir, "unbound.conf")
	for _, command := range [][]string{{"flush_zone", "."}, {"flush_infra", "all"}, {"flush_requestlist"}} {
		l.Must(resolverHost, "unbound-control", append([]string{"-c", conf}, command...)...)
	}
}

// ResolverLog is Unbound's log, with a line for every query that it was asked.
func (l *Lab) ResolverLog() string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.host(resolverHost).dir, "unbound.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

// daemon starts a program of the machine from a copy in the host's folder: where AppArmor confines the packaged path
// to its own configuration directory, it leaves a copy alone.
func (l *Lab) daemon(h *host, name string, args ...string) *process {
	l.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		l.t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	own := filepath.Join(h.dir, name)
	if err := os.WriteFile(own, program, 0o755); err != nil {
		l.t.Fatal(err)
	}
	p, err := spawn(h, name+".out", append([]string{own}, args...))
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// write writes a file into the host's folder.
func (l *Lab) write(h *host, name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}
