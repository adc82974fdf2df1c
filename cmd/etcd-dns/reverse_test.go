package main

import (
	"encoding/base64"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

// TestReverseZones gives a running node a reverse zone and takes it away again, by the Corefile.
func TestReverseZones(t *testing.T) {
	const reverse, owner = "98.0.127.in-addr.arpa.", "1.98.0.127.in-addr.arpa."
	l := startOne(t, "127.0.98.1")
	l.await("serving", func(s node.Status) bool { return s.Zone.Serial != 0 })
	const key = "one.example.com:5353"
	l.edit(key+" {", key+" "+reverse+":5353 {")
	l.edit("    errors", "    transfer {\n        to 127.0.0.0/8\n    }\n    errors")
	l.signal(syscall.SIGHUP)
	for _, network := range []string{"udp", "tcp"} {
		r := l.awaitRcode(network, new(dns.Msg).SetQuestion(owner, dns.TypePTR), dns.RcodeSuccess)
		if len(r.Answer) != 1 || !r.Authoritative || r.Answer[0].(*dns.PTR).Ptr != "infra0.one.example.com." {
			t.Errorf("over %s:\n%v", network, r)
		}
		r = l.awaitRcode(network, new(dns.Msg).SetQuestion("2.98.0.127.in-addr.arpa.", dns.TypePTR), dns.RcodeNameError)
		if len(r.Ns) != 1 || r.Ns[0].Header().Name != reverse {
			t.Errorf("over %s:\n%v", network, r)
		}
		// RFC 2136 §3.3 and RFC 1996 §3.10: told no, never left without an answer.
		l.awaitRcode(network, new(dns.Msg).SetUpdate(reverse), dns.RcodeRefused)
		l.awaitRcode(network, new(dns.Msg).SetNotify("one.example.com."), dns.RcodeNotAuth)
	}
	z, err := node.FetchZone(t.Context(), l.options, reverse)
	if err != nil || z.Serial == 0 || !strings.Contains(z.Text, "PTR\tinfra0.one.example.com.") {
		t.Errorf("FetchZone = %+v, %v", z, err)
	}
	l.transfer(reverse, z.Serial)
	l.edit(key+" "+reverse+":5353 {", key+" {")
	l.signal(syscall.SIGHUP)
	l.awaitRcode("udp", new(dns.Msg).SetQuestion(owner, dns.TypePTR), dns.RcodeRefused)
	l.end()
}

// awaitRcode asks until the answer has an rcode.
func (l *living) awaitRcode(network string, q *dns.Msg, want int) *dns.Msg {
	l.t.Helper()
	c := &dns.Client{Net: network, Timeout: time.Second}
	var last *dns.Msg
	for end := time.Now().Add(waitDeadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r, _, err := c.Exchange(q, l.addr+":5353")
		if last = r; err == nil && r.Rcode == want {
			return r
		}
	}
	l.t.Fatalf("%s over %s is not %s:\n%v", q.Question[0].Name, network, dns.RcodeToString[want], last)
	return nil
}

// transfer takes a zone as a secondary with the bundle's key does.
func (l *living) transfer(zone string, serial uint32) {
	l.t.Helper()
	bundle, err := certs.LoadBundle(l.options.Bundle)
	if err != nil {
		l.t.Fatal(err)
	}
	s := bundle.Secrets()
	tr := &dns.Transfer{TsigSecret: map[string]string{s.TSIGName: base64.StdEncoding.EncodeToString(s.TSIG)}}
	q := new(dns.Msg).SetAxfr(zone)
	q.SetTsig(s.TSIGName, s.TSIGAlgorithm, 300, time.Now().Unix())
	envelopes, err := tr.In(q, l.addr+":5353")
	if err != nil {
		l.t.Fatal(err)
	}
	var all []dns.RR
	for e := range envelopes {
		if e.Error != nil {
			l.t.Fatal(e.Error)
		}
		all = append(all, e.RR...)
	}
	if soa, ok := all[0].(*dns.SOA); !ok || soa.Serial != serial || len(all) < 4 {
		l.t.Errorf("transferred %v, want serial %d", all, serial)
	}
}
