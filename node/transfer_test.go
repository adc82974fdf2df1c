package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

const testDomain = "rack1.example.org."

var bundleKey = xfr.Key{Name: "transfer." + testDomain, Algorithm: dns.HmacSHA256, Secret: []byte("0123456789abcdef0123456789abcdef")}

// testServer is the one nameServer of this process: CoreDNS keeps its plugins in package variables.
var testServer struct {
	sync.Once
	nameServer
	store *zone.Store
	text  string
	opts  Options
	pub   *zone.Publisher
}

// publishTest publishes a zone with so many born members; 0 for one whose cluster is not known.
func publishTest(t *testing.T, p *zone.Publisher, members int) {
	t.Helper()
	r := roster.Roster{Domain: testDomain, Clusters: []roster.Cluster{{}}}
	for i := range max(members, 1) {
		name := "infra" + string(rune('0'+i))
		r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: i, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)})}})
		r.NameServers = append(r.NameServers, roster.NameServer{Name: name + "." + testDomain})
		if members > 0 {
			r.Clusters[0].Knowledge = roster.Born
			r.Clusters[0].Members = append(r.Clusters[0].Members, roster.Member{Node: name, PeerHost: name, PeerPort: 2380, ClientPort: 2379, Serving: true})
		}
	}
	if _, err := p.Publish(r, nil); err != nil {
		t.Fatal(err)
	}
}

// startCoreDNS serves the Corefile on the zone of three members, and returns the addresses of its doors by network.
func startCoreDNS(t *testing.T, corefile string) map[string]string {
	t.Helper()
	s := &testServer
	s.text, s.opts = corefile, Options{}
	s.Do(func() {
		s.store, s.zones = zone.NewStore(), &zone.Zones{}
		s.zones.Set(s.store)
		s.pub = zone.NewPublisher(s.store, zone.Options{}, zone.NewSerials(filepath.Join(t.TempDir(), "serial"), 1, time.Now))
		s.log, s.identity = zap.NewNop(), dnsserver.NewTLSConfigIdentity()
		s.transfers = newTransfers(s.log, bundleKey, func() *Options { return &s.opts }, func() []netip.Addr { return nil }, s.zones.Transferable)
		s.check, s.refused, s.apply = func(*Options) error { return nil }, func(error) {}, func(*Options) {}
		s.addrs = func() []netip.Addr { return nil }
		s.fronts = newFronts(s.log, s.zones, make([]byte, 16), nil, func() front.Settings { return front.Settings{} })
		s.certificate = selfSigned(t)
		s.read = func() (string, []byte, error) { return "Corefile", []byte(s.text), nil }
		publishTest(t, s.pub, 3)
		if err := s.register(); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopCoreDNS(t) })
	out := map[string]string{}
	for _, l := range s.instance().Servers() {
		if l.LocalAddr() != nil {
			out["udp"], out["tcp"] = l.LocalAddr().String(), l.Addr().String()
		} else {
			out["tcp-tls"] = l.Addr().String()
		}
	}
	return out
}

func stopCoreDNS(t *testing.T) {
	t.Helper()
	s := &testServer
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	s.inst = nil
	s.mu.Unlock()
}

func selfSigned(t *testing.T) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
}

func testClient(network string) *dns.Client {
	return &dns.Client{Net: network, TsigSecret: bundleKey.Secrets(), Timeout: 5 * time.Second, TLSConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own server
}

func withKey(m *dns.Msg) *dns.Msg {
	return m.SetTsig(bundleKey.Name, bundleKey.Algorithm, 300, time.Now().Unix())
}

// allTransfer takes the zone as a secondary does.
func allTransfer(network, addr string, q *dns.Msg) (out []string, err error) {
	c := testClient(network)
	conn, err := c.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: conn.Conn}}
	if q.IsTsig() != nil {
		tr.TsigSecret = bundleKey.Secrets()
	}
	in, err := tr.In(q, "")
	if err != nil {
		return nil, err
	}
	for e := range in {
		if e.Error != nil {
			return out, e.Error
		}
		for _, rr := range e.RR {
			out = append(out, rr.String())
		}
	}
	return out, nil
}

const doors = `rack1.example.org:0 {
    bind 127.0.0.1
    transfer {
        to 127.0.0.0/8
    }
    etcdsrv
}
tls://rack1.example.org:0 {
    bind 127.0.0.1
    transfer {
        to 127.0.0.1
    }
    etcdsrv
}
`

// zoneText is the zone as it is transferred.
func zoneText(t *testing.T) (out []string) {
	t.Helper()
	v := testServer.store.Version()
	out = append(out, v.SOA().String())
	for rr := range v.Records() {
		out = append(out, rr.String())
	}
	return append(out, v.SOA().String())
}

