package sign

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BIND's delv, a validator that shares no code with us, takes the signatures of every type, and refuses a spoilt one.
func TestDelvValidates(t *testing.T) {
	delv, err := exec.LookPath("delv")
	if err != nil {
		t.Skip("delv is not installed: apt install bind9-dnsutils")
	}
	ring := newTestRing(t, 7)
	s := must[State](t)(SwitchOn(State{}, ring, right(time.Now())))
	s = must[State](t)(RollOver(s, ring, right(time.Now())))
	s.Announced = true
	signer := must[Signer](t)(New(apex, s, ring))
	spoilt := "spoilt." + apex
	port := serveSigned(t, signer, append(rrsets(t), []dns.RR{must[dns.RR](t)(dns.NewRR(spoilt + " 30 IN A 192.0.2.1"))}), spoilt)
	key := signer.Keys()[0].(*dns.DNSKEY)
	anchor := filepath.Join(t.TempDir(), "anchor")
	text := fmt.Sprintf("trust-anchors { %q static-key %d %d %d %q; };\n", apex, key.Flags, key.Protocol, key.Algorithm, key.PublicKey)
	if err := os.WriteFile(anchor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(name, rrtype string) string {
		out, _ := exec.CommandContext(t.Context(), delv, "-a", anchor, "+root="+apex, "@127.0.0.1", "-p", port, name, rrtype).CombinedOutput()
		return string(out)
	}
	for _, q := range []string{apex + " SOA", apex + " NS", apex + " DNSKEY", apex + " CDS", apex + " CDNSKEY", apex + " CSYNC", apex + " CAA", "infra0." + apex + " A",
		"infra0." + apex + " AAAA", "_etcd-server-ssl._tcp." + apex + " SRV", "t." + apex + " TXT", "m." + apex + " MX", "s." + apex + " SSHFP"} {
		name, rrtype, _ := strings.Cut(q, " ")
		if out := ask(name, rrtype); !strings.Contains(out, "fully validated") {
			t.Errorf("%s: %s", q, out)
		}
	}
	if out := ask(spoilt, "A"); strings.Contains(out, "fully validated") || !strings.Contains(out, "failed") {
		t.Errorf("the spoilt record: %s", out)
	}
}

// serveSigned serves sets with their signatures over UDP and TCP on loopback; the set at spoilt changes after signing.
func serveSigned(t *testing.T, signer Signer, sets [][]dns.RR, spoilt string) (port string) {
	t.Helper()
	byType := map[uint16][]dns.RR{}
	for _, rr := range signer.Keys() {
		byType[rr.Header().Rrtype] = append(byType[rr.Header().Rrtype], rr)
	}
	for _, set := range byType {
		sets = append(sets, set)
	}
	answers := map[dns.Question][]dns.RR{}
	for _, set := range sets {
		h := set[0].Header()
		answer := append([]dns.RR{}, set...)
		for _, sig := range must[[]*dns.RRSIG](t)(signer.Sign(set)) {
			answer = append(answer, sig)
		}
		if h.Name == spoilt {
			answer[0].(*dns.A).A = net.IPv4(192, 0, 2, 2)
		}
		answers[dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: dns.ClassINET}] = answer
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Authoritative = true
		q := r.Question[0]
		q.Name = dns.CanonicalName(q.Name)
		m.Answer = answers[q]
		m.SetEdns0(1232, true)
		_ = w.WriteMsg(m)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: pc, Handler: handler}} {
		started, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}
