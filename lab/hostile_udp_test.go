//go:build linux

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// floodPackets and floodTime bound a flood, whichever is first.
const (
	floodPackets = 200_000
	floodTime    = 5 * time.Second
)

// malformed sends what no client sends.
func (h *hostile) malformed(t *testing.T) {
	kinds := h.malformedPackets(t)
	for _, at := range []netip.Addr{h.host(h.target).in(ipv4), h.host(h.target).in(ipv6)} {
		sent := h.flood(t, at, floodPackets/2, floodTime/2, func(i int) []byte {
			p := kinds[i%len(kinds)](i)
			if len(p) >= 4096 && i/len(kinds)%50 > 0 { // a packet in fifty fragments is worth fifty
				p = kinds[0](i)
			}
			return p
		})
		t.Logf("%d packets of %d kinds to %v", sent, len(kinds), at)
	}
}

// flood sends packets from the attacker to a node's port 53, as fast as it can, and returns how many.
func (h *hostile) flood(t *testing.T, to netip.Addr, count int, limit time.Duration, packet func(i int) []byte) (sent int) {
	t.Helper()
	if err := inNetns(h.host(attackerHost).ns, func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 53)))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for end := time.Now().Add(limit); sent < count && (sent%64 > 0 || time.Now().Before(end)); sent++ {
			_, _ = c.Write(packet(sent)) // an error is an ICMP message about an earlier one
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return sent
}

// malformedPackets are makers of packets, by the number of the packet.
func (h *hostile) malformedPackets(t *testing.T) (kinds []func(i int) []byte) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{})
	name := h.service("server")
	whole := func(edit func(m *dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeSRV)
		edit(m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	query := whole(func(*dns.Msg) {})
	edns := whole(func(m *dns.Msg) { m.SetEdns0(4096, true) })
	with := func(p []byte, off int, b ...byte) []byte {
		out := append([]byte(nil), p...)
		copy(out[off:], b)
		return out
	}
	fixed := func(packets ...[]byte) {
		for _, p := range packets {
			kinds = append(kinds, func(int) []byte { return p })
		}
	}
	kinds = append(kinds,
		func(i int) []byte { b := make([]byte, i%600); _, _ = random.Read(b); return b },
		func(i int) []byte { return query[:i%12] },                                                // shorter than a header
		func(i int) []byte { return query[:12+i%(len(query)-12)] },                                // shorter than its question
		func(i int) []byte { return edns[:len(query)+i%11] },                                      // shorter than its OPT record
		func(i int) []byte { return with(query, 2, byte(i%16)<<3) },                               // every opcode
		func(i int) []byte { return with(query, 2, 0x80|byte(i)) },                                // answers
		func(i int) []byte { return with(query, 4, byte(i>>8), byte(i), byte(i>>3), byte(i>>5)) }, // counts that lie
		func(i int) []byte { b := with(edns, 0); _, _ = random.Read(b[len(query):]); return b },
		func(i int) []byte { b := with(query, 0); _, _ = random.Read(b[12:]); return b },
	)
	pointer := func(labels ...byte) []byte { return append(append(with(query[:12], 0), labels...), 0, 33, 0, 1) }
	fixed(
		pointer(0xc0, 12), pointer(0xc0, 14, 0xc0, 12), pointer(1, 'a', 0xc0, 12), pointer(0x41, 0x80), pointer(63, 'a'),
		with(query, 4, 0xff, 0xff), with(query, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		append(with(query, 4, 0, 2), query[12:]...),        // two questions
		append(with(edns, 10, 0, 2), edns[len(query):]...), // two OPT records
		append(with(edns, 0), make([]byte, 5000)...), append(with(query, 0), make([]byte, 60_000)...), make([]byte, 65_507),
		whole(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTKEY }), whole(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }),
		whole(func(m *dns.Msg) {
			m.Extra = []dns.RR{&dns.TKEY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeTKEY, Class: dns.ClassANY}, Algorithm: "gss-tsig."}}
		}),
		whole(func(m *dns.Msg) {
			m.Extra = []dns.RR{&dns.SIG{RRSIG: dns.RRSIG{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSIG, Class: dns.ClassANY}, SignerName: ".", Signature: strings.Repeat("A", 86) + "=="}}}
		}),
		whole(func(m *dns.Msg) {
			m.SetEdns0(65535, true)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: make([]byte, 3000)}}
		}),
		whole(func(m *dns.Msg) { m.SetEdns0(1232, true); m.IsEdns0().SetVersion(7) }),
	)
	for _, key := range []string{h.key, "other."} {
		signed := whole(func(m *dns.Msg) {
			m.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: key, Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256,
				TimeSigned: uint64(time.Now().Unix()), Fudge: 300, MACSize: 32, MAC: strings.Repeat("ab", 32)}}
		})
		fixed(signed, with(signed, 2, 4<<3), with(signed, 2, 5<<3))
		kinds = append(kinds, func(i int) []byte { // the record lies about its length, and is cut
			b := with(signed, 0)
			binary.BigEndian.PutUint16(b[len(query)+len(key)+1+8:], uint16(i))
			return b[:len(b)-i%40]
		})
	}
	return kinds
}
