package zone

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/chaos"
	_ "github.com/coredns/coredns/plugin/nsid"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// underTest is the store that the Corefiles of these tests serve.
var underTest atomic.Pointer[Store]

func TestMain(m *testing.M) {
	plugin.Register("etcdsrv", func(c *caddy.Controller) error {
		for c.Next() {
			if c.NextArg() {
				return plugin.Error("etcdsrv", c.ArgErr())
			}
		}
		h := NewHandler(zonesOf(underTest.Load()), nil)
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			h.Next = next
			return h
		})
		return nil
	})
	if err := dnsserver.SetDirectives([]string{"bind", "nsid", "chaos", "etcdsrv"}); err != nil {
		panic(err)
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	os.Exit(m.Run())
}

// endpointAddr is one listener of a server under test.
type endpointAddr struct{ network, addr string }

// start runs a CoreDNS that serves store on both loopback addresses, and returns its UDP and TCP listeners.
func start(t *testing.T, store *Store) (out []endpointAddr) {
	t.Helper()
	underTest.Store(store)
	hosts := []string{"127.0.0.1"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		hosts = append(hosts, "::1")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Logf("no IPv6 on loopback: %v", err)
	}
	for _, host := range hosts {
		corefile := fmt.Sprintf("rack1.example.org:0 {\n bind %s\n nsid infra0\n chaos\n etcdsrv\n}\n", host)
		inst, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, err := range inst.ShutdownCallbacks() {
				t.Error(err)
			}
			if err := inst.Stop(); err != nil {
				t.Error(err)
			}
			inst.Wait()
		})
		out = append(out, endpointAddr{"udp", inst.Servers()[0].LocalAddr().String()}, endpointAddr{"tcp", inst.Servers()[0].Addr().String()})
	}
	return out
}

func exchange(t testing.TB, at endpointAddr, q *dns.Msg) *dns.Msg {
	t.Helper()
	client := &dns.Client{Net: at.network, Timeout: 5 * time.Second, UDPSize: 1232}
	got, _, err := client.Exchange(q, at.addr)
	if err != nil {
		t.Fatalf("%s %s: %v", at.network, at.addr, err)
	}
	return got
}

func TestOverRealSockets(t *testing.T) {
	store := NewStore()
	store.current.Store(mustCompile(t, dualStack(9), Options{}))
	for _, at := range start(t, store) {
		t.Run(at.network+" "+at.addr, func(t *testing.T) {
			for _, edns := range []bool{false, true} {
				q := new(dns.Msg).SetQuestion(server, dns.TypeSRV)
				if edns {
					q.SetEdns0(4096, true)
				}
				got := exchange(t, at, q)
				if len(got.Answer) != 9 || !got.Authoritative || got.Truncated || got.RecursionAvailable {
					t.Errorf("EDNS %v:\n%v", edns, got)
				}
				if whole := len(got.Extra) >= 18; whole != (edns || at.network == "tcp") {
					t.Errorf("EDNS %v: %d additional records", edns, len(got.Extra))
				}
			}
			got := exchange(t, at, new(dns.Msg).SetQuestion("nosuch."+apex, dns.TypeA))
			if got.Rcode != dns.RcodeNameError || !got.Authoritative || len(got.Ns) != 1 || got.Ns[0].Header().Ttl != soaMinimum {
				t.Errorf("NXDOMAIN:\n%v", got)
			}
			for name, want := range map[string]int{"example.net.": dns.RcodeRefused, apex: dns.RcodeRefused} {
				q := new(dns.Msg).SetQuestion(name, dns.TypeSOA)
				if name == apex {
					q.SetAxfr(apex)
				}
				if got := exchange(t, at, q); got.Rcode != want || got.Authoritative || len(got.Answer) > 0 {
					t.Errorf("%s:\n%v", name, got)
				}
			}
			checkEDNSOverSockets(t, at)
		})
	}
}

