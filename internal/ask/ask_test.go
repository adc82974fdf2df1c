package ask

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve answers over UDP and TCP at one port of loopback until the test ends. n counts the queries of a network.
func serve(t *testing.T, handle func(network string, n int, q *dns.Msg) *dns.Msg) Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for network, s := range map[string]*dns.Server{"tcp": {Listener: l}, "udp": {PacketConn: p}} {
		var n atomic.Int32
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			if reply := handle(network, int(n.Add(1)), q); reply != nil {
				_ = w.WriteMsg(reply)
			}
		})
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return Server{At: l.Addr().String(), Timeout: 5 * time.Second}
}

func TestAsk(t *testing.T) {
	ok := func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) }
	cut := func(q *dns.Msg) *dns.Msg { m := ok(q); m.Truncated = true; return m }
	for name, row := range map[string]struct {
		server Server // Tries and TCP
		handle func(network string, n int, q *dns.Msg) *dns.Msg
		udp    int32 // queries
		tcp    int32
		fails  bool
	}{
		"answered":         {handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { return ok(q) }, udp: 1},
		"refused":          {handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }, udp: 1},
		"case of the name": {handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { m := ok(q); m.Question[0].Name = "EXAMPLE.ORG."; return m }, udp: 1},
		"cut off": {udp: 1, tcp: 1, handle: func(network string, _ int, q *dns.Msg) *dns.Msg {
			if network == "udp" {
				return cut(q)
			}
			return ok(q)
		}},
		"TCP at once":  {server: Server{TCP: true}, tcp: 1, handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { return ok(q) }},
		"another name": {server: Server{Tries: 2}, udp: 2, fails: true, handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { m := ok(q); m.Question[0].Name = "example.net."; return m }},
		"another type": {udp: 1, fails: true, handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { m := ok(q); m.Question[0].Qtype = dns.TypeA; return m }},
		"no question":  {udp: 1, fails: true, handle: func(_ string, _ int, q *dns.Msg) *dns.Msg { m := ok(q); m.Question = nil; return m }},
		"right at the third": {server: Server{Tries: 3}, udp: 3, handle: func(_ string, n int, q *dns.Msg) *dns.Msg {
			m := ok(q)
			if n < 3 {
				m.Question = nil
			}
			return m
		}},
		"cut off, then garbage over TCP": {server: Server{Tries: 3}, udp: 1, tcp: 1, fails: true, handle: func(network string, _ int, q *dns.Msg) *dns.Msg {
			m := cut(q)
			if network == "tcp" {
				m.Question = nil
			}
			return m
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var udp, tcp atomic.Int32
			s := serve(t, func(network string, n int, q *dns.Msg) *dns.Msg {
				if network == "udp" {
					udp.Add(1)
				} else {
					tcp.Add(1)
				}
				return row.handle(network, n, q)
			})
			s.Tries, s.TCP = row.server.Tries, row.server.TCP
			reply, err := s.Ask(t.Context(), new(dns.Msg).SetQuestion("example.org.", dns.TypeSOA))
			if (err != nil) != row.fails || (reply == nil) != row.fails {
				t.Errorf("answer %v, error %v", reply, err)
			}
			if udp.Load() != row.udp || tcp.Load() != row.tcp {
				t.Errorf("%d queries over UDP and %d over TCP, want %d and %d", udp.Load(), tcp.Load(), row.udp, row.tcp)
			}
		})
	}
}

// A lost datagram is asked for again, and not for ever.
func TestLost(t *testing.T) {
	for tries, fails := range map[int]bool{1: true, 2: false} {
		s := serve(t, func(_ string, n int, q *dns.Msg) *dns.Msg {
			if n == 1 {
				return nil
			}
			return new(dns.Msg).SetReply(q)
		})
		s.Timeout, s.Tries = 100*time.Millisecond, tries
		if tries > 1 {
			s.Timeout = time.Second // a busy machine must not lose the second one
		}
		if _, err := s.Ask(t.Context(), new(dns.Msg).SetQuestion("example.org.", dns.TypeSOA)); (err != nil) != fails {
			t.Errorf("%d tries: %v", tries, err)
		}
	}
}
