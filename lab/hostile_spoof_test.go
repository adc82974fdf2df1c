//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// spoofedPace is how many packets are sent a second: 25 times of what a source gets answered for one name, five times of what a
	// network gets in all.
	spoofedPace = 5000
	// spoofedLead are sent until a flood is limited for certain: what a network gets in two seconds, as the lead may begin in one and
	// end in the next, and a second's debt.
	spoofedLead = 3000
	// spoofedPackets are sent then.
	spoofedPackets = 1250
	// maxSpoofed is the time from the lead on in which its debt holds.
	maxSpoofed = 900 * time.Millisecond
	// burst is how many are sent at once.
	burst = 50
	// maxAmplification is how many octets of answers the victim may get for one that the attacker sends.
	maxAmplification = 3
	// victimPort is the source port of spoofed packets.
	victimPort = 5300
)

// spoofed sends queries that seem to come from the victim, and measures what the victim gets for them.
func (h *hostile) spoofed(t *testing.T) {
	v := h.victim(t)
	defer v.close()
	node4, node6 := h.host(h.target).in(ipv4), h.host(h.target).in(ipv6)
	srv := Question{h.service("server"), dns.TypeSRV}
	apex := Question{h.Domain, dns.TypeANY}
	bulk := Question{"bulk7." + h.Domain, dns.TypeTXT}
	one := func(q Question) func(int) Question { return func(int) Question { return q } }
	for i, k := range []struct {
		what     string
		question func(i int) Question
		edns, do bool
		to       netip.Addr
		spread   bool // over the addresses of one /24
	}{
		{"SRV", one(srv), false, false, node4, false},
		{"SRV, EDNS", one(srv), true, false, node4, false},
		{"SRV, DO", one(srv), true, true, node4, false},
		{"ANY", one(apex), false, false, node4, false},
		{"ANY, EDNS", one(apex), true, false, node4, false},
		{"ANY, DO", one(apex), true, true, node4, false},
		{"1 KiB of TXT, EDNS", one(bulk), true, false, node4, false},
		{"1 KiB of TXT, DO, over a /24", one(bulk), true, true, node4, true},
		{"SRV, DO, over a /24", one(srv), true, true, node4, true},
		{"ANY, DO, IPv6", one(apex), true, true, node6, false},
		{"1 KiB of TXT, EDNS, IPv6", one(bulk), true, false, node6, false},
		{"no such names, DO", func(i int) Question { return Question{fmt.Sprintf("n%d.%s", i, h.Domain), dns.TypeA} }, true, true, node4, false},
		{"AXFR", one(Question{h.Domain, dns.TypeAXFR}), true, false, node4, false},
		{"other zones", func(i int) Question { return Question{fmt.Sprintf("n%d.example.net", i), dns.TypeA} }, true, true, node4, false},
		{"300 names of 1 KiB of TXT, EDNS", func(i int) Question { return Question{fmt.Sprintf("bulk%d.%s", i%300, h.Domain), dns.TypeTXT} }, true, false, node4, false},
	} {
		flood := func(network int) (limited float64, took time.Duration) {
			sender := h.forger(t, k.to)
			send := func(packets int) (octets int64) {
				pace := time.NewTicker(burst * time.Second / spoofedPace)
				defer pace.Stop()
				for n := range packets {
					src := h.host(victimHost).in(ipv6)
					if k.to.Is4() {
						src = netip.AddrFrom4([4]byte{10, 5, byte(network), 99})
					}
					if k.spread {
						src = netip.AddrFrom4([4]byte{10, 5, byte(network), byte(n)})
					}
					payload := forged(t, k.question(n), k.edns, k.do)
					if err := sender(src, payload); err != nil {
						t.Fatal(err)
					}
					octets += int64(len(payload))
					if n%burst == 0 {
						<-pace.C
					}
				}
				return octets
			}
			before := v.octets.Load()
			lead := send(spoofedLead)
			then := time.Now()
			middle := v.settle(h)
			sent := send(spoofedPackets)
			took = time.Since(then)
			got := v.settle(h)
			limited = float64(got-middle) / float64(sent)
			t.Logf("%s: %d octets for %d: %.2f times; once limited %.2f, in %v", k.what, got-before, lead+sent, float64(got-before)/float64(lead+sent), limited, took.Round(time.Millisecond))
			return limited, took
		}
		// A /24 for each kind and try, so that none is limited for another. On a machine that has stood still the debt of the lead may
		// be paid, and a network gets its rate again, as it should.
		limited, took := flood(i)
		for try := 1; took > maxSpoofed && try < 8; try++ {
			limited, took = flood(i + 16*try)
		}
		if limited > maxAmplification {
			t.Errorf("%s: the victim gets %.1f times what is sent, want %d at most", k.what, limited, maxAmplification)
		}
	}
}

