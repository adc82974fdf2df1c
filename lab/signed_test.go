//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A signed rack: every node and every secondary has the same zone, signatures included, zone checkers find nothing, and a
// validating resolver takes all answers and denials. Then the nodes are cut apart, one and then another, so that they
// publish different contents, and come together again.
func TestSigned(t *testing.T) {
	t.Parallel()
	s := bootSecondaries(t, Options{})
	for _, n := range s.names {
		s.EditCorefile(n, func(text string) string {
			return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        record deep.below TXT \"x\"", 1)
		})
	}
	s.StartAll()
	s.WaitHealthy()
	s.startSecondaries()
	w := s.watch()
	defer w.judge(t)
	s.sign(w)
	s.equal(t, s.Domain)
	anchor := s.signParent(s.zoneKey("infra0", s.Domain).ToDS(dns.SHA256))
	t.Run("Checkers", func(t *testing.T) { s.checkers(t) })
	t.Run("Validation", func(t *testing.T) { s.validation(t, anchor) })
	t.Run("DNSViz", func(t *testing.T) { s.graded(t, anchor) })
	t.Run("RollOver", func(t *testing.T) { s.rollOver(t, w, anchor) })
	t.Run("Divergence", func(t *testing.T) {
		for _, apart := range []string{"infra0", "infra2"} {
			s.diverge(t, w, apart)
		}
	})
	t.Run("WrongDS", func(t *testing.T) { s.wrongDS(t) })
	t.Run("LostDisk", func(t *testing.T) { s.lostDisk(t, w) })
}

// lostDisk: a node without its data does not know that the zone is signed. What it knows from its Corefile it answers
// unsigned until another node tells it, and nothing else.
func (s *secondaries) lostDisk(t *testing.T, w *history) {
	const name = "infra2"
	before := s.quiet(w.serials)
	s.Kill(name)
	s.Wipe(name)
	w.lost(name)
	s.Start(name)
	var unsigned time.Time
	s.Wait(name+" signs", settleLimit, func() error {
		soa, err := s.signedAnswer(name, s.Domain, dns.TypeSOA)
		if err == nil && len(soa.Answer) == 1 {
			t.Errorf("%s has a zone without signatures:\n%v", name, soa)
		}
		m, err := s.signedAnswer(name, "infra1."+s.Domain, dns.TypeA)
		if err != nil {
			return err
		}
		if len(m.Answer) == 1 && unsigned.IsZero() {
			unsigned = time.Now()
		}
		if len(m.Answer) != 2 {
			return errors.New(m.String())
		}
		return nil
	})
	if !unsigned.IsZero() {
		t.Logf("%s answered without signatures for %v", name, time.Since(unsigned).Round(time.Millisecond))
	}
	s.Wait(name+" hands out a zone", settleLimit, func() error {
		_, err := s.zoneAt(name)
		return err
	})
	// Its member is replaced, which changes the zone; what equal transfers must not pass for what a secondary pulled.
	s.voters(s.Names()...)
	s.quiet(w.serials)
	s.equal(t, s.Domain)
	w.signedSince(t, before)
}

// signedSince fails the test for every newer serial that a host handed out without signatures.
func (w *history) signedSince(t *testing.T, before uint32) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for serial, c := range w.contents {
		if int32(serial-before) > 0 && !slices.ContainsFunc(c.zone, func(rr string) bool { return strings.Contains(rr, " RRSIG SOA ") }) {
			t.Errorf("%s handed out serial %d without signatures", c.host, serial)
		}
	}
}

// sign switches signing on, and waits for it.
func (s *secondaries) sign(w *history) {
	s.t.Helper()
	// A node that has not heard of all others yet does not take the command.
	s.Wait("dnssec on", 10*time.Second, func() error { return s.Tool("infra1", "dnssec", "on").Err() })
	s.Wait("signatures at every node and secondary", 30*time.Second, func() error {
		for _, h := range s.hosts() {
			m, err := s.Query(clientHost, s.Addr(h), s.Domain, dns.TypeDNSKEY)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", h, err)
			case len(m.Answer) == 0:
				return fmt.Errorf("%s: %v", h, m)
			}
		}
		return nil
	})
	s.quiet(w.serials)
}

