package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/parent"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// serveDNS answers on a loopback port over UDP and TCP, and returns its address.
func serveDNS(t *testing.T, h dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: h}, {PacketConn: pc, Handler: h}} {
		started, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(s.Shutdown(), <-done); err != nil {
				t.Error(err)
			}
		})
	}
	return netip.MustParseAddrPort(l.Addr().String())
}

// signedZone answers DNSKEY, CDS and SOA of a signer's apex; change may spoil the answer.
func signedZone(t *testing.T, s sign.Signer, domain string, change func(w dns.ResponseWriter, m *dns.Msg) bool) dns.HandlerFunc {
	t.Helper()
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 30}, Ns: "infra0." + domain, Mbox: "hostmaster." + domain, Serial: 7}
	all := []dns.RR{soa}
	if s != nil {
		all = append(all, s.Keys()...)
	}
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Authoritative = true
		for _, rr := range all {
			if rr.Header().Rrtype == r.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if s != nil && len(m.Answer) > 0 && r.IsEdns0() != nil && r.IsEdns0().Do() {
			sigs, err := s.Sign(m.Answer)
			if err != nil {
				t.Error(err)
			}
			for _, sig := range sigs {
				m.Answer = append(m.Answer, sig)
			}
		}
		if r.RecursionDesired {
			t.Error("RD is set")
		}
		if change == nil || change(w, m) {
			_ = w.WriteMsg(m)
		}
	}
}

// What a name server serves, seen over real sockets: signatures count only if the key verifies them.
func TestLookAtServer(t *testing.T) {
	r := newTestRack(t, "infra0")
	d := r.nodes["infra0"]
	tags := r.tags(t, d)
	at := sign.Clock{Now: dnssecStart, Plausible: true}
	state := func(s sign.State, err error) sign.State {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	on := state(sign.SwitchOn(blankDNSSEC(), d.ring, at))
	rolling := state(sign.RollOver(on, d.ring, at))
	signer := func(s sign.State) sign.Signer {
		out, err := d.makeSigner(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var lost atomic.Int32
	for _, c := range []struct {
		name   string
		signer sign.Signer
		change func(w dns.ResponseWriter, m *dns.Msg) bool
		want   sign.Server
		err    string
	}{
		{name: "unsigned", want: sign.Server{Serial: 7}},
		{name: "on", signer: signer(on), want: sign.Server{Serial: 7, Published: tags[:1], Signing: tags[:1]}},
		{name: "pre-published", signer: signer(rolling), want: sign.Server{Serial: 7, Published: tags, Signing: tags[:1]}},
		{name: "going off", signer: signer(state(sign.SwitchOff(on))), want: sign.Server{Serial: 7, Published: tags[:1], Signing: tags[:1], Deletes: true}},
		{name: "spoilt on the way", signer: signer(on), want: sign.Server{Serial: 8}, change: func(_ dns.ResponseWriter, m *dns.Msg) bool {
			for i, rr := range m.Answer {
				m.Answer[i] = dns.Copy(rr)
				switch rr := m.Answer[i].(type) {
				case *dns.SOA:
					rr.Serial++
				case *dns.DNSKEY:
					rr.Flags = 256
				}
			}
			return true
		}},
		{name: "cut over UDP", signer: signer(on), want: sign.Server{Serial: 7, Published: tags[:1], Signing: tags[:1]}, change: func(w dns.ResponseWriter, m *dns.Msg) bool {
			if w.LocalAddr().Network() == "udp" {
				m.Answer, m.Truncated = nil, true
			}
			return true
		}},
		{name: "a packet is lost", signer: signer(on), want: sign.Server{Serial: 7, Published: tags[:1], Signing: tags[:1]}, change: func(dns.ResponseWriter, *dns.Msg) bool {
			return lost.Add(1) > 1
		}},
		{name: "lame", signer: signer(on), err: "without authority", change: func(_ dns.ResponseWriter, m *dns.Msg) bool { m.Authoritative = false; return true }},
		{name: "not ready", signer: signer(on), err: "SERVFAIL", change: func(_ dns.ResponseWriter, m *dns.Msg) bool {
			m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := serveDNS(t, signedZone(t, c.signer, d.domain, c.change))
			l := &looker{domain: d.domain, ring: d.ring, keys: func() []uint32 { return []uint32{0, 1} }, parent: parentServers{ask: func(context.Context, string) (parent.View, error) { return parent.View{}, errors.New("none") }},
				servers: func(context.Context) []nameServerAddr { return []nameServerAddr{{name: "ns", at: at}} }}
			v := l.look(t.Context())
			got := v.Servers[0]
			if c.err != "" {
				if !strings.Contains(got.Err, c.err) {
					t.Errorf("got %+v, want an error with %q", got, c.err)
				}
				return
			}
			if got.Err != "" || got.Serial != c.want.Serial || !slices.Equal(got.Published, c.want.Published) || !slices.Equal(got.Signing, c.want.Signing) || got.Deletes != c.want.Deletes {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if v.Parent.Err != "none" {
				t.Errorf("the parent: %+v", v.Parent)
			}
		})
	}
}

// The parent's view is whole or unknown: one lame server is enough for unknown.
func TestLookAtParent(t *testing.T) {
	r := newTestRack(t, "infra0")
	d := r.nodes["infra0"]
	tags := r.tags(t, d)
	key, err := d.ring.Key(0)
	if err != nil {
		t.Fatal(err)
	}
	foreign := key.DS(d.domain)
	foreign.Digest = strings.Repeat("00", 32)
	server := func(set ...*dns.DS) parent.Server { return parent.Server{Name: "ns.example.com.", DS: set} }
	ours, none, other := server(key.DS(d.domain)), server(), server(key.DS(d.domain), foreign)
	lame := parent.Server{Name: "lame.example.com.", Err: errors.New("it answers REFUSED")}
	for _, c := range []struct {
		name    string
		servers []parent.Server
		want    [][]uint16
		ttl     uint32
	}{
		{"ours", []parent.Server{ours, ours}, [][]uint16{tags[:1], tags[:1]}, sign.KeyTTL},
		{"one is late", []parent.Server{ours, none}, [][]uint16{tags[:1], {}}, sign.KeyTTL},
		{"none", []parent.Server{none}, [][]uint16{{}}, 0},
		{"a foreign one beside", []parent.Server{other}, [][]uint16{{tags[0], 0}}, sign.KeyTTL},
		{"lame", []parent.Server{ours, lame}, nil, 0},
	} {
		l := &looker{domain: d.domain, ring: d.ring, parent: parentServers{d.domain, func(context.Context, string) (parent.View, error) { return parent.View{Servers: c.servers}, nil }}}
		p := l.askParent(t.Context(), []*sign.Key{key})
		if (p.Err != "") != (c.want == nil) || !slices.EqualFunc(p.Sets, c.want, slices.Equal) || p.TTL != c.ttl {
			t.Errorf("%s: got %+v, want %v with TTL %d", c.name, p, c.want, c.ttl)
		}
	}
}

func TestNameServerAddrs(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	r := &roster.Roster{Domain: "rack1.example.com.", Nodes: []roster.Node{{Name: "infra0", Addrs: []netip.Addr{a("192.0.2.10"), a("2001:db8::10")}}},
		NameServers: []roster.NameServer{{Name: "infra0.rack1.example.com."}, {Name: "sec.rack1.example.com.", Addrs: []netip.Addr{a("192.0.2.53")}}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for _, s := range nameServerAddrs(ctx, r, 5300) {
		got = append(got, s.at.String())
	}
	if want := []string{"192.0.2.10:5300", "[2001:db8::10]:5300", "192.0.2.53:53"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
