package member

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

var testView = View{
	Domain: testDomain,
	SRV:    map[string][]Target{"_etcd-server-ssl._tcp." + testDomain: {{"infra0." + testDomain, 2380}, {"infra1." + testDomain, 2381}}},
	Hosts: map[string][]netip.Addr{
		"infra0." + testDomain: {netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("fd00::10")},
		"infra1." + testDomain: {netip.MustParseAddr("10.0.1.11")},
	},
}

// goResolver is the child's resolver, in this process.
func goResolver(r *Resolver) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := dialAbstract(ctx, r.socket)
		if err != nil {
			return nil, err
		}
		return stream{c}, nil
	}}
}

// nameServer is an upstream on loopback that answers A questions with 192.0.2.7, and counts them.
type nameServer struct {
	at    netip.AddrPort
	asked atomic.Int64
}

func newNameServer(t *testing.T, ip string, handler ...dns.HandlerFunc) *nameServer {
	t.Helper()
	pc, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	ns := &nameServer{at: netip.MustParseAddrPort(pc.LocalAddr().String())}
	l, err := net.Listen("tcp", ns.at.String())
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		m := new(dns.Msg).SetReply(req)
		m.RecursionAvailable = true
		if req.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: req.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, 7)}}
		}
		_ = w.WriteMsg(m)
	})
	if len(handler) > 0 {
		h = handler[0]
	}
	count := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		ns.asked.Add(1)
		h(w, req)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: count}, {Listener: l, Handler: count}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-ended
		})
	}
	return ns
}

