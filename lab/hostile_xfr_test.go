//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// signedWith is a query with a TSIG by a key, in base64, as a secondary sends it over TCP.
func (h *hostile) signedWith(t *testing.T, q *dns.Msg, key, secret string) []byte {
	t.Helper()
	b, _, err := dns.TsigGenerate(q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()), secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// transfers are asked for by everybody, with a good key, another and none, over UDP and TCP, and those that are given are
// not read. All the while an honest secondary gets the zone.
func (h *hostile) transfers(t *testing.T) {
	got := 0
	transfer := func() {
		t.Helper()
		zone, err := h.transfer(request{knotHost, h.Addr(h.target), h.Domain, h.key, h.secret})
		if err != nil || len(zone) < 300 {
			t.Errorf("a secondary gets %d records: %v", len(zone), err)
		}
		got++
	}
	axfr := func() *dns.Msg { return new(dns.Msg).SetAxfr(h.Domain + ".") }
	ixfr := func() *dns.Msg { return new(dns.Msg).SetIxfr(h.Domain+".", 1, ".", ".") }
	other := "b3RoZXItc2VjcmV0LW9mLTMyLW9jdGV0cy1vciBzbw=="
	asks := [][]byte{
		framedQuery(t, axfr()), framedQuery(t, ixfr()), h.signedWith(t, axfr(), h.key, other), h.signedWith(t, ixfr(), "other.", other),
		h.signedWith(t, axfr(), h.key, h.secret),
	}
	for range 5 {
		for _, host := range []string{attackerHost, nsdHost, bindHost} {
			m := h.mob(53)
			defer m.leave()
			m.host = host
			from := func(int) netip.Addr { return h.host(host).in(ipv4) }
			if host == attackerHost {
				from = crowd(50)
			}
			m.connect(t, 120, from, func(i, fd int) {
				for range 1 + i%4 { // several transfers over one connection
					say(fd, asks[i%len(asks)])
				}
			})
			transfer()
		}
		for _, q := range []*dns.Msg{axfr(), ixfr()} {
			b, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			h.flood(t, h.host(h.target).in(ipv4), 2000, time.Second, func(int) []byte { return b })
		}
		transfer()
	}
	t.Logf("an honest secondary got the zone %d times meanwhile", got)
}

// changes are NOTIFY and UPDATE messages, signed by nobody, by an unknown key, and with garbage.
func (h *hostile) changes(t *testing.T) {
	var packets [][]byte
	for _, m := range []*dns.Msg{new(dns.Msg).SetNotify(h.Domain + "."), new(dns.Msg).SetNotify("example.net."), new(dns.Msg).SetUpdate(h.Domain + ".")} {
		if m.Opcode == dns.OpcodeUpdate {
			rr, err := dns.NewRR("evil." + h.Domain + ". 30 TXT " + strings.Repeat("x", 200))
			if err != nil {
				t.Fatal(err)
			}
			m.Insert([]dns.RR{rr, rr})
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, b, b[:len(b)-3], h.signedWith(t, m, "other.", "b3RoZXI=")[2:])
	}
	sent := h.flood(t, h.host(h.target).in(ipv4), floodPackets/2, floodTime/2, func(i int) []byte { return packets[i%len(packets)] })
	m := h.mob(53)
	defer m.leave()
	m.connect(t, 500, crowd(50), func(i, fd int) {
		p := packets[i%len(packets)]
		for range 16 {
			say(fd, append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
		}
	})
	t.Logf("%d packets, and 500 connections", sent)
	if a := h.Ask(clientHost, h.Addr(h.target), "evil."+h.Domain, dns.TypeTXT); a != "NXDOMAIN" {
		t.Errorf("the name that UPDATE is about: %s", a)
	}
}
