package zone

import (
	"net"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// asker is a client at an address that the rate limit does not exempt.
type asker struct {
	dns.ResponseWriter
	remote net.Addr
}

func (a asker) RemoteAddr() net.Addr      { return a.remote }
func (a asker) LocalAddr() net.Addr       { return a.remote }
func (a asker) WriteMsg(m *dns.Msg) error { return nil }

func guarded(t *testing.T) *Handler {
	t.Helper()
	store := NewStore()
	store.current.Store(load(t, "born"))
	shared := front.NewShared(zonesOf(store))
	shared.SetSettings(front.Settings{RatePerSecond: 5})
	if err := shared.Cookies.Set([]byte("0123456789abcdef"), nil); err != nil {
		t.Fatal(err)
	}
	return NewHandler(zonesOf(store), shared)
}

func askAs(t *testing.T, h *Handler, q *dns.Msg, remote net.Addr) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(asker{remote: remote})
	if _, err := h.ServeDNS(t.Context(), rec, q); err != nil {
		t.Fatal(err)
	}
	return rec.Msg
}

// TestSlowPathKeepsTheRateLimit floods the handler from one address, as who adds a record to each query could do to
// get around the front.
func TestSlowPathKeepsTheRateLimit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remote net.Addr
		all    bool
	}{
		{"UDP", &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}, false},
		{"TCP", &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}, true},
		{"loopback", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := guarded(t)
			var whole, slipped, dropped int
			for range 1000 {
				switch m := askAs(t, h, new(dns.Msg).SetQuestion(server, dns.TypeSRV), tc.remote); {
				case m == nil:
					dropped++
				case m.Truncated && len(m.Answer)+len(m.Ns)+len(m.Extra) == 0 && m.Rcode == dns.RcodeSuccess:
					slipped++
				case len(m.Answer) == 3:
					whole++
				}
			}
			if tc.all != (whole == 1000) || !tc.all && (whole > 200 || slipped < 300 || dropped < 300) {
				t.Errorf("%d whole, %d truncated, %d dropped", whole, slipped, dropped)
			}
		})
	}
}

func TestSlowPathCookies(t *testing.T) {
	h := guarded(t)
	remote := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}
	query := func(cookie string) *dns.Msg {
		q := new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
		return q
	}
	m := askAs(t, h, query("0102030405060708"), remote)
	c := cookieOf(m)
	if c == nil || len(c.Cookie) != 48 || c.Cookie[:16] != "0102030405060708" {
		t.Fatalf("cookie %v, want 24 octets that begin with the client's", c)
	}
	for i := range 1000 {
		if m := askAs(t, h, query(c.Cookie), remote); m == nil || len(m.Answer) != 3 {
			t.Fatalf("query %d with our cookie is limited: %v", i, m)
		}
	}
	if m := askAs(t, h, query("010203"), remote); m.Rcode != dns.RcodeFormatError || cookieOf(m) != nil || m.IsEdns0() == nil {
		t.Errorf("a malformed cookie gets\n%v", m)
	}
}