// deafServer accepts questions and never answers.
func deafServer(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func servers(s ...netip.AddrPort) func() []netip.AddrPort {
	return func() []netip.AddrPort { return s }
}

// TestResolverThroughGo asks as etcd does.
func TestResolverThroughGo(t *testing.T) {
	ns := newNameServer(t, "127.0.1.53")
	r := runResolver(t, ResolverOptions{NameServers: servers(ns.at)})
	r.SetView(testView)
	ctx, g := t.Context(), goResolver(r)

	_, srv, err := g.LookupSRV(ctx, "etcd-server-ssl", "tcp", testDomain)
	var got []Target
	for _, s := range srv {
		got = append(got, Target{s.Target, s.Port})
	}
	slices.SortFunc(got, func(a, b Target) int { return strings.Compare(a.Host, b.Host) })
	if want := []Target{{"infra0." + testDomain + ".", 2380}, {"infra1." + testDomain + ".", 2381}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("SRV = %v, %v; want %v", got, err, want)
	}
	addrs, err := g.LookupNetIP(ctx, "ip", "infra0."+testDomain)
	if err != nil || !sameAddrs(addrs, testView.Hosts["infra0."+testDomain]) {
		t.Errorf("addresses of infra0 = %v, %v", addrs, err)
	}
	if addrs, err = g.LookupNetIP(ctx, "ip", "infra1."+testDomain); err != nil || len(addrs) != 1 {
		t.Errorf("addresses of infra1 = %v, %v; want one (no AAAA is no error)", addrs, err)
	}
	for _, a := range []string{"10.0.1.10", "fd00::10"} {
		if names, err := g.LookupAddr(ctx, a); err != nil || !slices.Equal(names, []string{"infra0." + testDomain + "."}) {
			t.Errorf("PTR of %s = %v, %v", a, names, err)
		}
	}
	for _, name := range []string{"infra2." + testDomain, "_etcd-server._tcp." + testDomain, "infra0." + testDomain + ".corp.example"} {
		var nx *net.DNSError
		if _, err := g.LookupNetIP(ctx, "ip", name+"."); !errors.As(err, &nx) || !nx.IsNotFound {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
	if n := ns.asked.Load(); n != 0 {
		t.Errorf("the system's name server got %d questions about the domain", n)
	}
	if addrs, err := g.LookupNetIP(ctx, "ip4", "elsewhere.example.net."); err != nil || addrs[0].Unmap() != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("another name = %v, %v; want the upstream's answer", addrs, err)
	}
	if ns.asked.Load() == 0 {
		t.Error("another name did not reach the upstream")
	}
	r.SetView(View{Domain: testDomain})
	if _, err := g.LookupNetIP(ctx, "ip", "infra0."+testDomain); err == nil {
		t.Error("a name of the former view still resolves")
	}
}

// ask puts one question over the wire.
func askResolver(t *testing.T, r *Resolver, name string, qtype uint16) *dns.Msg {
	t.Helper()
	c, err := dialAbstract(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	req := new(dns.Msg).SetQuestion(name, qtype)
	b, _ := req.Pack()
	if err := writeMessage(c, b); err != nil {
		t.Fatal(err)
	}
	if b, err = readMessage(c); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil || m.Id != req.Id || !m.Response {
		t.Fatalf("answer %v (%v) to question %d", m, err, req.Id)
	}
	return m
}

func TestResolverAnswers(t *testing.T) {
	r := runResolver(t, ResolverOptions{NameServers: servers()})
	r.SetView(testView)
	tests := []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"_etcd-server-ssl._tcp.rack1.example.com.", dns.TypeSRV, dns.RcodeSuccess, 2},
		{"_ETCD-server-ssl._tcp.RACK1.example.com.", dns.TypeSRV, dns.RcodeSuccess, 2},
		{"_etcd-server-ssl._tcp.rack1.example.com.", dns.TypeA, dns.RcodeSuccess, 0},
		{"_tcp.rack1.example.com.", dns.TypeSRV, dns.RcodeSuccess, 0},
		{"rack1.example.com.", dns.TypeA, dns.RcodeSuccess, 0},
		{"infra0.rack1.example.com.", dns.TypeA, dns.RcodeSuccess, 1},
		{"infra0.rack1.example.com.", dns.TypeAAAA, dns.RcodeSuccess, 1},
		{"infra1.rack1.example.com.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"infra0.rack1.example.com.", dns.TypeMX, dns.RcodeSuccess, 0},
		{"infra9.rack1.example.com.", dns.TypeA, dns.RcodeNameError, 0},
		{"x.infra0.rack1.example.com.", dns.TypeA, dns.RcodeNameError, 0},
		{"10.1.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1},
		{"10.1.0.10.in-addr.arpa.", dns.TypeA, dns.RcodeSuccess, 0},
		{"99.1.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeServerFailure, 0},
		{"notrack1.example.com.", dns.TypeA, dns.RcodeServerFailure, 0},
		{"example.com.", dns.TypeA, dns.RcodeServerFailure, 0},
		{".", dns.TypeNS, dns.RcodeServerFailure, 0},
	}
	for _, test := range tests {
		m := askResolver(t, r, test.name, test.qtype)
		if m.Rcode != test.rcode || len(m.Answer) != test.answers {
			t.Errorf("%s %s: %s with %d answers, want %s with %d", test.name, dns.TypeToString[test.qtype],
				dns.RcodeToString[m.Rcode], len(m.Answer), dns.RcodeToString[test.rcode], test.answers)
		}
	}
}

func TestForwarding(t *testing.T) {
	t.Run("dead server then a living one", func(t *testing.T) {
		ns := newNameServer(t, "127.0.1.53")
		r := runResolver(t, ResolverOptions{NameServers: servers(deafServer(t, "127.0.1.54"), ns.at)})
		if m := askResolver(t, r, "a.example.", dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			t.Errorf("got %v, want the second server's answer", m)
		}
	})
	t.Run("dead servers", func(t *testing.T) {
		r := runResolver(t, ResolverOptions{NameServers: servers(deafServer(t, "127.0.1.54"))})
		for _, limit := range []time.Duration{1500 * time.Millisecond, 100 * time.Millisecond} {
			began := time.Now()
			m := askResolver(t, r, "a.example.", dns.TypeA)
			if d := time.Since(began); m.Rcode != dns.RcodeServerFailure || d > limit {
				t.Errorf("%s after %v, want SERVFAIL within %v", dns.RcodeToString[m.Rcode], d, limit)
			}
		}
	})
	t.Run("half an answer is none", func(t *testing.T) {
		ns := newNameServer(t, "127.0.1.53", func(w dns.ResponseWriter, req *dns.Msg) {
			if req.Question[0].Qtype == dns.TypeAAAA {
				_ = w.WriteMsg(new(dns.Msg).SetRcode(req, dns.RcodeServerFailure))
				return
			}
			m := new(dns.Msg).SetReply(req)
			m.RecursionAvailable = true
			m.Answer = []dns.RR{addressRecord(req.Question[0].Name, netip.MustParseAddr("192.0.2.8"))}
			_ = w.WriteMsg(m)
		})
		r := runResolver(t, ResolverOptions{NameServers: servers(ns.at)})
		if got, err := goResolver(r).LookupNetIP(t.Context(), "ip", "a.example."); err == nil {
			t.Errorf("got %v although AAAA failed, want an error (StrictErrors)", got)
		}
	})
	t.Run("own address is skipped", func(t *testing.T) {
		own, other := newNameServer(t, "127.0.1.55"), newNameServer(t, "127.0.1.53")
		r := runResolver(t, ResolverOptions{
			NameServers: servers(own.at, other.at), Own: func() []netip.Addr { return []netip.Addr{own.at.Addr()} },
		})
		if m := askResolver(t, r, "a.example.", dns.TypeA); m.Rcode != dns.RcodeSuccess {
			t.Errorf("got %v, want the other server's answer", m)
		}
		if own.asked.Load() != 0 || other.asked.Load() == 0 {
			t.Errorf("own server asked %d times, other %d; want 0 and some", own.asked.Load(), other.asked.Load())
		}
	})
	t.Run("long answers come by TCP", func(t *testing.T) {
		ns := newNameServer(t, "127.0.1.53", func(w dns.ResponseWriter, req *dns.Msg) {
			m := new(dns.Msg).SetReply(req)
			for i := range 200 {
				m.Answer = append(m.Answer, addressRecord(req.Question[0].Name, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})))
			}
			if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
				m.Truncate(dns.MinMsgSize)
			}
			_ = w.WriteMsg(m)
		})
		r := runResolver(t, ResolverOptions{NameServers: servers(ns.at)})
		if m := askResolver(t, r, "a.example.", dns.TypeA); len(m.Answer) != 200 || m.Truncated {
			t.Errorf("%d answers, truncated %v; want 200, false", len(m.Answer), m.Truncated)
		}
	})
}

func TestNameServersOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	conf := "search corp.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver bogus\noptions ndots:5\n"
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	got := nameServersOf(path)
	if want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("[2001:db8::53]:53")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := nameServersOf(path + ".gone"); got != nil {
		t.Errorf("a missing file gives %v, want none", got)
	}
}

