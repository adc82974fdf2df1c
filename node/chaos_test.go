package node

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/chaos"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
)

// What plugin chaos says of the server keeps the rate limit, since it is longer than the question; it is signed for who signs,
// and names that it has not are refused as without it.
func TestChaosAnswers(t *testing.T) {
	zones := new(zone.Zones)
	store := zone.NewStore()
	zones.Set(store)
	publishTest(t, zone.NewPublisher(store, zone.Options{}, zone.NewSerials(t.TempDir()+"/serial", 1, time.Now)), 3)
	udp, tcp := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}
	ask := func(name string) *dns.Msg {
		m := new(dns.Msg).SetQuestion(name, dns.TypeTXT).SetEdns0(1232, false)
		m.Question[0].Qclass = dns.ClassCHAOS
		return m
	}
	for name, tt := range map[string]struct {
		q      *dns.Msg
		remote net.Addr
		cookie bool // a valid one
		rcode  int
		all    bool
	}{
		"authors over UDP":              {ask("authors.bind."), udp, false, dns.RcodeSuccess, false},
		"version over UDP":              {ask("version.bind."), udp, false, dns.RcodeSuccess, false},
		"version over UDP, with cookie": {ask("version.bind."), udp, true, dns.RcodeSuccess, true},
		"version over TCP":              {ask("version.bind."), tcp, false, dns.RcodeSuccess, true},
		"version over UDP, signed":      {withKey(ask("version.bind.")), udp, false, dns.RcodeSuccess, false},
		"another name over UDP":         {ask("nosuch.bind."), udp, false, dns.RcodeRefused, false},
		"another name over TCP":         {ask("nosuch.bind."), tcp, false, dns.RcodeRefused, true},
	} {
		t.Run(name, func(t *testing.T) {
			const rate, asked = 5, 1000
			shared := front.NewShared(zones)
			if err := shared.Cookies.Set(make([]byte, 16), nil); err != nil {
				t.Fatal(err)
			}
			shared.SetSettings(front.Settings{RatePerSecond: rate})
			h := zone.NewHandler(zones, shared)
			h.Next = chaos.Chaos{Version: "v1", Authors: []string{"somebody"}}
			p := signedPlugin{shared: shared, key: bundleKey, next: h}
			q := tt.q.Copy()
			if tt.cookie {
				shared.Clock.Set(time.Now())
				reply, _, _ := shared.Cookies.Reply([]byte("12345678"), netip.MustParseAddr("198.51.100.7"))
				q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(reply)}}
			}
			w := &stranger{remote: tt.remote}
			for range asked {
				if _, err := p.ServeDNS(t.Context(), w, q.Copy()); err != nil {
					t.Fatal(err)
				}
			}
			whole := 0
			for _, m := range w.sent {
				if m.Truncated {
					continue
				}
				whole++
				if m.Rcode != tt.rcode || (m.IsTsig() != nil) != (q.IsTsig() != nil) || tt.cookie != (len(m.IsEdns0().Option) == 1 && m.IsEdns0().Option[0].Option() == dns.EDNS0COOKIE) {
					t.Fatalf("an answer of\n%v", m)
				}
			}
			if tt.all && whole != asked || !tt.all && (whole < rate || whole > asked/10) {
				t.Errorf("%d whole answers of %d", whole, asked)
			}
		})
	}
}