// checkers has zone checkers look at the zone as a node prints it, and as a secondary that got it by transfers hands it on.
func (s *secondaries) checkers(t *testing.T, skip ...string) {
	r := s.Tool("infra0", "zone")
	if r.Code != 0 {
		t.Fatal(r)
	}
	s.check(t, r.Stdout, skip...)
	zone := s.Must(bindHost, "dig", "@"+s.Addr(bindHost), "+nocmd", "+nocomments", "+noquestion", "+nostats", "+onesoa", s.Domain, "AXFR")
	s.check(t, zone, skip...)
}

func (s *secondaries) check(t *testing.T, zone string, skip ...string) {
	t.Helper()
	if !strings.Contains(zone, "RRSIG") {
		t.Fatalf("not a signed zone:\n%s", zone)
	}
	h := s.host(clientHost)
	s.write(h, "signed.zone", zone)
	path := filepath.Join(h.dir, "signed.zone")
	for _, argv := range [][]string{
		{"named-checkzone", "-i", "full", "-k", "fail", "-n", "fail", s.Domain, path},
		{"kzonecheck", "-d", "on", "-o", s.Domain, path},
		{"dnssec-verify", "-z", "-o", s.Domain, path}, {"ldns-verify-zone", path},
	} {
		if slices.Contains(skip, argv[0]) {
			continue
		}
		r := s.Run(clientHost, argv[0], argv[1:]...)
		if said := r.Stdout + r.Stderr; r.Code != 0 || strings.Contains(strings.ToLower(said), "warning") {
			t.Errorf("%s says %v", argv[0], r)
		}
	}
}

// The hosts of resolvers that validate: one with the parent's key, one with a wrong DS for the domain, one that comes
// when the parent has a wrong DS.
var validators = map[string]netip.Addr{"valgood": netip.MustParseAddr("10.0.2.21"), "valbad": netip.MustParseAddr("10.0.2.22"),
	"vallate": netip.MustParseAddr("10.0.2.23")}

// validation asks through Unbound, which comes down from the root and has the parent's key as its trust anchor. The
// control has another anchor for the domain.
func (s *secondaries) validation(t *testing.T, parent *dns.DNSKEY) {
	bad := s.zoneKey("infra0", s.Domain).ToDS(dns.SHA256)
	bad.Digest = strings.Repeat("00", 32)
	s.validator("valgood", parent.ToDS(dns.SHA256))
	s.validator("valbad", bad)
	for _, q := range []struct {
		name  string
		qtype uint16
		rcode int
	}{
		{s.service("client"), dns.TypeSRV, dns.RcodeSuccess}, {s.service("server"), dns.TypeSRV, dns.RcodeSuccess},
		{s.Domain, dns.TypeA, dns.RcodeSuccess}, {s.Domain, dns.TypeSOA, dns.RcodeSuccess}, {"infra1." + s.Domain, dns.TypeA, dns.RcodeSuccess},
		{"infra1." + s.Domain, dns.TypeAAAA, dns.RcodeSuccess}, {"_tcp." + s.Domain, dns.TypeSRV, dns.RcodeSuccess},
		{"below." + s.Domain, dns.TypeA, dns.RcodeSuccess}, {"nosuch." + s.Domain, dns.TypeA, dns.RcodeNameError},
		{"x.y.infra1." + s.Domain, dns.TypeSRV, dns.RcodeNameError}, {"_etcd-server._tcp." + s.Domain, dns.TypeSRV, dns.RcodeNameError},
	} {
		s.Wait("a validated answer for "+q.name, 10*time.Second, func() error {
			return s.validated("valgood", q.name, q.qtype, q.rcode, true)
		})
		s.Wait("no answer for "+q.name+" with a wrong trust anchor", 10*time.Second, func() error {
			return s.validated("valbad", q.name, q.qtype, dns.RcodeServerFailure, false)
		})
	}
}