func checkEDNSOverSockets(t *testing.T, at endpointAddr) {
	t.Helper()
	// RFC 6891 §6.1.3: BADVERS, without AA. CoreDNS answers it before any plugin.
	q := new(dns.Msg).SetQuestion(apex, dns.TypeNS).SetEdns0(1232, false)
	q.IsEdns0().SetVersion(1)
	if got := exchange(t, at, q); got.Rcode != dns.RcodeBadVers || got.Authoritative {
		t.Errorf("EDNS version 1:\n%v", got)
	}
	q = new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(1232, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	got := exchange(t, at, q)
	opt := got.IsEdns0()
	if opt == nil || opt.UDPSize() != front.MaxUDPSize || !opt.Do() || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_NSID).Nsid != "696e66726130" {
		t.Errorf("OPT %v, want size %d, DO and the NSID", opt, front.MaxUDPSize)
	}
	if got.Truncated || len(got.Answer) != 9 {
		t.Errorf("with NSID:\n%v", got)
	}
	q = new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	q.Question[0].Qclass = dns.ClassCHAOS
	if got := exchange(t, at, q); got.Rcode != dns.RcodeRefused {
		t.Errorf("class CH for a server block of another name:\n%v", got)
	}
}

func TestEmptyStoreOverRealSockets(t *testing.T) {
	for _, at := range start(t, NewStore()) {
		got := exchange(t, at, new(dns.Msg).SetQuestion(server, dns.TypeSRV).SetEdns0(1232, false))
		opt := got.IsEdns0()
		if got.Rcode != dns.RcodeServerFailure || got.Authoritative || opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeNotReady {
			t.Errorf("%s %s:\n%v", at.network, at.addr, got)
		}
	}
}

// TestSwapUnderLoad publishes two zones in turn while clients ask: each answer is one of the two, whole.
func TestSwapUnderLoad(t *testing.T) {
	p, store := newPublisher(t)
	p.serials.file.write = func(string, []byte) error { return nil }
	publish(t, p, dualStack(3))
	listeners := start(t, store)
	ctx, stop := context.WithCancel(t.Context())
	var swaps, asked atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx, below
		for ctx.Err() == nil {
			for _, members := range []int{7, 3} {
				if changed, err := p.Publish(dualStack(members), nil); !changed || err != nil {
					t.Errorf("Publish = %v, %v", changed, err)
				}
				swaps.Add(1)
			}
		}
	})
	var clients sync.WaitGroup
	sizes := make([]atomic.Int64, 8)
	for i, at := range slices.Concat(listeners, listeners) {
		clients.Go(func() {
			for range 150 {
				n, err := askWhole(at, i%2 == 0)
				if err != nil {
					t.Errorf("%s %s: %v", at.network, at.addr, err)
					return
				}
				asked.Add(1)
				sizes[n].Add(1)
			}
		})
	}
	clients.Wait()
	stop()
	wg.Wait()
	if sizes[3].Load() == 0 || sizes[7].Load() == 0 || sizes[3].Load()+sizes[7].Load() != asked.Load() {
		t.Errorf("%d answers of 3 and %d of 7, %d asked, %d swaps", sizes[3].Load(), sizes[7].Load(), asked.Load(), swaps.Load())
	}
}

// askWhole asks for the servers once and returns their number, or what is wrong with the answer.
func askWhole(at endpointAddr, mixed bool) (int, error) {
	name := server
	if mixed {
		name = "_Etcd-Server-SSL._tcp.Rack1.example.org."
	}
	client := &dns.Client{Net: at.network, Timeout: 5 * time.Second, UDPSize: 1232}
	got, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSRV).SetEdns0(1232, false), at.addr)
	if err != nil {
		return 0, err
	}
	n := len(got.Answer)
	if n != 3 && n != 7 {
		return n % 8, fmt.Errorf("%d records, want 3 or 7", n)
	}
	if len(got.Extra) != 2*n+1 {
		return n, fmt.Errorf("%d additional records with %d targets", len(got.Extra), n)
	}
	return n, nil
}
