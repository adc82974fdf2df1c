package front_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
)

const domain = "rack1.example.org."

// rack is a zone of three members, with a few records beside.
func rack(t testing.TB) (*zone.Zones, *front.Shared) {
	t.Helper()
	r := roster.Roster{Domain: domain, Clusters: []roster.Cluster{{Knowledge: roster.Born}, {Name: "foo"}}}
	for i, name := range []string{"infra0", "infra1", "infra2"} {
		r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: i, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)})}})
		r.NameServers = append(r.NameServers, roster.NameServer{Name: name + "." + domain})
		r.Clusters[0].Members = append(r.Clusters[0].Members, roster.Member{Node: name, PeerHost: name, PeerPort: 2380, ClientPort: 2379, Serving: true})
	}
	alias, err := dns.NewRR("www." + domain + " 30 IN CNAME infra0." + domain)
	if err != nil {
		t.Fatal(err)
	}
	store := zone.NewStore()
	serials := zone.NewSerials(t.TempDir()+"/serial", 0, time.Now)
	if _, err := zone.NewPublisher(store, zone.Options{Records: []dns.RR{alias}}, serials).Publish(r, nil); err != nil {
		t.Fatal(err)
	}
	zones := new(zone.Zones)
	zones.Set(store)
	shared := front.NewShared(zones)
	if err := shared.Cookies.Set([]byte("0123456789abcdef"), nil); err != nil {
		t.Fatal(err)
	}
	return zones, shared
}

// asker stands for a client's socket.
type asker struct {
	dns.ResponseWriter
	tcp bool
}

func (a asker) RemoteAddr() net.Addr {
	if a.tcp {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5353}
	}
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5353}
}
func (a asker) LocalAddr() net.Addr         { return a.RemoteAddr() }
func (a asker) WriteMsg(*dns.Msg) error     { return nil }
func (a asker) Write(b []byte) (int, error) { return len(b), nil }

// FuzzBothWays sends whatever packet to the front, and what it answers to the handler that CoreDNS calls: the two say
// the same. Cookies hold the time, so that only their being there is compared.
func FuzzBothWays(f *testing.F) {
	for _, name := range []string{domain, "_etcd-server-ssl._tcp." + domain, "_ETCD-client._TCP." + domain, "nosuch." + domain, "www." + domain,
		"_etcd-server-foo._tcp." + domain, "example.org.", "."} {
		for _, qtype := range []uint16{dns.TypeSRV, dns.TypeA, dns.TypeANY, dns.TypeSOA, dns.TypeRRSIG} {
			q := new(dns.Msg).SetQuestion(name, qtype)
			add(f, q)
			q.SetEdns0(700, true)
			add(f, q)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
			q.CheckingDisabled, q.RecursionDesired = true, false
			add(f, q)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}}
			add(f, q)
			q.IsEdns0().SetUDPSize(4096)
			add(f, q)
		}
	}
	zones, shared := rack(f)
	handler := zone.NewHandler(zones, shared)
	from := netip.MustParseAddr("192.0.2.7")
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		size := 1232
		if tcp {
			size = dns.MaxMsgSize
		}
		out := make([]byte, size)
		n, _ := front.Respond(shared, packet, from, tcp, out)
		if n == 0 {
			return
		}
		got, q := new(dns.Msg), new(dns.Msg)
		if err := got.Unpack(out[:n]); err != nil {
			t.Fatalf("% x: %v", out[:n], err)
		}
		if err := q.Unpack(packet); err != nil {
			t.Fatalf("% x is answered, and is malformed: %v", packet, err)
		}
		rec := dnstest.NewRecorder(asker{tcp: tcp})
		asked := q.Copy() // CoreDNS's writer and the handler share it
		if code, err := handler.ServeDNS(t.Context(), request.NewScrubWriter(asked, rec), asked); err != nil || rec.Msg == nil {
			t.Fatalf("the handler says %d, %v to\n%v", code, err, q)
		}
		packed, err := rec.Msg.Pack()
		if err != nil {
			t.Fatal(err)
		}
		want := new(dns.Msg)
		if err := want.Unpack(packed); err != nil {
			t.Fatal(err)
		}
		if opt := want.IsEdns0(); opt != nil && rec.Msg.Compress && opt.UDPSize() <= front.MaxUDPSize {
			opt.SetUDPSize(front.MaxUDPSize) // CoreDNS needs the query's to compress, see zone's sizeFor
		}
		if a, b := meaning(got), meaning(want); a != b {
			t.Fatalf("query\n%v\nthe front says\n%s\nthe handler says\n%s", q, a, b)
		}
	})
}

func add(f *testing.F, q *dns.Msg) {
	b, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Add(b, true)
}

// meaning is what of a message is compared: header, question, the sections as sets, and EDNS.
func meaning(m *dns.Msg) string {
	var b strings.Builder
	h := m.MsgHdr
	b.WriteString(h.String())
	b.WriteString(m.Question[0].String())
	opt := m.IsEdns0()
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		lines := []string{}
		for _, rr := range section {
			if rr != opt || opt == nil {
				lines = append(lines, strings.ToLower(rr.String()))
			}
		}
		slices.Sort(lines)
		b.WriteString("\n" + [...]string{"answer", "authority", "additional"}[i] + "\n" + strings.Join(lines, "\n"))
	}
	if opt != nil {
		fmt.Fprintf(&b, "\nEDNS size %d version %d DO %v", opt.UDPSize(), opt.Version(), opt.Do())
		var options []string
		for _, o := range opt.Option {
			value := o.String()
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				value = fmt.Sprint(len(c.Cookie)) // it holds the time
			}
			options = append(options, fmt.Sprintf(" option %d %s", o.Option(), value))
		}
		slices.Sort(options) // RFC 6891 §6.1.2: their order means nothing
		b.WriteString(strings.Join(options, ""))
	}
	return b.String()
}
