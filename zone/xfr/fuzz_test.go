package xfr

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// wire is a writer that verifies as dns.Server does, and keeps what is sent.
type wire struct {
	dns.ResponseWriter
	udp    bool
	status error
	sent   []*dns.Msg
}

func (w *wire) WriteMsg(m *dns.Msg) error {
	w.sent = append(w.sent, m)
	c := m.Copy()
	if sig := c.IsTsig(); sig != nil {
		_, _, err := dns.TsigGenerate(c, testKey.Secrets()[testKey.Name], "", false)
		return err
	}
	_, err := c.Pack()
	return err
}

func (w *wire) RemoteAddr() net.Addr {
	if w.udp {
		return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5353}
	}
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5353}
}
func (w *wire) TsigTimersOnly(bool) {}
func (w *wire) TsigStatus() error   { return w.status }
func (w *wire) Close() error        { return nil }

// verify is what dns.Server does before the handler: an unknown key, an error, or nil.
func verify(packet []byte, m *dns.Msg) error {
	sig := m.IsTsig()
	if sig == nil {
		return nil
	}
	secret, ok := testKey.Secrets()[sig.Hdr.Name]
	if !ok {
		return dns.ErrSecret
	}
	return dns.TsigVerify(packet, secret, "", false)
}

// FuzzTransferRequest: every packet that parses is answered, with the right header and question, and never with records unless
// the policy lets it.
func FuzzTransferRequest(f *testing.F) {
	zone := newZone(10, numbered(600), map[uint32][]Delta{9: {{From: soa(9), To: soa(10), Removed: numbered(2)}}})
	for _, m := range []*dns.Msg{axfr(), ixfr(9), ixfr(10), ixfr(3), axfr().SetEdns0(1232, true), signed(axfr()), new(dns.Msg).SetNotify(origin)} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false, false)
		f.Add(b, true, true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, udp, open bool) {
		q := new(dns.Msg)
		if q.Unpack(packet) != nil || q.Response || len(q.Question) != 1 {
			t.Skip()
		}
		var last Event
		s := NewServer(ServerOptions{Key: testKey, Done: func(e Event) { last = e }})
		w := &wire{udp: udp, status: verify(append([]byte{}, packet...), q)}
		before := q.Copy()
		s.Serve(w, q, func(name string) (Offer, bool) {
			return Offer{Zone: zone, Policy: Policy{Any: true, Unsigned: open}}, name == origin
		})
		if len(w.sent) == 0 || last.Kind == "" || last.Kind == Broken {
			t.Fatalf("no answer, %+v, to\n%v", last, before)
		}
		for _, m := range w.sent {
			if m.Id != before.Id || !m.Response || len(m.Question) != 1 || m.Question[0] != before.Question[0] {
				t.Errorf("answer\n%v\nto\n%v", m, before)
			}
			if len(m.Answer) > 0 && (!open || w.status != nil || last.Rcode != dns.RcodeSuccess) {
				t.Errorf("records for the unsigned request\n%v", before)
			}
			if udp && m.Len() > front.MaxUDPSize {
				t.Errorf("%d octets over UDP", m.Len())
			}
		}
		if udp && len(w.sent) > 1 {
			t.Errorf("%d messages over UDP", len(w.sent))
		}
	})
}

// FuzzTSIG: whatever stands behind a query as its additional section, it does not authenticate without the key. The corpus has
// a good signature over another message and its parts.
func FuzzTSIG(f *testing.F) {
	q := signed(new(dns.Msg).SetQuestion(origin, dns.TypeSOA)) // as long as the query below
	packet, mac, err := dns.TsigGenerate(q, testKey.Secrets()[testKey.Name], "", false)
	if err != nil {
		f.Fatal(err)
	}
	unsigned, err := axfr().Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet[len(unsigned):], byte(1), testKey.Name, testKey.Algorithm, mac, uint16(0))
	f.Add(append(packet[len(unsigned):], packet[len(unsigned):]...), byte(2), "other.", dns.HmacSHA1, "", uint16(17))
	f.Add([]byte{}, byte(0), ".", ".", mac[:20], uint16(16))
	zone := newZone(10, numbered(3), nil)
	f.Fuzz(func(t *testing.T, tail []byte, count byte, name, algorithm, mac string, tsigError uint16) {
		base := axfr()
		base.Id = 4711
		head, err := base.Pack()
		if err != nil {
			t.Fatal(err)
		}
		raw := append(head, tail...)
		raw[11] = count
		made := base.Copy()
		made.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.Fqdn(algorithm),
			TimeSigned: uint64(time.Now().Unix()), Fudge: 300, MAC: mac, MACSize: uint16(len(mac) / 2), OrigId: 4711, Error: tsigError}}
		packets := [][]byte{raw}
		if b, err := made.Pack(); err == nil {
			packets = append(packets, b)
		}
		for _, p := range packets {
			m := new(dns.Msg)
			if m.Unpack(p) != nil {
				continue
			}
			w := &wire{status: verify(append([]byte{}, p...), m)}
			NewServer(ServerOptions{Key: testKey}).Serve(w, m, func(string) (Offer, bool) {
				return Offer{Zone: zone, Policy: Policy{Any: true}}, true
			})
			for _, a := range w.sent {
				if len(a.Answer) > 0 || a.Rcode == dns.RcodeSuccess {
					t.Fatalf("a transfer for\n%v", m)
				}
			}
		}
	})
}

// FuzzNotifyAnswer feeds what a secondary may answer to SOA and NOTIFY: it counts as an acknowledgement only if it is one, and
// a serial only if it has authority.
func FuzzNotifyAnswer(f *testing.F) {
	ack := new(dns.Msg).SetNotify(origin)
	ack.Response = true
	shown := new(dns.Msg).SetQuestion(origin, dns.TypeSOA)
	shown.Response, shown.Authoritative, shown.Answer = true, true, []dns.RR{soa(9)}
	for _, m := range []*dns.Msg{ack, signed(ack.Copy()), shown, new(dns.Msg).SetRcode(ack, dns.RcodeNotImplemented)} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		answers := [][]byte{first, second}
		n := NewNotifier(NotifierOptions{Key: testKey})
		var last *dns.Msg
		n.exchange = func(context.Context, *dns.Msg, netip.Addr, netip.AddrPort, time.Duration) (*dns.Msg, error) {
			m := new(dns.Msg)
			err := m.Unpack(answers[0])
			answers = answers[1:]
			last = m
			return m, err
		}
		s := &secondary{addr: netip.MustParseAddrPort("192.0.2.53:53")}
		tr := try{s: s, origin: origin, soa: soa(10), serial: 10, to: s.addr, probe: true}
		out := n.try(t.Context(), tr)
		if out.acked && (!last.Response || last.Opcode != dns.OpcodeNotify || last.Rcode != dns.RcodeSuccess || last.IsTsig() == nil) {
			t.Errorf("acknowledged by\n%v", last)
		}
		if out.has != nil {
			m := new(dns.Msg)
			if err := m.Unpack(first); err != nil || !m.Authoritative || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				t.Errorf("serial %d by\n%v", *out.has, m)
			}
		}
		n.finish(tr, out)
		if s.err != nil && out.acked {
			t.Errorf("acknowledged, and %v", s.err)
		}
	})
}
