package parent

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// authority is one name server on a loopback address of its own, with the handler given; it also takes the part of the
// resolver, for which it has the records of finder.
func authority(t *testing.T, addr string, port uint16, h dns.HandlerFunc) {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: p, Handler: h}, {Listener: l, Handler: h}} {
		done := make(chan error, 1)
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
}

// reply answers with records in the three sections, sorted by their place in the text: answer, --, authority, --, extra.
func reply(t testing.TB, aa bool, text ...string) dns.HandlerFunc {
	t.Helper()
	var sections [3][]dns.RR
	i := 0
	for _, line := range text {
		if line == "--" {
			i++
			continue
		}
		sections[i] = append(sections[i], rrs(t, line)...)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.Answer, m.Ns, m.Extra = aa, sections[0], sections[1], sections[2]
		_ = w.WriteMsg(m)
	}
}

func rcode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
}

const soa = "example.com. 60 IN SOA ns.example.com. h.example.com. 1 2 3 4 30"

// finder is a resolver that knows the parent's servers, a to n at 127.0.0.1 to 127.0.0.n.
func finder(t testing.TB, h dns.HandlerFunc, servers ...string) dns.HandlerFunc {
	t.Helper()
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if !q.RecursionDesired {
			h(w, q)
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		switch name := q.Question[0]; {
		case name.Qtype == dns.TypeSOA && name.Name == "b.example.com.":
			m.Rcode, m.Ns = dns.RcodeNameError, rrs(t, soa)
		case name.Qtype == dns.TypeSOA:
			m.Answer = rrs(t, soa)
		case name.Qtype == dns.TypeNS:
			for i := range servers {
				m.Answer = append(m.Answer, rrs(t, "example.com. 60 IN NS "+string(rune('a'+i))+".example.com.")...)
			}
		case name.Qtype == dns.TypeA:
			m.Answer = rrs(t, name.Name+" 60 IN A "+servers[name.Name[0]-'a'])
		}
		_ = w.WriteMsg(m)
	}
}

// byType answers NS queries with one handler and DS queries with another.
func byType(ns, ds dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if q.RecursionDesired {
			panic("the parent's server was asked with RD=1")
		}
		if q.Question[0].Qtype == dns.TypeDS {
			ds(w, q)
			return
		}
		ns(w, q)
	}
}

// overTCP answers with one handler over UDP and another over TCP.
func overTCP(udp, tcp dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			tcp(w, q)
			return
		}
		udp(w, q)
	}
}

var goodReferral = []string{"--", "rack1.example.com. 60 IN NS infra0.rack1.example.com.", "rack1.example.com. 60 IN NS INFRA1.Rack1.example.com.",
	"--", "infra0.rack1.example.com. 60 IN A 10.0.1.10", "infra1.rack1.example.com. 60 IN A 10.0.1.11", "infra1.rack1.example.com. 60 IN AAAA fd00::11"}