// forged is a packed query.
func forged(t *testing.T, q Question, edns, do bool) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.Name), q.Type)
	if edns {
		m.SetEdns0(4096, do)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// victim counts what arrives at the victim's port.
type victim struct {
	octets atomic.Int64
	conn   net.PacketConn
	wg     sync.WaitGroup
}

func (h *hostile) victim(t *testing.T) *victim {
	t.Helper()
	v := &victim{}
	if err := inNetns(h.host(victimHost).ns, func() (err error) {
		v.conn, err = net.ListenPacket("udp", fmt.Sprintf(":%d", victimPort))
		if err != nil {
			return err
		}
		raw, err := v.conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
		if e != nil {
			return e
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	v.wg.Go(func() {
		b := make([]byte, 65536)
		for {
			n, _, err := v.conn.ReadFrom(b)
			if err != nil {
				return // it is closed
			}
			v.octets.Add(int64(n))
		}
	})
	return v
}

func (v *victim) close() {
	_ = v.conn.Close()
	v.wg.Wait()
}

// settle waits until nothing arrives any more, and returns how much did.
func (v *victim) settle(h *hostile) (n int64) {
	last := time.Now()
	h.Wait("nothing arrives any more", 10*time.Second, func() error {
		if now := v.octets.Load(); now != n {
			n, last = now, time.Now()
		}
		if time.Since(last) < 200*time.Millisecond {
			return errorf("%d octets", n)
		}
		return nil
	})
	return n
}

// forger returns a function that sends a query to a node's port 53 with any source.
func (h *hostile) forger(t *testing.T, to netip.Addr) func(src netip.Addr, payload []byte) error {
	t.Helper()
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	fd := -1
	if err := inNetns(h.host(attackerHost).ns, func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(src netip.Addr, payload []byte) error {
		if to.Is4() {
			return unix.Sendto(fd, packet4(src, to, payload), 0, &unix.SockaddrInet4{Addr: to.As4()})
		}
		return unix.Sendto(fd, packet6(src, to, payload), 0, &unix.SockaddrInet6{Addr: to.As16()})
	}
}

// datagram is a UDP header (RFC 768), without a checksum, and a payload.
func datagram(payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, victimPort)
	b = binary.BigEndian.AppendUint16(b, 53)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// packet4 has the header of RFC 791; the kernel fills in checksum and identification (raw(7)).
func packet4(src, dst netip.Addr, payload []byte) []byte {
	udp := datagram(payload)
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(udp)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), udp...)
}

// packet6 has the header of RFC 8200 §3, and the checksum that UDP must have there (§8.1).
func packet6(src, dst netip.Addr, payload []byte) []byte {
	udp := datagram(payload)
	pseudo := append(append([]byte(nil), src.AsSlice()...), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(udp)))
	pseudo = append(append(pseudo, 0, 0, 0, unix.IPPROTO_UDP), udp...)
	sum := uint32(0)
	for i := 0; i < len(pseudo); i += 2 {
		if sum += uint32(pseudo[i]) << 8; i+1 < len(pseudo) {
			sum += uint32(pseudo[i+1])
		}
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(udp[6:], max(^uint16(sum), 1))
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(udp)))
	b = append(b, unix.IPPROTO_UDP, 64)
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), udp...)
}
