package front

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// maxMisses is how many misses of one transport the full server works on at a time. CoreDNS answers one in some 20
// microseconds, so a single CPU works that many off in 5 ms; more would only wait.
const maxMisses = 256

// upstream is the way to the full server.
type upstream struct {
	accept dns.MsgAcceptFunc
	live   atomic.Pointer[live]
	// ready is closed with the first server, stopped by stop.
	ready, stopped chan struct{}
	once           sync.Once
	// udp and tcp are apart so that slow transfers leave room for queries.
	udp, tcp slots
}

// live is the server that answers now, with its TSIG secrets.
type live struct {
	server Server
	keys   tsigKeys
}

// slots bound how many misses are worked on.
type slots struct {
	free chan struct{}
	shed atomic.Uint64
	busy sync.WaitGroup
}

func newUpstream(accept dns.MsgAcceptFunc) *upstream {
	u := &upstream{accept: accept, ready: make(chan struct{}), stopped: make(chan struct{})}
	u.udp.free, u.tcp.free = make(chan struct{}, maxMisses), make(chan struct{}, maxMisses)
	return u
}

func (u *upstream) set(s Server, secrets map[string]string) {
	u.live.Store(&live{server: s, keys: secrets})
	u.once.Do(func() { close(u.ready) })
}

// acquire takes a slot, or counts a query that is shed.
func (s *slots) acquire() bool {
	select {
	case s.free <- struct{}{}:
		s.busy.Add(1)
		return true
	default:
		s.shed.Add(1)
		return false
	}
}

func (s *slots) release() {
	<-s.free
	s.busy.Done()
}

// idle waits for the misses over UDP. No reader runs then.
func (u *upstream) idle() { u.udp.busy.Wait() }

// stop ends the wait for a first server.
func (u *upstream) stop() { close(u.stopped) }

// missed is the missFunc of TCP.
func (u *upstream) missed(packet []byte, local, remote net.Addr, write func(msg []byte) error, done func()) {
	if !u.tcp.acquire() {
		// Over TCP nobody asks again soon: a client waits for an answer or for the end of the connection (RFC 7766 §6.2.4).
		w := &exchangeWriter{packet: packet, local: local, remote: remote, send: write}
		r := new(dns.Msg)
		if err := r.Unpack(packet); err != nil && len(packet) >= headerLen {
			r = bare(packet)
		}
		if !r.Response {
			w.refuse(r, dns.RcodeServerFailure)
		}
		done()
		return
	}
	u.start(&u.tcp, &exchangeWriter{packet: packet, local: local, remote: remote, send: write, done: done})
}

// start answers a miss in a goroutine of its own, which ends with the full server's answer and gives the slot back.
func (u *upstream) start(s *slots, w *exchangeWriter) {
	go func() {
		defer s.release()
		if w.done != nil {
			defer w.done()
		}
		select {
		case <-u.ready:
		case <-u.stopped:
		}
		l := u.live.Load()
		if l == nil {
			return // the front ends before there was a server
		}
		w.keys = l.keys
		u.serve(l.server, w)
	}()
}

// serve checks a query and has the full server answer it, as dns.Server does. The header is judged before the rest is
// read, so that counts in it cannot make a small packet a large message.
func (u *upstream) serve(s Server, w *exchangeWriter) {
	if len(w.packet) < headerLen {
		return
	}
	r := new(dns.Msg)
	switch action := u.accept(headerOf(w.packet)); action {
	case dns.MsgIgnore:
		return
	case dns.MsgAccept:
		// miekg/dns takes a header alone for a message without sections, whatever its counts say.
		if err := r.Unpack(w.packet); err != nil || len(r.Question) != 1 {
			w.refuse(r, dns.RcodeFormatError)
			return
		}
		if opt := r.IsEdns0(); opt != nil && opt.Version() != 0 {
			// RFC 6891 §6.1.3: BADVERS, with the version that this server has. CoreDNS's own has no DO bit (RFC 8906 §8.2.9).
			w.refuse(r, dns.RcodeBadVers)
			return
		}
	case dns.MsgRejectNotImplemented:
		w.refuse(bare(w.packet), dns.RcodeNotImplemented)
		return
	default:
		w.refuse(bare(w.packet), dns.RcodeFormatError)
		return
	}
	w.verify(r)
	s.ServeDNS(context.Background(), w, r)
}

// headerOf reads a packet's header.
func headerOf(b []byte) dns.Header {
	at := func(i int) uint16 { return uint16(b[i])<<8 | uint16(b[i+1]) }
	return dns.Header{Id: at(0), Bits: at(2), Qdcount: at(4), Ancount: at(6), Nscount: at(8), Arcount: at(10)}
}

// bare returns the message of a packet's header alone.
func bare(packet []byte) *dns.Msg {
	var b [headerLen]byte
	copy(b[:4], packet)
	m := new(dns.Msg)
	_ = m.Unpack(b[:]) // a header without counts always unpacks
	return m
}
