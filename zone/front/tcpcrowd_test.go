package front

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
)

// When there is no room for a connection, one of the client that has the most goes, whatever that client does with them:
// the good client's, which is the oldest and was told nothing, stays.
func TestTCPCrowd(t *testing.T) {
	const crowd, good, late = 1, 2, 3 // clients
	query := framed(numbered(t, 1, "n0.example.org.", nil))
	keepalive := framed(numbered(t, 1, "n0.example.org.", withOPT(512, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})))
	miss := framed(numbered(t, 2, "example.com.", nil))
	for name, do := range map[string]func(t *testing.T, c net.Conn){
		"nothing":            func(*testing.T, net.Conn) {},
		"half a query":       func(t *testing.T, c net.Conn) { send(t, c, query[:9]) },
		"ask and read":       func(t *testing.T, c net.Conn) { send(t, c, query); receive(t, c) },
		"ask for a promise":  func(t *testing.T, c net.Conn) { send(t, c, keepalive); receive(t, c) },
		"ask and never read": func(t *testing.T, c net.Conn) { send(t, c, query) },
		"ask for long work":  func(t *testing.T, c net.Conn) { send(t, c, miss) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				full := &fakeServer{hold: true}
				srv := newTCP(newTestShared(t), full.missed)
				srv.maxConns = 4
				onPipes(t, srv, func(l *pipeListener) {
					defer full.release()
					first := l.dialFrom(good)
					defer first.Close()
					send(t, first, query)
					receive(t, first)
					synctest.Wait()
					for range srv.maxConns - 1 {
						c := l.dialFrom(crowd)
						defer c.Close()
						do(t, c)
						synctest.Wait()
					}
					second := l.dialFrom(late)
					defer second.Close()
					synctest.Wait()
					for _, c := range []net.Conn{first, second} {
						send(t, c, query)
						receive(t, c)
					}
					if n := srv.len(); n != srv.maxConns {
						t.Errorf("%d connections, want %d", n, srv.maxConns)
					}
				})
			})
		})
	}
}

// A connection that is being answered goes for nobody who has as many.
func TestTCPBusyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &fakeServer{hold: true}
		srv := newTCP(newTestShared(t), full.missed)
		srv.maxConns = 2
		onPipes(t, srv, func(l *pipeListener) {
			var busy []net.Conn
			for client := range byte(2) {
				c := l.dialFrom(client)
				defer c.Close()
				send(t, c, framed(numbered(t, 2, "example.com.", nil)))
				busy = append(busy, c)
				synctest.Wait()
			}
			late := l.dialFrom(3)
			wantClosed(t, late)
			go full.release()
			for _, c := range slices.Backward(busy) { // the last one first, as the full server does
				receive(t, c)
			}
		})
	})
}

// Connections that do not read their answers hold none of the full server's places: another's query gets one.
func TestTCPDeafHoldsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(dns.DefaultMsgAcceptFunc)
		u.set(serverFunc(func(w dns.ResponseWriter, r *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeRefused)) }), nil)
		srv := newTCP(newTestShared(t), u.missed)
		onPipes(t, srv, func(l *pipeListener) {
			burst := numbered(t, 1, "n0.example.org.", nil)
			var all [][]byte
			for range maxPending {
				all = append(all, numbered(t, 2, "example.com.", nil))
			}
			stream := framed(append(all, burst)...)
			var deaf net.Conn
			for range 2 * maxMisses / maxPending {
				deaf = l.dialFrom(1)
				defer deaf.Close()
				send(t, deaf, stream)
				synctest.Wait()
			}
			if n := len(u.tcp.free); n > maxMisses/2 {
				t.Errorf("%d of %d places are held", n, maxMisses)
			}
			c := l.dialFrom(2)
			defer c.Close()
			send(t, c, framed(all[0]))
			if m := receive(t, c); m.Rcode != dns.RcodeRefused {
				t.Error(m)
			}
			for range maxPending + 1 { // it listens after all
				receive(t, deaf)
			}
		})
	})
}

// Answers that wait behind one that is read late all come, in whole.
func TestTCPWaitingAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := padded(t, 9, "example.com.", 20_000) // five of them are more than may wait
		echo := func(packet []byte, _, _ net.Addr, write func([]byte) error, done func()) {
			go func() {
				defer done()
				if err := write(packet); err != nil {
					t.Error(err)
				}
			}()
		}
		srv := newTCP(newTestShared(t), echo)
		onPipes(t, srv, func(l *pipeListener) {
			c := l.dialFrom(1)
			defer c.Close()
			const many = 10
			for range many {
				send(t, c, framed(long))
			}
			for i := range many {
				if m := receive(t, c); m.Id != 9 {
					t.Fatalf("answer %d is %v", i, m)
				}
			}
		})
	})
}
