package xfr

import (
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const origin = "rack1.example.com."

var testKey = Key{Name: "transfer.rack1.example.com.", Algorithm: dns.HmacSHA256, Secret: []byte("0123456789abcdef0123456789abcdef")}

// memory is a zone whose version can be swapped.
type memory struct{ v atomic.Pointer[version] }

func (m *memory) Origin() string { return origin }

func (m *memory) Version() Version {
	if v := m.v.Load(); v != nil {
		return v
	}
	return nil
}

type version struct {
	soa     *dns.SOA
	records []dns.RR
	since   map[uint32][]Delta
}

func (v *version) SOA() *dns.SOA             { return v.soa }
func (v *version) Records() iter.Seq[dns.RR] { return slices.Values(v.records) }
func (v *version) Len() int                  { return len(v.records) + 1 }
func (v *version) Since(s uint32) ([]Delta, bool) {
	d, ok := v.since[s]
	return d, ok
}

func soa(serial uint32) *dns.SOA {
	return record(fmt.Sprintf("%s 30 IN SOA infra0.%s hostmaster.%s %d 14400 3600 1209600 5", origin, origin, origin, serial)).(*dns.SOA)
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// numbered returns n hosts.
func numbered(n int) (out []dns.RR) {
	for i := range n {
		out = append(out, record(fmt.Sprintf("host%06d.%s 30 IN A 10.%d.%d.%d", i, origin, i>>16, i>>8&255, i&255)))
	}
	return out
}

func newZone(serial uint32, records []dns.RR, since map[uint32][]Delta) *memory {
	z := &memory{}
	z.v.Store(&version{soa: soa(serial), records: records, since: since})
	return z
}

// fixture is a server on real sockets.
type fixture struct {
	addr   string // the same for UDP and TCP
	events chan Event
}

// event waits for the end of the one request.
func (f *fixture) event(t *testing.T) Event {
	t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
		return Event{}
	}
}

// serve runs a miekg server, which verifies and signs, in front of a Server with one zone.
func serve(t *testing.T, z Zone, p Policy) *fixture {
	t.Helper()
	f := &fixture{events: make(chan Event, 16)}
	s := NewServer(ServerOptions{Key: testKey, Done: func(e Event) { f.events <- e }})
	secrets := testKey.Secrets()
	secrets["other."] = testKey.Secrets()[testKey.Name]
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		s.Serve(w, r, func(name string) (Offer, bool) { return Offer{Zone: z, Policy: p}, name == origin })
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{Listener: l, Handler: handler, TsigSecret: secrets}, {PacketConn: u, Handler: handler, TsigSecret: secrets}} {
		up := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		ended := make(chan error, 1)
		go func() { ended <- srv.ActivateAndServe() }()
		<-up
		t.Cleanup(func() {
			if err := srv.Shutdown(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	f.addr = l.Addr().String()
	return f
}

// texts writes records down in a comparable form.
func texts(rrs []dns.RR) (out []string) {
	for _, rr := range rrs {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return out
}

func axfr() *dns.Msg { return new(dns.Msg).SetAxfr(origin) }

func ixfr(serial uint32) *dns.Msg {
	return new(dns.Msg).SetIxfr(origin, serial, "infra0."+origin, "hostmaster."+origin)
}

func signed(m *dns.Msg) *dns.Msg {
	return m.SetTsig(testKey.Name, testKey.Algorithm, 300, time.Now().Unix())
}

// receive takes a transfer as a secondary does, each message's TSIG checked.
func receive(t *testing.T, addr string, q *dns.Msg) (messages [][]dns.RR, err error) {
	t.Helper()
	tr := &dns.Transfer{}
	if q.IsTsig() != nil {
		tr.TsigSecret = testKey.Secrets()
	}
	in, err := tr.In(q, addr)
	if err != nil {
		return nil, err
	}
	for e := range in {
		if e.Error != nil {
			return messages, e.Error
		}
		messages = append(messages, e.RR)
	}
	return messages, nil
}
