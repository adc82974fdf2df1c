package gateway

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// nameServer answers on loopback, over UDP and TCP, and returns its address.
func nameServer(t *testing.T, answer func(q dns.Question, tcp bool) *dns.Msg) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_, overTCP := w.RemoteAddr().(*net.TCPAddr)
		if m := answer(q.Question[0], overTCP); m != nil {
			question, rcode := m.Question, m.Rcode
			m.SetReply(q)
			m.Rcode = rcode
			if question != nil {
				m.Question = question
			}
			_ = w.WriteMsg(m)
		}
	})
	for _, s := range []*dns.Server{{Listener: tcp, Handler: handler}, {PacketConn: udp, Handler: handler}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }() // ends with Shutdown
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return tcp.Addr().String()
}

// reply makes a reply from records in master format.
func reply(t *testing.T, rcode int, records ...string) *dns.Msg {
	t.Helper()
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

const (
	tlsService   = "_etcd-client-ssl._tcp.rack1.example.com."
	plainService = "_etcd-client._tcp.rack1.example.com."
)

func TestServices(t *testing.T) {
	for _, c := range []struct {
		domain, name string
		insecure     bool
		want         string
	}{
		{"rack1.example.com", "", false, tlsService},
		{"rack1.example.com.", "", true, tlsService + " " + plainService},
		{"example.com", "foo", true, "_etcd-client-ssl-foo._tcp.example.com. _etcd-client-foo._tcp.example.com."},
	} {
		var got []string
		for _, s := range (&Resolver{}).Services(c.domain, c.name, c.insecure) {
			got = append(got, s.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: %v, want %s", c.domain, c.name, got, c.want)
		}
	}
}

func TestLookup(t *testing.T) {
	srv := func(ttl int, target string) string {
		return fmt.Sprintf("%s %d IN SRV 1 2 2379 %s", tlsService, ttl, target)
	}
	for _, c := range []struct {
		name string
		say  func(q dns.Question, tcp bool) *dns.Msg
		want string // endpoints and TTL, or a part of the error
	}{
		{"members", func(dns.Question, bool) *dns.Msg {
			return reply(t, 0, srv(7, "Infra0.rack1.example.com."), srv(5, "infra1.rack1.example.com."))
		}, "https://infra0.rack1.example.com:2379[192.0.2.1] https://infra1.rack1.example.com:2379[192.0.2.1] 5s"},
		{"an alias", func(dns.Question, bool) *dns.Msg {
			return reply(t, 0, tlsService+" 3 IN CNAME a.example.com.", "a.example.com. 9 IN SRV 0 0 1 b.example.com.")
		}, "https://b.example.com:1[192.0.2.1] 3s"},
		{"a target that does not resolve", func(dns.Question, bool) *dns.Msg { return reply(t, 0, srv(5, "lost.example.com.")) },
			"https://lost.example.com:2379[] 5s"},
		{"NXDOMAIN", func(dns.Question, bool) *dns.Msg {
			return reply(t, dns.RcodeNameError, "rack1.example.com. 4 IN SOA ns.example.com. h.example.com. 1 2 3 4 5")
		}, "4s"},
		{"NODATA without a SOA", func(dns.Question, bool) *dns.Msg { return reply(t, 0) }, "30s"},
		{"not available (RFC 2782)", func(dns.Question, bool) *dns.Msg { return reply(t, 0, srv(5, ".")) }, "5s"},
		{"SERVFAIL", func(dns.Question, bool) *dns.Msg { return reply(t, dns.RcodeServerFailure) }, "SERVFAIL"},
		{"REFUSED", func(dns.Question, bool) *dns.Msg { return reply(t, dns.RcodeRefused) }, "REFUSED"},
		{"another question's answer", func(dns.Question, bool) *dns.Msg {
			m := reply(t, 0, srv(5, "evil.example.com."))
			m.Question = []dns.Question{{Name: "x.example.com.", Qtype: dns.TypeSRV, Qclass: dns.ClassINET}}
			return m
		}, "another question"},
		{"truncated, then over TCP", func(_ dns.Question, tcp bool) *dns.Msg {
			if !tcp {
				return &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}
			}
			return reply(t, 0, srv(5, "infra0.rack1.example.com."))
		}, "https://infra0.rack1.example.com:2379[192.0.2.1] 5s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at := nameServer(t, func(q dns.Question, tcp bool) *dns.Msg {
				switch {
				case q.Qtype == dns.TypeSRV:
					return c.say(q, tcp)
				case q.Qtype == dns.TypeA && !strings.HasPrefix(q.Name, "lost."):
					return reply(t, 0, q.Name+" 30 IN A 192.0.2.1")
				case q.Qtype == dns.TypeAAAA && !strings.HasPrefix(q.Name, "lost."):
					return reply(t, 0)
				}
				return reply(t, dns.RcodeServerFailure)
			})
			a, err := (&Resolver{Servers: []string{at}}).Services("rack1.example.com", "", false)[0].Lookup(t.Context())
			got := fmt.Sprint(err)
			if err == nil {
				got = ""
				for _, e := range a.Endpoints {
					if c.name == "members" && (e.Priority != 1 || e.Weight != 2) {
						t.Errorf("%v", e)
					}
					got += fmt.Sprintf("%s%v ", e.URL(), e.Addrs)
				}
				got += a.TTL.String()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// The next server is asked when one fails or is silent, and a lost packet is not the end.
func TestLookupServers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	broken := nameServer(t, func(dns.Question, bool) *dns.Msg { asked.Add(1); return reply(t, dns.RcodeServerFailure) })
	second := nameServer(t, func(q dns.Question, _ bool) *dns.Msg {
		if q.Qtype == dns.TypeSRV && asked.Add(1) < 4 {
			return nil
		}
		return reply(t, 0, q.Name+" 5 IN SRV 0 0 2379 10.example.com.")
	})
	r := &Resolver{Servers: []string{broken, second}}
	start := time.Now()
	a, err := r.srv(t.Context(), "https", tlsService)
	if err != nil || len(a.Endpoints) != 1 || asked.Load() != 4 {
		t.Errorf("%v, %v after %v and %d questions, want one endpoint at the fourth", a, err, time.Since(start), asked.Load())
	}
}

// The addresses come while the first name servers are silent, from the start on, and those of new members while one falls silent that
// answered. A server that does not answer is asked no more once another one did.
func TestLookupSilent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	hosts, asked, silent := []string{"a", "b"}, [3]int{}, [3]bool{true, true, false}
	r := &Resolver{}
	for i := range silent {
		r.Servers = append(r.Servers, nameServer(t, func(q dns.Question, _ bool) *dns.Msg {
			mu.Lock()
			defer mu.Unlock()
			asked[i]++
			switch {
			case silent[i]:
				return nil
			case q.Qtype == dns.TypeA:
				return reply(t, 0, q.Name+" 1 IN A 192.0.2.1")
			case q.Qtype != dns.TypeSRV:
				return reply(t, 0)
			}
			var records []string
			for _, h := range hosts {
				records = append(records, tlsService+" 1 IN SRV 0 0 2379 "+h+".example.com.")
			}
			return reply(t, 0, records...)
		}))
	}
	f := NewFollower(zap.NewNop(), nil, r.Services("rack1.example.com", "", false)...)
	var run sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	run.Go(func() { _ = f.Run(ctx) })
	defer run.Wait()
	defer cancel()
	known := func(want int) {
		eventually(t, fmt.Sprintf("%d members with addresses", want), func() bool {
			set, _ := f.Set()
			return len(set) == want && !slices.ContainsFunc(set, func(e Endpoint) bool { return !e.Known() })
		})
	}
	known(2)
	mu.Lock()
	if asked[0] > 3 || asked[1] > 3 { // one each, if the busy machine loses none of the third one's answers
		t.Errorf("the silent servers were asked %d and %d of five questions, want one each", asked[0], asked[1])
	}
	hosts, silent = append(hosts, "c"), [3]bool{false, true, true}
	mu.Unlock()
	known(3)
}

// A server's failure for one name is asked for once at each server, and again as often as there are rounds; it is not multiplied by Go's
// own attempts. The names of /etc/hosts need no server.
func TestLookupAddresses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	at := nameServer(t, func(dns.Question, bool) *dns.Msg { asked.Add(1); return reply(t, dns.RcodeServerFailure) })
	r := &Resolver{Servers: []string{at}}
	a, err := r.Given([]Endpoint{{Host: "lost.example.com.", Port: 1}, {Host: "localhost", Port: 1}, {Host: "192.0.2.7", Port: 1}}).Lookup(t.Context())
	if err != nil || a.Endpoints[0].Known() || !a.Endpoints[1].Known() || len(a.Endpoints[2].Addrs) != 1 {
		t.Errorf("%v, %v, want addresses of all but the first", a.Endpoints, err)
	}
	if n := asked.Load(); n != 2*rounds {
		t.Errorf("%d questions, want %d for A and as many for AAAA", n, rounds)
	}
}

