//go:build linux

package lab

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
)

// The hosts of the secondaries.
const (
	nsdHost  = "secnsd"
	knotHost = "secknot"
	bindHost = "secbind"
)

var secondaryHosts = []string{nsdHost, knotHost, bindHost}

var secondaryAddrs = map[string]netip.Addr{
	nsdHost:  netip.MustParseAddr("10.0.2.11"),
	knotHost: netip.MustParseAddr("10.0.2.12"),
	bindHost: netip.MustParseAddr("10.0.2.13"),
}

// secondaries is a rack whose zones three other servers have as well. Each speaks one family.
type secondaries struct {
	*Lab
	// zones are the domain and the reverse zones of the Corefile.
	zones []string
	// key is the bundle's TSIG key, its secret in base64; empty when transfers go without.
	key, secret string
}

// withTransfer adds a transfer block for the secondaries to the server block. A network is sent no NOTIFY.
func withTransfer(corefile string, to map[string]netip.Addr) string {
	var list []string
	for _, h := range secondaryHosts {
		list = append(list, to[h].String())
	}
	list = append(list, historyAddr.String()+"/32")
	return strings.Replace(corefile, "\n    errors\n", "\n    transfer {\n        to "+strings.Join(list, " ")+"\n    }\n    errors\n", 1)
}

// bootSecondaries builds a lab with secondaries that speak IPv4; those that are named, and all of a lab of IPv6, speak
// IPv6. Nothing runs yet.
func bootSecondaries(t *testing.T, o Options, ofIPv6 ...string) *secondaries {
	t.Helper()
	at := map[string]netip.Addr{}
	for h, a := range secondaryAddrs {
		at[h] = a
		if o.IPv6Only || slices.Contains(ofIPv6, h) {
			at[h] = addr6(a)
		}
	}
	edit := o.Edit
	o.Edit = func(node, corefile string) string {
		if edit != nil {
			corefile = edit(node, corefile)
		}
		return withTransfer(corefile, at)
	}
	return secondariesOf(New(t, o), at)
}

// secondariesOf adds the hosts of the secondaries, at their addresses, to a rack withTransfer.
func secondariesOf(l *Lab, at map[string]netip.Addr) *secondaries {
	l.t.Helper()
	for _, h := range secondaryHosts {
		l.addHost(h, at[h])
	}
	if !l.IPv6Only {
		l.addHost(historyHost, historyAddr)
	}
	l.t.Cleanup(func() {
		if !l.t.Failed() {
			return
		}
		for host, file := range map[string]string{nsdHost: "nsd.log", knotHost: "knotd.out", bindHost: "named.out"} {
			text, _ := os.ReadFile(filepath.Join(l.host(host).dir, file)) // none if it did not start
			l.t.Logf("the end of %s's log, its own transfers left out:\n%s", host, tail(without(string(text), l.Addr(host)), 60))
		}
	})
	b, err := certs.LoadBundle(filepath.Join(l.operator(), "cluster.bundle"))
	if err != nil {
		l.t.Fatal(err)
	}
	s := b.Secrets()
	return &secondaries{Lab: l, zones: []string{l.Domain}, key: s.TSIGName, secret: base64.StdEncoding.EncodeToString(s.TSIG)}
}

// hosts are the nodes and the secondaries: all that serve the zone.
func (s *secondaries) hosts() []string { return append(s.Names(), secondaryHosts...) }

// keyed is what a configuration says of the key, or instead of it when there is none.
func (s *secondaries) keyed(format, without string) string {
	if s.key == "" {
		return without
	}
	return fmt.Sprintf(format, s.key)
}

// primary is a node's address of the family that a secondary speaks.
func (s *secondaries) primary(node, secondary string) string {
	return s.host(node).in(familyOf(s.host(secondary).addrs[0])).String()
}

// primaries is one line for each node.
func (s *secondaries) primaries(secondary, format string) string {
	var b strings.Builder
	for _, n := range s.names {
		fmt.Fprintf(&b, format+"\n", s.primary(n, secondary))
	}
	return b.String()
}

// startSecondaries starts all three.
func (s *secondaries) startSecondaries() {
	s.t.Helper()
	s.startNSD()
	s.startKnot()
	s.startBIND()
}

func (s *secondaries) startNSD() {
	s.t.Helper()
	h := s.host(nsdHost)
	conf := fmt.Sprintf(`server:
  ip-address: %[1]s
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "%[2]s"
  logfile: "%[2]s/nsd.log"
  verbosity: 3
  pidfile: "%[2]s/nsd.pid"
  xfrdfile: "%[2]s/xfrd.state"
  xfrdir: "%[2]s"
  zonelistfile: "%[2]s/zone.list"
  database: ""
remote-control:
  control-enable: no
%[3]s`, s.Addr(h.name), h.dir, s.keyed("key:\n  name: \"%s\"\n  algorithm: hmac-sha256\n  secret: \""+s.secret+"\"\n", ""))
	for _, zone := range s.zones {
		conf += fmt.Sprintf("zone:\n  name: \"%[1]s\"\n  zonefile: \"%[1]s.zone\"\n  provide-xfr: %[2]s NOKEY\n", zone, s.Addr(h.name))
		conf += s.primaries(h.name, "  allow-notify: %s "+s.keyed("%s", "NOKEY"))
		conf += s.primaries(h.name, "  request-xfr: %s "+s.keyed("%s", "NOKEY"))
	}
	s.write(h, "nsd.conf", conf)
	s.daemon(h, "nsd", "-d", "-c", filepath.Join(h.dir, "nsd.conf"))
}

