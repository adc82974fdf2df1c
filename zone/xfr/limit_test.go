package xfr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// peer is a writer whose peer takes each message with records when it is let to.
type peer struct {
	dns.ResponseWriter
	from   netip.AddrPort
	let    chan struct{}
	sent   []*dns.Msg
	fails  error
	closed bool
}

func (p *peer) WriteMsg(m *dns.Msg) error {
	p.sent = append(p.sent, m)
	if len(m.Answer) > 0 && p.let != nil {
		<-p.let
	}
	return p.fails
}

func (p *peer) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.from) }
func (p *peer) TsigTimersOnly(bool)  {}
func (p *peer) TsigStatus() error    { return nil }
func (p *peer) Close() error         { p.closed = true; return nil }

func serveTo(s *Server, z Zone, p *peer) {
	s.Serve(p, axfr().SetEdns0(1232, false), func(string) (Offer, bool) { return Offer{Zone: z, Policy: everyone}, true })
}

func from(host, port byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), uint16(port)+1000)
}

// At most two transfers run to one address and sixteen in all; the next one is SERVFAIL, and a place is free again when one ends.
func TestConcurrencyLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerOptions{Key: testKey})
		z := newZone(10, numbered(3), nil)
		let := make(chan struct{})
		var all sync.WaitGroup
		for i := range byte(maxTransfers) {
			all.Go(func() { serveTo(s, z, &peer{from: from(i/maxPerSource, i), let: let}) })
		}
		synctest.Wait()
		for name, host := range map[string]byte{"a source with two": 0, "another source": 200} {
			p := &peer{from: from(host, 99)}
			serveTo(s, z, p)
			if len(p.sent) != 1 || p.sent[0].Rcode != dns.RcodeServerFailure || edeOf(p.sent[0]) != int(dns.ExtendedErrorCodeOther) || p.closed {
				t.Errorf("%s: %v, want one SERVFAIL with extended error 0", name, p.sent)
			}
		}
		let <- struct{}{}
		let <- struct{}{}
		synctest.Wait()
		p := &peer{from: from(200, 99)}
		serveTo(s, z, p)
		if len(p.sent) != 1 || len(p.sent[0].Answer) != 5 {
			t.Errorf("after two ended: %v", p.sent)
		}
		close(let)
		all.Wait()
		if s.all != 0 || len(s.running) != 0 {
			t.Errorf("%d transfers are still counted: %v", s.all, s.running)
		}
	})
}

// One source gets two though there is room for others.
func TestSourceLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerOptions{Key: testKey})
		z := newZone(10, numbered(3), nil)
		let := make(chan struct{})
		var all sync.WaitGroup
		for i := range byte(maxPerSource) {
			all.Go(func() { serveTo(s, z, &peer{from: from(1, i), let: let}) })
		}
		synctest.Wait()
		third, other := &peer{from: from(1, 9)}, &peer{from: from(2, 9)}
		serveTo(s, z, third)
		serveTo(s, z, other)
		if third.sent[0].Rcode != dns.RcodeServerFailure || other.sent[0].Rcode != dns.RcodeSuccess {
			t.Errorf("the third is %v, another source's %v", third.sent, other.sent)
		}
		close(let)
		all.Wait()
	})
}

// A peer that reads too slowly is cut, and so is one whose connection fails.
func TestSlowAndBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last Event
		s := NewServer(ServerOptions{Key: testKey, Done: func(e Event) { last = e }})
		p := &peer{from: from(1, 1), let: make(chan struct{})}
		go func() {
			time.Sleep(longest + time.Second) // in the bubble's time
			close(p.let)
		}()
		serveTo(s, newZone(10, numbered(5000), nil), p)
		if !p.closed || len(p.sent) != 1 || last.Kind != Broken || last.Err == nil || last.Took < longest {
			t.Errorf("slow: closed %v after %d messages, %+v", p.closed, len(p.sent), last)
		}
		p = &peer{from: from(1, 1), fails: errors.New("reset")}
		serveTo(s, newZone(10, numbered(5000), nil), p)
		if !p.closed || len(p.sent) != 1 || last.Kind != Broken || !errors.Is(last.Err, p.fails) || s.all != 0 {
			t.Errorf("broken: closed %v after %d messages, %+v", p.closed, len(p.sent), last)
		}
	})
}

