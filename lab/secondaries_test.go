//go:build linux

package lab

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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

var secondaryAddrs = map[string]netip.Addr{
	nsdHost:  netip.MustParseAddr("10.0.2.11"),
	knotHost: netip.MustParseAddr("10.0.2.12"),
	bindHost: netip.MustParseAddr("10.0.2.13"),
}

// secondaries is a rack whose zone three other servers have as well.
type secondaries struct {
	*Lab
	// key is the bundle's TSIG key, its secret in base64; empty when transfers go without.
	key, secret string
}

// withTransfer adds a transfer block for the secondaries to the server block. A network is sent no NOTIFY.
func withTransfer(_, corefile string) string {
	var to []string
	for _, h := range []string{nsdHost, knotHost, bindHost} {
		to = append(to, secondaryAddrs[h].String())
	}
	to = append(to, historyAddr.String()+"/32")
	return strings.Replace(corefile, "\n    errors\n", "\n    transfer {\n        to "+strings.Join(to, " ")+"\n    }\n    errors\n", 1)
}

func bootSecondaries(t *testing.T, o Options) *secondaries {
	t.Helper()
	edit := o.Edit
	o.Edit = func(node, corefile string) string {
		if edit != nil {
			corefile = edit(node, corefile)
		}
		return withTransfer(node, corefile)
	}
	return secondariesOf(New(t, o))
}

// secondariesOf adds the hosts of the secondaries to a rack withTransfer.
func secondariesOf(l *Lab) *secondaries {
	l.t.Helper()
	for _, h := range []string{nsdHost, knotHost, bindHost} {
		l.addHost(h, secondaryAddrs[h])
	}
	l.addHost(historyHost, historyAddr)
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
	return &secondaries{Lab: l, key: s.TSIGName, secret: base64.StdEncoding.EncodeToString(s.TSIG)}
}

// hosts are the nodes and the secondaries: all that serve the zone.
func (s *secondaries) hosts() []string {
	return append(s.Names(), nsdHost, knotHost, bindHost)
}

// startSecondaries starts NSD, Knot and BIND.
func (s *secondaries) startSecondaries() {
	s.t.Helper()
	s.startNSD()
	s.startKnot()
	s.startBIND()
}

// keyed is what a configuration says of the key, or instead of it when there is none.
func (s *secondaries) keyed(format, without string) string {
	if s.key == "" {
		return without
	}
	return fmt.Sprintf(format, s.key)
}

// primaries is one line for each node.
func (s *secondaries) primaries(format string) string {
	var b strings.Builder
	for _, n := range s.names {
		fmt.Fprintf(&b, format+"\n", s.Addr(n))
	}
	return b.String()
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
%[3]szone:
  name: "%[4]s"
  zonefile: "secondary.zone"
  provide-xfr: %[1]s NOKEY
`, h.addr, h.dir, s.keyed("key:\n  name: \"%s\"\n  algorithm: hmac-sha256\n  secret: \""+s.secret+"\"\n", ""), s.Domain)
	conf += s.primaries("  allow-notify: %s " + s.keyed("%s", "NOKEY"))
	conf += s.primaries("  request-xfr: %s " + s.keyed("%s", "NOKEY"))
	s.write(h, "nsd.conf", conf)
	s.daemon(h, "nsd", "-d", "-c", filepath.Join(h.dir, "nsd.conf"))
}

func (s *secondaries) startKnot() {
	s.t.Helper()
	h := s.host(knotHost)
	var ids, addrs []string
	remotes := ""
	for _, n := range s.names {
		remotes += fmt.Sprintf("  - id: %s\n    address: %s@53\n%s", n, s.Addr(n), s.keyed("    key: %s\n", ""))
		ids, addrs = append(ids, n), append(addrs, s.Addr(n))
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
%[6]sacl:
  - id: primaries
    address: [%[7]s]
%[4]s    action: notify
  - id: local
    address: %[1]s
    action: transfer
zone:
  - domain: %[5]s
    storage: "%[2]s"
    master: [%[8]s]
    acl: [primaries, local]
`, h.addr, h.dir, s.keyed("key:\n  - id: %s\n    algorithm: hmac-sha256\n    secret: \""+s.secret+"\"\n", ""), s.keyed("    key: %s\n", ""),
		s.Domain, remotes, strings.Join(addrs, ", "), strings.Join(ids, ", ")))
	s.daemon(h, "knotd", "-c", filepath.Join(h.dir, "knot.conf"))
}

func (s *secondaries) startBIND() {
	s.t.Helper()
	h := s.host(bindHost)
	s.write(h, "named.conf", fmt.Sprintf(`options {
  directory "%[2]s";
  pid-file "%[2]s/named.pid";
  session-keyfile "%[2]s/session.key";
  managed-keys-directory "%[2]s";
  listen-on { %[1]s; };
  listen-on-v6 { none; };
  recursion no;
  dnssec-validation no;
  notify no;
  allow-transfer { %[1]s; };
};
controls { };
%[3]szone "%[4]s" {
  type secondary;
  file "secondary.zone";
  masterfile-format text;
  primaries {
%[5]s  };
};
`, h.addr, h.dir, s.keyed("key \"%s\" { algorithm hmac-sha256; secret \""+s.secret+"\"; };\n", ""), s.Domain, s.primaries("    %s "+s.keyed("key \"%s\"", "")+";")))
	s.daemon(h, "named", "-g", "-n", "1", "-c", filepath.Join(h.dir, "named.conf"))
}

// transfer asks the server at addr from a host for the zone, and returns its records sorted, or why it got none.
func (s *secondaries) transfer(from, addr, key, secret string) (zone []string, err error) {
	err = inNetns(s.host(from).ns, func() error {
		tr := &dns.Transfer{}
		q := new(dns.Msg).SetAxfr(dns.Fqdn(s.Domain))
		if key != "" {
			tr.TsigSecret = map[string]string{key: secret}
			q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		}
		conn, err := dns.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), 53).String(), queryLimit)
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