func (s *secondaries) startKnot() {
	s.t.Helper()
	h := s.host(knotHost)
	var ids, addrs []string
	remotes, zones := "", ""
	for _, n := range s.names {
		remotes += fmt.Sprintf("  - id: %s\n    address: %s@53\n%s", n, s.primary(n, h.name), s.keyed("    key: %s\n", ""))
		ids, addrs = append(ids, n), append(addrs, s.primary(n, h.name))
	}
	for _, zone := range s.zones {
		zones += fmt.Sprintf("  - domain: %s\n    storage: \"%s\"\n    master: [%s]\n    acl: [primaries, local]\n", zone, h.dir, strings.Join(ids, ", "))
	}
	s.write(h, "knot.conf", fmt.Sprintf(`server:
  rundir: "%[2]s"
  listen: %[1]s@53
  udp-workers: 1
  tcp-workers: 1
  background-workers: 2
log:
  - target: stdout
    any: debug
database:
  storage: "%[2]s"
  journal-db-max-size: 64M
  kasp-db-max-size: 16M
  timer-db-max-size: 16M
  catalog-db-max-size: 16M
%[3]sremote:
%[5]sacl:
  - id: primaries
    address: [%[6]s]
%[4]s    action: notify
  - id: local
    address: %[1]s
    action: transfer
zone:
%[7]s`, s.Addr(h.name), h.dir, s.keyed("key:\n  - id: %s\n    algorithm: hmac-sha256\n    secret: \""+s.secret+"\"\n", ""), s.keyed("    key: %s\n", ""),
		remotes, strings.Join(addrs, ", "), zones))
	s.daemon(h, "knotd", "-c", filepath.Join(h.dir, "knot.conf"))
}

func (s *secondaries) startBIND() {
	s.t.Helper()
	h := s.host(bindHost)
	listen := "listen-on { " + s.Addr(h.name) + "; };\n  listen-on-v6 { none; };"
	if h.addrs[0].Is6() {
		listen = "listen-on { none; };\n  listen-on-v6 { " + s.Addr(h.name) + "; };"
	}
	zones := ""
	for _, zone := range s.zones {
		zones += fmt.Sprintf("zone \"%[1]s\" {\n  type secondary;\n  file \"%[1]s.zone\";\n  masterfile-format text;\n  primaries {\n%[2]s  };\n};\n",
			zone, s.primaries(h.name, "    %s "+s.keyed("key \"%s\"", "")+";"))
	}
	s.write(h, "named.conf", fmt.Sprintf(`options {
  directory "%[2]s";
  pid-file "%[2]s/named.pid";
  session-keyfile "%[2]s/session.key";
  managed-keys-directory "%[2]s";
  %[4]s
  recursion no;
  dnssec-validation no;
  notify no;
  allow-transfer { %[1]s; };
};
controls { };
%[3]s%[5]s`, s.Addr(h.name), h.dir, s.keyed("key \"%s\" { algorithm hmac-sha256; secret \""+s.secret+"\"; };\n", ""), listen, zones))
	s.daemon(h, "named", "-g", "-n", "1", "-c", filepath.Join(h.dir, "named.conf"))
}

// request is one zone transfer: from a host, of the server at an address, without TSIG if there is no key.
type request struct{ from, addr, zone, key, secret string }

// transfer asks for a zone, and returns its records in the order of their coming, or why it got none.
func (s *secondaries) transfer(r request) (zone []string, err error) {
	err = inNetns(s.host(r.from).ns, func() error {
		tr := &dns.Transfer{}
		q := new(dns.Msg).SetAxfr(dns.Fqdn(r.zone))
		if r.key != "" {
			tr.TsigSecret = map[string]string{r.key: r.secret}
			q.SetTsig(r.key, dns.HmacSHA256, 300, time.Now().Unix())
		}
		conn, err := dns.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr(r.addr), 53).String(), queryLimit)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		tr.Conn = conn
		in, err := tr.In(q, "")
		if err != nil {
			return err
		}
		for e := range in {
			if e.Error != nil {
				return e.Error
			}
			for _, rr := range e.RR {
				rr.Header().Name = dns.CanonicalName(rr.Header().Name)
				zone = append(zone, strings.Join(strings.Fields(rr.String()), " "))
			}
		}
		return nil
	})
	return zone, err
}