// validator starts Unbound with a trust anchor; it recurses from the root.
func (s *secondaries) validator(name string, anchor *dns.DS) {
	s.t.Helper()
	h := s.addHost(name, validators[name])
	s.write(h, "root.hints", s.rootHints())
	s.write(h, "unbound.conf", fmt.Sprintf(validatorConf, s.Addr(name), h.dir, strings.Join(strings.Fields(anchor.String()), " ")))
	s.daemon(h, "unbound", "-d", "-p", "-c", filepath.Join(h.dir, "unbound.conf"))
}

const validatorConf = `server:
  interface: %[1]s
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "%[2]s"
  pidfile: "%[2]s/unbound.pid"
  use-syslog: no
  logfile: "%[2]s/unbound.log"
  val-log-level: 2
  module-config: "validator iterator"
  do-ip6: no
  root-hints: "%[2]s/root.hints"
  trust-anchor: "%[3]s"
`

// validated asks a resolver, which says by AD whether it has validated the answer (RFC 4035 §3.2.3).
func (s *secondaries) validated(resolver, name string, qtype uint16, rcode int, ad bool) error {
	r, err := s.signedAnswer(resolver, name, qtype)
	if err != nil {
		return err
	}
	if r.Rcode != rcode || r.AuthenticatedData != ad {
		return fmt.Errorf("%s says to %s %s: %v", resolver, name, dns.TypeToString[qtype], r)
	}
	return nil
}

// diverge cuts one node off from the others, but not from the secondaries, until it serves another content, restarts it,
// heals the links, and wants one zone everywhere.
func (s *secondaries) diverge(t *testing.T, w *history, apart string) {
	t.Helper()
	before := s.quiet(w.serials)
	others := slices.DeleteFunc(slices.Clone(s.names), func(n string) bool { return n == apart })
	for _, n := range others {
		s.Cut(apart, n)
	}
	const record = "        record apart TXT \"x\"\n"
	s.EditCorefile(apart, func(text string) string { return strings.Replace(text, "etcdsrv {\n", "etcdsrv {\n"+record, 1) })
	s.Signal(apart, syscall.SIGHUP)
	s.Wait(apart+" serves another content than the others, who miss its member", 30*time.Second, func() error {
		has := func(n string) bool { return s.Ask(clientHost, s.Addr(n), "apart."+s.Domain, dns.TypeTXT) == "\"x\"" }
		for _, n := range others {
			if !has(apart) || has(n) || strings.Contains(s.Ask(clientHost, s.Addr(n), s.service("client"), dns.TypeSRV), apart) {
				return fmt.Errorf("%s: %v, %s: %v", apart, has(apart), n, has(n))
			}
		}
		return nil
	})
	// A restart while it is apart changes nothing: it has its roster and its serial on disk.
	s.Kill(apart)
	s.Start(apart)
	s.Wait(apart+" serves that content again", 30*time.Second, func() error {
		if got := s.Ask(clientHost, s.Addr(apart), "apart."+s.Domain, dns.TypeTXT); got != "\"x\"" {
			return errors.New(got)
		}
		return nil
	})
	w.mu.Lock()
	t.Logf("%s apart: %v", apart, w.now)
	w.mu.Unlock()
	for _, n := range others {
		s.Heal(apart, n)
	}
	s.EditCorefile(apart, func(text string) string { return strings.Replace(text, record, "", 1) })
	s.Signal(apart, syscall.SIGHUP)
	s.WaitHealthy()
	after := s.quiet(w.serials)
	if int32(after-before) <= 0 { // RFC 1982 §3.2
		t.Errorf("the serial went from %d to %d", before, after)
	}
	s.equal(t, s.Domain)
}
