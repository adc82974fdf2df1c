//go:build linux

package lab

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// deaf are clients that ask a lot and never read, of the zone and of what CoreDNS answers, from as many addresses as are
// needed for each connection that the node takes; then they come again and again.
func (h *hostile) deaf(t *testing.T) {
	var burst []byte
	for range 16 { // as many as one connection may have at CoreDNS
		burst = append(burst, framedQuery(t, new(dns.Msg).SetQuestion("example.net.", dns.TypeA))...)
	}
	burst = append(burst, bytes.Repeat(framedQuery(t, new(dns.Msg).SetQuestion("bulk7."+h.Domain+".", dns.TypeTXT).SetEdns0(4096, true)), 200)...)
	m := h.mob(53)
	defer m.leave()
	for end := time.Now().Add(6 * time.Second); m.made < 5000 && time.Now().Before(end); {
		m.connect(t, 250, crowd(40), func(_, fd int) { say(fd, burst) })
		for _, fd := range m.held {
			say(fd, burst)
		}
	}
	t.Logf("%d connections that do not read, %d not made", m.made, m.failed)
}

// slow are clients that send an octet now and then, a length and nothing more, half of what they have to say, a query
// and the end of their half, or garbage.
func (h *hostile) slow(t *testing.T) {
	query := framedQuery(t, new(dns.Msg).SetQuestion(h.service("server")+".", dns.TypeSRV))
	random := rand.NewChaCha8([32]byte{})
	m := h.mob(53)
	defer m.leave()
	m.connect(t, 1200, crowd(30), func(i, fd int) {
		switch i % 6 {
		case 0: // slowloris: see below
		case 1:
			say(fd, []byte{0xff, 0xff})
		case 2:
			say(fd, query[:len(query)-1-i%20])
		case 3:
			say(fd, query)
			_ = unix.Shutdown(fd, unix.SHUT_WR)
		case 4:
			_ = unix.Shutdown(fd, unix.SHUT_WR)
		case 5:
			b := make([]byte, 4000)
			_, _ = random.Read(b)
			say(fd, b)
		}
	})
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	for n := range 5 {
		for i := 0; i < len(m.held); i += 6 {
			say(m.held[i], query[n:n+1])
		}
		<-pace.C
	}
	t.Logf("%d slow connections, %d not made", m.made, m.failed)
}

// resets are clients that ask and end the connection with a reset.
func (h *hostile) resets(t *testing.T) {
	query := framedQuery(t, new(dns.Msg).SetQuestion(h.service("server")+".", dns.TypeSRV))
	miss := framedQuery(t, new(dns.Msg).SetQuestion("example.net.", dns.TypeA))
	signed := framedQuery(t, new(dns.Msg).SetAxfr(h.Domain+"."))
	m := h.mob(53)
	defer m.leave()
	m.connect(t, 4000, crowd(30), func(i, fd int) {
		switch i % 5 {
		case 0:
			say(fd, query)
		case 1:
			say(fd, query[:7])
		case 2:
			say(fd, bytes.Repeat(miss, 16))
		case 3:
			say(fd, signed)
		}
		m.reset(fd)
	})
	t.Logf("%d connections reset, %d not made", m.made, m.failed)
}

// idle are ten thousand connections from many addresses that only stand: first as many as a node takes, after a query with a
// keepalive option, for which the node promises to keep them; then others come, of which most say nothing.
func (h *hostile) idle(t *testing.T) {
	keepalive := new(dns.Msg).SetQuestion(h.service("server")+".", dns.TypeSRV).SetEdns0(1232, false)
	keepalive.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}}
	ask := framedQuery(t, keepalive)
	m := h.mob(53)
	defer m.leave()
	m.connect(t, 10_000, crowd(200), func(i, fd int) {
		if i < 1100 || i%8 == 0 {
			say(fd, ask)
		}
	})
	t.Logf("%d idle connections from 200 addresses, %d not made", m.made, m.failed)
}
