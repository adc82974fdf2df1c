//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zoneKey is the only key that a host has in its answer to DNSKEY.
func (s *secondaries) zoneKey(host, zone string) *dns.DNSKEY {
	s.t.Helper()
	m, err := s.Query(clientHost, s.Addr(host), zone, dns.TypeDNSKEY)
	if err != nil || len(m.Answer) == 0 {
		s.t.Fatalf("no key of %s at %s: %v, %v", zone, host, m, err)
	}
	return m.Answer[0].(*dns.DNSKEY)
}

// signParent gives example.com a DS of the domain, signs it with ldns, and returns its key.
func (s *secondaries) signParent(ds *dns.DS) *dns.DNSKEY {
	s.t.Helper()
	first := s.node("infra0")
	records := s.Must(clientHost, s.bin(), "delegation", "--offline", "-o", "zone", "--corefile", filepath.Join(first.dir, "Corefile"), "--name", first.name)
	ds.Hdr.Ttl = 60
	s.writeDelegation(records + "\n" + ds.String() + "\n")
	key := s.signZone(s.host(parentHost), "example.com")
	s.reloadParent()
	return key
}

// signZone signs the zone of NSD on a host with a new key of ldns, and returns the key.
func (l *Lab) signZone(h *host, origin string) *dns.DNSKEY {
	l.t.Helper()
	zone := zoneFile(h, origin)
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format("20060102150405") // RFC 4034 §3.2
	key := filepath.Join(h.dir, strings.TrimSpace(l.Must(h.name, "ldns-keygen", "-a", "ECDSAP256SHA256", "-k", origin)))
	l.Must(h.name, "ldns-signzone", "-i", yesterday, "-f", zone+".signed", zone, key)
	text, err := os.ReadFile(key + ".key")
	if err == nil {
		err = os.Rename(zone+".signed", zone)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	rr, err := dns.NewRR(string(text))
	if err != nil {
		l.t.Fatal(err)
	}
	return rr.(*dns.DNSKEY)
}

// zoneFile is where NSD's configuration on a host has a zone.
func zoneFile(h *host, origin string) string {
	if origin == "." {
		origin = "root"
	}
	return filepath.Join(h.dir, origin+".zone")
}

// grok is dnsviz grok, which in Debian 12 takes a pygraphviz without a module named release for none at all.
const grok = `import sys, types, pygraphviz
if not hasattr(pygraphviz, "release"):
    pygraphviz.release = types.SimpleNamespace(version=pygraphviz.__version__)
from dnsviz.commands import grok
grok.main(sys.argv[1:])`

// dnsviz probes the delegation, the zone and names in it from the parent down, and returns what it finds fault with at
// the level given, and everything it says. more are further arguments of the probe.
func (s *secondaries) dnsviz(anchor *dns.DNSKEY, level string, more ...string) string {
	s.t.Helper()
	h := s.host(clientHost)
	s.write(h, "anchor.key", anchor.String()+"\n")
	probe := filepath.Join(h.dir, "probe.json")
	args := []string{"probe", "-A", "-4", "-a", "example.com", "-x", "example.com+:ns.example.com=" + s.Addr(parentHost), "-R", "A,AAAA,SRV,TXT", "-o", probe}
	args = append(args, more...)
	s.Must(clientHost, "dnsviz", append(args, s.Domain, "infra1."+s.Domain, s.service("client"), "_tcp."+s.Domain, "below."+s.Domain)...)
	return s.Must(clientHost, "python3", "-c", grok, "grok", "-P", "-l", level, "-t", filepath.Join(h.dir, "anchor.key"), "-r", probe)
}

// graded wants dnsviz to find the whole chain secure, and nothing to warn of.
func (s *secondaries) graded(t *testing.T, anchor *dns.DNSKEY) {
	t.Helper()
	begun := time.Now()
	if said := s.dnsviz(anchor, "warning"); strings.TrimSpace(said) != "" {
		t.Errorf("dnsviz finds fault: %s", said)
	}
	info := s.dnsviz(anchor, "info")
	for _, asked := range []string{s.service("client") + "./IN/SRV", s.Domain + "./IN/DS", "infra1." + s.Domain + "./IN/A"} {
		if !strings.Contains(info, asked) {
			t.Errorf("dnsviz did not look at %s: %s", asked, info)
		}
	}
	if !strings.Contains(info, `"SECURE"`) || strings.Contains(info, `"INSECURE"`) || strings.Contains(info, `"BOGUS"`) {
		t.Errorf("the chain is not secure: %s", info)
	}
	t.Logf("dnsviz twice: %v", time.Since(begun).Round(time.Millisecond))
}

// rollOver begins a roll-over, which goes on for hours: the next key is published everywhere, and the zone stays good.
func (s *secondaries) rollOver(t *testing.T, w *history, anchor *dns.DNSKEY) {
	s.Must("infra1", s.bin(), append([]string{"dnssec", "rollover"}, place(s.node("infra1"))...)...)
	s.Wait("two keys everywhere", 30*time.Second, func() error {
		for _, h := range slices.Concat(s.names, secondaryHosts) {
			m, err := s.Query(clientHost, s.Addr(h), s.Domain, dns.TypeDNSKEY)
			if err != nil || len(m.Answer) != 2 {
				return errorf("%s: %v, %v", h, m, err)
			}
		}
		return nil
	})
	s.quiet(w.serials)
	s.equal(t, s.Domain)
	// Knot 3.2's kzonecheck wants the signatures of a key that is only published, whoever signed the zone.
	s.checkers(t, "kzonecheck")
	s.graded(t, anchor)
	for _, name := range []string{"infra2." + s.Domain, "new." + s.Domain} {
		if err := s.validated("valgood", name, dns.TypeA, map[bool]int{true: dns.RcodeNameError}[strings.HasPrefix(name, "new.")], true); err != nil {
			t.Errorf("during a roll-over: %v", err)
		}
	}
	for _, n := range s.names {
		if r := s.Tool(n, "dnssec", "status"); r.Code != 0 || !strings.Contains(r.Stdout, "pre-published") {
			t.Errorf("%s: %v", n, r)
		}
	}
}

// wrongDS is the control: with another DS in the parent, dnsviz and Unbound must see that the chain is broken.
func (s *secondaries) wrongDS(t *testing.T) {
	ds := s.zoneKey("infra0", s.Domain).ToDS(dns.SHA256)
	ds.Digest = strings.Repeat("00", 32)
	anchor := s.signParent(ds)
	if said := s.dnsviz(anchor, "warning"); !strings.Contains(said, `"errors"`) {
		t.Errorf("dnsviz finds no fault with a wrong DS: %s", said)
	}
	s.validator("vallate", anchor.ToDS(dns.SHA256))
	s.Wait("Unbound takes no answer", 10*time.Second, func() error {
		return s.validated("vallate", "infra1."+s.Domain, dns.TypeA, dns.RcodeServerFailure, false)
	})
}