// A transfer is of the version that it began with, and its messages are of a sane size.
func TestPinnedVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerOptions{Key: testKey})
		z := newZone(10, numbered(3000), nil)
		p := &peer{from: from(1, 1), let: make(chan struct{})}
		var all sync.WaitGroup
		all.Go(func() { serveTo(s, z, p) })
		synctest.Wait()
		z.v.Store(newZone(11, nil, nil).v.Load())
		close(p.let)
		all.Wait()
		var rrs []dns.RR
		for i, m := range p.sent {
			if m.Len() > messageSize+512 {
				t.Errorf("message %d has %d octets", i, m.Len())
			}
			rrs = append(rrs, m.Answer...)
		}
		want := texts(slices.Concat([]dns.RR{soa(10)}, numbered(3000), []dns.RR{soa(10)}))
		if !slices.Equal(want, texts(rrs)) || len(p.sent) < 3 {
			t.Errorf("%d records in %d messages, want the 3002 of serial 10", len(rrs), len(p.sent))
		}
	})
}

func TestPolicy(t *testing.T) {
	p := Policy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.53/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/64")}}
	for a, want := range map[string]bool{"192.0.2.53": true, "::ffff:192.0.2.53": true, "192.0.2.54": false, "10.255.0.1": true, "11.0.0.1": false,
		"2001:db8::9": true, "2001:db8::9%eth0": true, "2001:db8:1::9": false} {
		if got := p.allows(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
	if p.allows(netip.Addr{}) || !(Policy{Any: true}).allows(netip.MustParseAddr("203.0.113.1")) {
		t.Error("an unknown address is let in, or * keeps one out")
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want bool
	}{{1, 2, true}, {2, 1, false}, {1, 1, false}, {1<<32 - 1, 0, true}, {0, 1<<32 - 1, false}, {0, 1 << 31, true}, {1 << 31, 0, true}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%d, %d) = %v", c.a, c.b, got)
		}
	}
}

// The limits that docs/dns.md tells are those in force.
func TestLimitsAsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| transfers | %d at a time, %d of one address, %.0f minutes |", maxTransfers, maxPerSource, longest.Minutes()),
		fmt.Sprintf("with %d as this server's size", front.MaxUDPSize),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/dns.md lacks %q", want)
		}
	}
}

// An answer over UDP leaves room for the identity that the server adds.
func TestRoomForNSID(t *testing.T) {
	for name, tt := range map[string]struct {
		nsid bool
		kind Kind
	}{"fits": {false, Full}, "does not fit with an identity": {true, Retry}} {
		t.Run(name, func(t *testing.T) {
			q := ixfr(8).SetEdns0(4096, false)
			n := 1 // as many records as just fit
			for m := new(dns.Msg); m.Len() <= front.MaxUDPSize; n++ {
				m = new(dns.Msg).SetReply(q).SetEdns0(front.MaxUDPSize, false)
				m.Compress, m.Answer = true, slices.Concat([]dns.RR{soa(10)}, numbered(n), []dns.RR{soa(10)})
			}
			f := serve(t, newZone(10, numbered(n-2), nil), everyone)
			if tt.nsid {
				q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
			}
			got, _, err := (&dns.Client{UDPSize: 4096}).Exchange(q, f.addr)
			if err != nil {
				t.Fatal(err)
			}
			if e := f.event(t); e.Kind != tt.kind {
				t.Errorf("%s, %d octets, want %s", e.Kind, got.Len(), tt.kind)
			}
		})
	}
}
