package node

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// stranger is the socket of somebody far away, whose TSIG is worth what status says.
type stranger struct {
	dns.ResponseWriter
	remote net.Addr
	status error
	sent   []*dns.Msg
}

func (s *stranger) RemoteAddr() net.Addr      { return s.remote }
func (s *stranger) TsigStatus() error         { return s.status }
func (s *stranger) TsigTimersOnly(bool)       {}
func (s *stranger) WriteMsg(m *dns.Msg) error { s.sent = append(s.sent, m); return nil }

// What is said about transfers and signatures keeps the rate limit too, over UDP, unless a good signature shows who asks.
func TestLimitedAnswers(t *testing.T) {
	startCoreDNS(t, doors)
	s := &testServer
	s.opts.TransferInsecure = true
	udp, tcp := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 53}
	ixfr := new(dns.Msg).SetIxfr(testDomain, s.store.Load().Serial()-1, ".", ".").SetEdns0(1232, false)
	axfr := new(dns.Msg).SetAxfr(testDomain).SetEdns0(1232, false)
	soa := new(dns.Msg).SetQuestion(testDomain, dns.TypeSOA).SetEdns0(1232, false)
	for name, tt := range map[string]struct {
		q      *dns.Msg
		remote net.Addr
		status error
		all    bool
	}{
		"IXFR over UDP":              {ixfr, udp, nil, false},
		"IXFR over UDP, signed":      {withKey(ixfr.Copy()), udp, nil, true},
		"IXFR over TCP":              {ixfr, tcp, nil, true},
		"AXFR over UDP":              {axfr, udp, nil, false},
		"a bad signature over UDP":   {withKey(soa.Copy()), udp, dns.ErrSig, false},
		"an unknown key over UDP":    {withKey(soa.Copy()), udp, dns.ErrSecret, false},
		"a bad signature over TCP":   {withKey(soa.Copy()), tcp, dns.ErrSig, true},
		"two signatures, over UDP":   {withKey(withKey(soa.Copy())), udp, nil, false},
		"IXFR, a bad one, over UDP":  {withKey(ixfr.Copy()), udp, dns.ErrTime, false},
		"AXFR, a bad one, over UDP ": {withKey(axfr.Copy()), udp, dns.ErrSig, false},
	} {
		t.Run(name, func(t *testing.T) {
			const rate, asked = 5, 1000
			shared := front.NewShared(s.zones)
			shared.SetSettings(front.Settings{RatePerSecond: rate})
			p := signedPlugin{shared: shared, next: &transferPlugin{transfers: s.transfers, own: []transferBlock{{zones: []string{testDomain}, any: true}}, shared: shared}}
			w := &stranger{remote: tt.remote, status: tt.status}
			start := time.Now()
			for range asked {
				if _, err := p.ServeDNS(t.Context(), w, tt.q.Copy()); err != nil {
					t.Fatal(err)
				}
			}
			whole, slipped := 0, 0
			for _, m := range w.sent {
				if !m.Truncated {
					whole++
					continue
				}
				slipped++
				if m.Id != tt.q.Id || len(m.Answer)+len(m.Ns) > 0 || m.Question[0] != tt.q.Question[0] || m.IsEdns0() == nil || m.Len() > tt.q.Len() {
					t.Errorf("a slip of\n%v\nto\n%v", m, tt.q)
				}
			}
			switch {
			case tt.all && (whole != asked || slipped > 0):
				t.Errorf("%d whole and %d truncated answers, want all whole", whole, slipped)
			case !tt.all && time.Since(start) < time.Second && (whole < rate || whole > 2*rate || slipped < asked/2-2*rate || slipped > asked/2):
				t.Errorf("%d whole and %d truncated answers to %d, want about %d and half of the rest", whole, slipped, asked, rate)
			}
		})
	}
}

// However many transfers are refused, the log has a few lines a minute, and says how many are missing.
func TestRefusalsAreLoggedSparingly(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	tr := newTransfers(zap.New(core), bundleKey, nil, nil, nil)
	now := time.Unix(1_700_000_000, 0)
	tr.refusals.now = func() time.Time { return now }
	refuse := func(n int) (lines int, left int64) {
		logs.TakeAll()
		for range n {
			tr.done(xfr.Event{Kind: xfr.Refused, Type: dns.TypeAXFR})
		}
		for _, e := range logs.TakeAll() {
			if n, ok := e.ContextMap()["left_out"].(int64); ok {
				left += n
			}
			lines++
		}
		return lines, left
	}
	for _, step := range []struct {
		what        string
		after       time.Duration
		asked, want int
		left        int64
	}{
		{"a flood", 0, 1000, refusalLines, 0},
		{"goes on", 59 * time.Second, 500, 0, 0},
		{"the next minute", time.Second, 3, 3, 1490},
		{"is not full yet", time.Second, 5, 5, 0},
		{"a clock that goes back", -time.Hour, 20, refusalLines, 0},
	} {
		now = now.Add(step.after)
		if lines, left := refuse(step.asked); lines != step.want || left != step.left {
			t.Errorf("%s: %d lines and %d left out, want %d and %d", step.what, lines, left, step.want, step.left)
		}
	}
}