func TestParseEndpoint(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"infra0:2379", "http://infra0:2379"},
		{"https://infra0.example.com:2379", "https://infra0.example.com:2379"},
		{"http://10.0.1.10:2379/", "http://10.0.1.10:2379"},
		{"[fd00::1]:2379", "http://[fd00::1]:2379"},
		{"https://[fd00::1]:2379", "https://[fd00::1]:2379"},
		{"infra0", ""}, {"", ""}, {":2379", ""}, {"infra0:0", ""}, {"infra0:65536", ""}, {"infra0:http", ""},
		{"https://infra0", ""}, {"unix://sock:1", ""}, {"https://infra0:1/path", ""}, {"https://:1", ""}, {"a:1,b:1", ""},
	} {
		e, err := ParseEndpoint(c.text)
		if got := e.URL(); (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%q: %s, %v, want %q", c.text, got, err, c.want)
		}
	}
}

// Whatever is taken has a name that is taken again, and means the same.
func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"infra0:2379", "https://[fd00::1]:2379", "http://a:1/", "a:b:c", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text)
		if err != nil {
			return
		}
		again, err := ParseEndpoint(e.Name())
		if err != nil || again.Host != e.Host || again.Port != e.Port {
			t.Errorf("%q is %v, whose name %q is %v, %v", text, e, e.Name(), again, err)
		}
	})
}

// Whatever a name server says, an answer has usable endpoints and a TTL within bounds.
func FuzzEndpoints(f *testing.F) {
	for _, text := range []string{tlsService + " 5 IN SRV 0 0 2379 infra0.rack1.example.com.", tlsService + " 5 IN SRV 0 0 0 .", "a. 1 IN SOA a. a. 1 2 3 4 5"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		wire, err := (&dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: []dns.RR{rr}}).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		a := endpoints("https", m)
		if a.TTL < 0 || a.TTL > maxInterval {
			t.Errorf("TTL %v", a.TTL)
		}
		for _, e := range a.Endpoints {
			if e.Host == "" || e.Port == 0 || e.Host != strings.ToLower(e.Host) {
				t.Errorf("endpoint %+v", e)
			}
		}
	})
}