// What one server may say, and what is made of it.
func TestReferrals(t *testing.T) {
	want := rackWant(t)
	ds := want.DS[0].String()
	goodDS := reply(t, true, ds)
	noDS := reply(t, true, "--", soa)
	good := reply(t, false, goodReferral...)
	for _, c := range []struct {
		name string
		h    dns.HandlerFunc
		word Word
		say  string // the first difference, or the error
	}{
		{"as wanted", byType(good, goodDS), Agrees, ""},
		{"no DS", byType(good, noDS), Differs, "publish " + strings.ReplaceAll(ds, "\t", " ") + " at a.example.com. (127.0.0.1)"},
		{"another DS", byType(good, reply(t, true, ds, strings.Replace(ds, "12345", "54321", 1))), Differs, "withdraw rack1.example.com. 3600 IN DS 54321"},
		{"NXDOMAIN", byType(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			m.Authoritative, m.Ns = true, rrs(t, soa)
			_ = w.WriteMsg(m)
		}, noDS), Differs, "publish rack1.example.com. 3600 IN NS infra0"},
		{"glue missing in UDP only", overTCP(byType(reply(t, false, goodReferral[:5]...), goodDS), byType(good, goodDS)), Agrees, ""},
		{"glue missing everywhere", byType(reply(t, false, goodReferral[:5]...), goodDS), Differs, "publish infra1.rack1.example.com. 3600 IN A 10.0.1.11"},
		{"cut off", overTCP(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			_ = w.WriteMsg(m)
		}, byType(good, goodDS)), Agrees, ""},
		{"wrong glue", byType(reply(t, false, append(goodReferral[:4:4], "infra0.rack1.example.com. 60 IN A 10.0.1.99", goodReferral[5], goodReferral[6])...), goodDS),
			Differs, "publish infra0.rack1.example.com. 3600 IN A 10.0.1.10"},
		{"serves the child too", byType(reply(t, true, "rack1.example.com. 60 IN NS elsewhere.example."), goodDS), Unknown, "serves rack1.example.com. too"},
		{"serves the child too, no DS", byType(reply(t, true, "rack1.example.com. 60 IN NS elsewhere.example."), noDS), Differs, "publish rack1.example.com. 3600 IN DS"},
		{"REFUSED", rcode(dns.RcodeRefused), Unknown, "it answers REFUSED, so it does not serve example.com."},
		{"upward referral", reply(t, false, "--", ". 60 IN NS a.root."), Unknown, "neither delegates"},
		{"a cache", reply(t, false, "rack1.example.com. 60 IN NS infra0.rack1.example.com."), Unknown, "it answers from a cache"},
		{"no DS without authority", byType(good, reply(t, false, "--", soa)), Unknown, "it answers for DS without authority"},
		{"DS refused", byType(good, rcode(dns.RcodeServerFailure)), Unknown, "it answers SERVFAIL when asked for DS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			authority(t, "127.0.0.1", port, finder(t, c.h, "127.0.0.1"))
			a := Asker{Resolvers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}, port: port}
			v, err := a.Ask(t.Context(), "Rack1.example.com.")
			if err != nil {
				t.Fatal(err)
			}
			got := v.Judge(want)
			say := got.Err
			if len(got.Differences) > 0 {
				say = got.Differences[0].String()
			}
			if got.Word != c.word || !strings.Contains(say, c.say) || c.say == "" && say != "" {
				t.Errorf("%s: %q, want %s: %q", got.Word, say, c.word, c.say)
			}
		})
	}
}

// Two servers that differ are told apart; one that is silent does not hide the other; our own address does not count.
func TestServersApart(t *testing.T) {
	want := rackWant(t)
	goodDS := reply(t, true, want.DS[0].String())
	port := freePort(t)
	good := byType(reply(t, false, goodReferral...), goodDS)
	bad := byType(reply(t, false, goodReferral...), reply(t, true, "--", soa))
	authority(t, "127.0.0.1", port, finder(t, good, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"))
	authority(t, "127.0.0.2", port, bad)
	authority(t, "127.0.0.4", port, func(dns.ResponseWriter, *dns.Msg) { panic("our own address was asked") })
	a := Asker{Resolvers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.9:" + "9"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)},
		Own: []netip.Addr{netip.MustParseAddr("127.0.0.4")}, port: port}
	// b.example.com is no zone of its own: the way up leads past it.
	if zone, _, err := a.findZone(t.Context(), "rack1.b.example.com."); err != nil || zone != "example.com." {
		t.Errorf("the parent of rack1.b.example.com. is %q, %v", zone, err)
	}
	v, err := a.Ask(t.Context(), want.Domain)
	if err != nil {
		t.Fatal(err)
	}
	got := v.Judge(want)
	if got.Word != Differs || len(got.Differences) != 1 || strings.Join(got.Differences[0].Servers, " ") != "b.example.com. (127.0.0.2)" {
		t.Errorf("got %s %v; want the DS record lacking at b alone", got.Word, got.Differences)
	}
	ds, err := v.DS()
	if err != nil || len(ds.Common) != 0 || len(ds.Any) != 1 || ds.TTL != time.Hour || len(ds.Silent) != 1 || !strings.Contains(ds.Silent[0], "127.0.0.3") {
		t.Errorf("DS %+v, %v", ds, err)
	}
}

// A key's other digests are no difference, and an unsigned zone's leftover DS is one.
func TestDSCovered(t *testing.T) {
	key := rrs(t, "rack1.example.com. 3600 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")[0].(*dns.DNSKEY)
	s := Server{DS: []*dns.DS{key.ToDS(dns.SHA256), key.ToDS(dns.SHA384)}}
	w := Want{Domain: "rack1.example.com.", DSKnown: true, DS: []*dns.DS{key.ToDS(dns.SHA256)}, Keys: []*dns.DNSKEY{key}}
	if d := s.differences(w); len(d) != 0 {
		t.Errorf("got %v, want none", d)
	}
	if d := s.differences(Want{Domain: w.Domain, DSKnown: true}); len(d) != 2 || d[0].Publish {
		t.Errorf("unsigned: got %v, want both withdrawn", d)
	}
	if d := s.differences(Want{Domain: w.Domain}); len(d) != 0 {
		t.Errorf("not known: got %v, want none", d)
	}
}