// TestResolverStops: Run ends although a client holds its connection, and refuses nonsense before that.
func TestResolverStops(t *testing.T) {
	r := NewResolver(ResolverOptions{Log: zap.NewNop()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if err := r.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	idle, err := dialAbstract(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := writeMessage(idle, []byte{0xab, 0xcd, 1}); err != nil {
		t.Fatal(err)
	}
	b, err := readMessage(idle)
	if err != nil || binary.BigEndian.Uint16(b) != 0xabcd || b[3]&0xf != dns.RcodeFormatError {
		t.Errorf("answer to nonsense: %x, %v; want FORMERR with its ID", b, err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end while a client is connected")
	}
}

func TestViewOf(t *testing.T) {
	a := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	r := roster.Roster{Domain: "Rack1.example.com.", Nodes: []roster.Node{
		{Name: "infra0", Addrs: a("10.0.1.10"), PeerAddrs: a("10.9.1.10")},
		{Name: "infra1", Addrs: a("10.0.1.11")},
		{Name: "spare", Addrs: a("10.0.1.12")},
		{Name: "twin", Addrs: a("10.0.1.11")},
		{Name: "nowhere"},
	}}
	m := func(name, u string) srvboot.GenesisMember { return srvboot.GenesisMember{Name: name, PeerURL: u} }
	good := []srvboot.GenesisMember{m("infra0", "https://infra0-peer.rack1.example.com:2380"), m("infra1", "https://infra1.rack1.example.com:2381")}
	want := View{
		Domain: "rack1.example.com",
		SRV: map[string][]Target{"_etcd-server-ssl-foo._tcp.rack1.example.com": {
			{"infra0-peer.rack1.example.com", 2380}, {"infra1.rack1.example.com", 2381},
		}},
		Hosts: map[string][]netip.Addr{
			"infra0.rack1.example.com": a("10.0.1.10"), "infra0-peer.rack1.example.com": a("10.9.1.10"),
			"infra1.rack1.example.com": a("10.0.1.11"), "spare.rack1.example.com": a("10.0.1.12"),
			"twin.rack1.example.com": a("10.0.1.11"),
		},
	}
	got, err := ViewOf(good, r, "foo")
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("ViewOf: %v\n%s", err, diff)
	}
	for reason, bad := range map[string][]srvboot.GenesisMember{
		"share the address":  append(good[1:2:2], m("twin", "https://twin.rack1.example.com:2380")),
		"no address":         {m("nowhere", "https://nowhere.rack1.example.com:2380")},
		"no address is kno":  {m("ghost", "https://ghost.rack1.example.com:2380")},
		"some http":          append(good[:1:1], m("spare", "http://spare.rack1.example.com:2380")),
		"is not https://":    {m("x", "https://infra0.elsewhere.example:2380")},
		"is not https://NAM": {m("x", "https://infra0.rack1.example.com")},
	} {
		if _, err := ViewOf(bad, r, ""); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("ViewOf(%v) = %v, want an error with %q", bad, err, reason)
		}
	}
}
