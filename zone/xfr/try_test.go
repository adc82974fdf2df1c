package xfr

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The message on the wire (RFC 1996 §3.7), to a server that verifies TSIG, from the address that was chosen.
func TestNotifyOverUDP(t *testing.T) {
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		m      *dns.Msg
		status error
		from   string
	}
	got := make(chan seen, 10)
	srv := &dns.Server{PacketConn: u, TsigSecret: testKey.Secrets(), Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		got <- seen{r, w.TsigStatus(), w.RemoteAddr().String()}
		m := new(dns.Msg).SetReply(r)
		Sign(m, r, 0, time.Now())
		_ = w.WriteMsg(m)
	})}
	up := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(up) }
	ended := make(chan error, 1)
	go func() { ended <- srv.ActivateAndServe() }()
	<-up
	defer func() {
		_ = srv.Shutdown()
		<-ended
	}()
	to := netip.MustParseAddrPort(u.LocalAddr().String())
	n := NewNotifier(NotifierOptions{Key: testKey, Notices: func() []Notice {
		return []Notice{{Zone: newZone(10, nil, nil), To: []netip.AddrPort{to}, Source: func(netip.Addr) netip.Addr { return netip.MustParseAddr("127.0.0.9") }}}
	}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	s := <-got
	m := s.m
	if m.Opcode != dns.OpcodeNotify || !m.Authoritative || m.Response || len(m.Question) != 1 || m.Question[0] != (dns.Question{Name: origin, Qtype: dns.TypeSOA, Qclass: dns.ClassINET}) ||
		len(m.Answer) != 1 || m.Answer[0].(*dns.SOA).Serial != 10 || m.IsTsig() == nil || s.status != nil || !strings.HasPrefix(s.from, "127.0.0.9:") {
		t.Errorf("from %s, TSIG %v:\n%v", s.from, s.status, m)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if st := n.Status(); len(st) == 1 && st[0].Acked != nil && *st[0].Acked == 10 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not acknowledged: %+v", n.Status())
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