// Through every door: transfers with the key, and answers of all kinds signed if the query was; UPDATE and NOTIFY are answered.
func TestTransferThroughEveryDoor(t *testing.T) {
	at := startCoreDNS(t, doors)
	if len(at) != 3 {
		t.Fatalf("doors %v, want UDP, TCP and TLS", at)
	}
	for network, addr := range at {
		t.Run(network, func(t *testing.T) {
			if network != "udp" {
				got, err := allTransfer(network, addr, withKey(new(dns.Msg).SetAxfr(testDomain)))
				if diff := cmp.Diff(zoneText(t), got); err != nil || diff != "" {
					t.Errorf("AXFR: %v (-want +got):\n%s", err, diff)
				}
			}
			update := new(dns.Msg).SetUpdate(testDomain)
			update.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "a." + testDomain, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{1, 2, 3, 4}},
				&dns.A{Hdr: dns.RR_Header{Name: "b." + testDomain, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{1, 2, 3, 4}}})
			for _, c := range []struct {
				name  string
				q     *dns.Msg
				rcode int
				aa    bool
			}{
				{"SOA", new(dns.Msg).SetQuestion(testDomain, dns.TypeSOA), dns.RcodeSuccess, true},
				{"SRV with EDNS", new(dns.Msg).SetQuestion("_etcd-client-ssl._tcp."+testDomain, dns.TypeSRV).SetEdns0(1232, true), dns.RcodeSuccess, true},
				{"NXDOMAIN", new(dns.Msg).SetQuestion("nosuch."+testDomain, dns.TypeA), dns.RcodeNameError, true},
				{"UPDATE", update, dns.RcodeRefused, false},
				{"NOTIFY", new(dns.Msg).SetNotify(testDomain), dns.RcodeNotAuth, false},
				{"AXFR below the apex", new(dns.Msg).SetAxfr("infra0." + testDomain), map[bool]int{true: dns.RcodeRefused, false: dns.RcodeNotAuth}[network == "udp"], false},
				{"IXFR of our serial", new(dns.Msg).SetIxfr(testDomain, testServer.store.Load().Serial(), ".", "."), dns.RcodeSuccess, true},
			} {
				for _, keyed := range []bool{false, true} {
					q := c.q.Copy()
					want := c.rcode
					if keyed {
						q = withKey(q)
					} else if q.Question[0].Qtype == dns.TypeIXFR {
						want = dns.RcodeRefused
					}
					edns := q.IsEdns0() != nil
					got, _, err := testClient(network).Exchange(q, addr)
					if got == nil || err != nil && got.Rcode != dns.RcodeNotAuth { // of a NOTAUTH miekg checks no TSIG
						t.Errorf("%s, signed %v: %v", c.name, keyed, err)
						continue
					}
					if got.Rcode != want || got.Authoritative != (c.aa && want == c.rcode) || (got.IsTsig() != nil) != keyed || (got.IsEdns0() != nil) != edns {
						t.Errorf("%s, signed %v, want %s:\n%v", c.name, keyed, dns.RcodeToString[want], got)
					}
				}
			}
			q := new(dns.Msg).SetQuestion(testDomain, dns.TypeSOA).SetTsig("nobody.", dns.HmacSHA256, 300, time.Now().Unix())
			c := testClient(network)
			c.TsigSecret["nobody."] = "bm9ib2R5"
			got, _, _ := c.Exchange(q, addr) // miekg reports NOTAUTH as an error
			if got == nil || got.Rcode != dns.RcodeNotAuth || len(got.Answer) > 0 || got.IsTsig() == nil || got.IsTsig().Error != dns.RcodeBadKey {
				t.Errorf("an unknown key:\n%v", got)
			}
		})
	}
}

// The policy of a block: addresses, the word for no TSIG, a zone that is not ready; and CoreDNS's plugin tsig in front.
func TestTransferPolicies(t *testing.T) {
	axfr := func() *dns.Msg { return new(dns.Msg).SetAxfr(testDomain) }
	block := func(lines ...string) string {
		return "rack1.example.org:0 {\n bind 127.0.0.1\n " + strings.Join(lines, "\n ") + "\n etcdsrv\n}\n"
	}
	for _, c := range []struct {
		name, corefile string
		insecure       bool
		q              *dns.Msg
		err            string
	}{
		{"no TSIG", block("transfer {", "to *", "}"), false, axfr(), "bad xfr rcode: 5"},
		{"transfer_insecure", block("transfer {", "to *", "}"), true, axfr(), ""},
		{"transfer_insecure from elsewhere", block("transfer {", "to 192.0.2.1 10.0.0.0/8", "}"), true, axfr(), "bad xfr rcode: 5"},
		{"no transfer block", block(), true, axfr(), "bad xfr rcode: 5"},
		{"a block for another zone", block("transfer example.net {", "to *", "}"), true, axfr(), "bad xfr rcode: 5"},
		{"the longest zone counts", block("transfer . {", "to *", "}", "transfer rack1.example.org {", "to 192.0.2.1", "}"), true, axfr(), "bad xfr rcode: 5"},
		{"plugin tsig, signed", block("tsig {", "secret other. b3RoZXItc2VjcmV0", "require all", "}", "transfer {", "to *", "}"), false, withKey(axfr()), ""},
		{"plugin tsig, unsigned", block("tsig {", "secret other. b3RoZXItc2VjcmV0", "}", "transfer {", "to *", "}"), false, axfr(), "bad xfr rcode: 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := startCoreDNS(t, c.corefile)
			testServer.opts.TransferInsecure = c.insecure
			got, err := allTransfer("tcp", at["tcp"], c.q)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || len(got) > 0):
				t.Errorf("%v, %d records, want %s", err, len(got), c.err)
			case c.err == "" && (err != nil || !slices.Equal(got, zoneText(t))):
				t.Errorf("%v, %q", err, got)
			}
		})
	}
	t.Run("clashing key", func(t *testing.T) {
		s := &testServer
		s.text = block("tsig {", "secret "+bundleKey.Name+" b3RoZXItc2VjcmV0", "}")
		if err := s.start(); err == nil || !strings.Contains(err.Error(), bundleKey.Name) {
			t.Errorf("a tsig block with another secret for the bundle's key: %v", err)
		}
	})
}
