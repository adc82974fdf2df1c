package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
)

const hotName = "hot.rack1.example.com."

// hotZone answers for hotName alone, with 192.0.2.1; CoreDNS has no zone and answers SERVFAIL for it.
type hotZone struct{}

func (hotZone) Answer(q *front.Question, msg []byte, n, limit int) front.Result {
	if string(q.Name) != "\x03hot\x05rack1\x07example\x03com\x00" || n+16 > limit {
		return front.Result{}
	}
	msg[2] |= 4
	binary.BigEndian.PutUint16(msg[6:], 1)
	return front.Result{Len: n + copy(msg[n:], "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\xc0\x00\x02\x01"), Owner: 1}
}

// serverUnderTest is a CoreDNS with fast paths and a Corefile that tests change.
type serverUnderTest struct {
	*nameServer
	t    *testing.T
	port uint16
	text atomic.Pointer[string]
}

// alone says that this process is there for one test.
const alone = "ETCD_DNS_TEST_ALONE"

// inOwnProcess reports whether the test goes on here. CoreDNS keeps its registry in package variables, so that a
// process has one server; this test's is one in a process of its own, which has ended when the answer is no.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), alone+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func startServer(t *testing.T) *serverUnderTest {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t, goleak.IgnoreCurrent()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &serverUnderTest{t: t, port: uint16(l.Addr().(*net.TCPAddr).Port)}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	zones := new(zone.Zones)
	zones.Set(zone.NewStore())
	s.nameServer = &nameServer{log: zap.NewNop(), zones: zones, identity: dnsserver.NewTLSConfigIdentity(),
		check: func(*Options) error { return nil }, refused: func(error) {}, apply: func(*Options) {},
		certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }, addrs: func() []netip.Addr { return nil },
		read:   func() (string, []byte, error) { return "/etc/etcd-dns/Corefile", []byte(*s.text.Load()), nil },
		fronts: newFronts(zap.NewNop(), hotZone{}, make([]byte, 16), nil, func() front.Settings { return front.Settings{} })}
	s.transfers = newTransfers(s.log, bundleKey, func() *Options { return &Options{} }, func() []netip.Addr { return nil }, zones.Transferable)
	if err := s.register(); err != nil {
		t.Fatal(err)
	}
	s.write("bind 127.0.0.1")
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	s.settled()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.fronts.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		s.instance().Wait()
	})
	return s
}

// write makes a Corefile whose block has lines.
func (s *serverUnderTest) write(lines ...string) {
	text := fmt.Sprintf("rack1.example.com:%d {\n%s\netcdsrv {\n node infra0 127.0.0.1\n}\n}\n", s.port, strings.Join(lines, "\n"))
	s.text.Store(&text)
}

func (s *serverUnderTest) mustReload(lines ...string) {
	s.t.Helper()
	s.write(lines...)
	if err := s.reload(); err != nil {
		s.t.Fatal(err)
	}
	s.settled()
}

// settled waits until CoreDNS serves on all its sockets: a server that is stopped before never ends (its Stop skips
// what has not begun).
func (s *serverUnderTest) settled() {
	s.t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		text := string(stacks[:runtime.Stack(stacks, true)])
		n := len(s.fronts.status())
		if strings.Count(text, "dns.(*Server).serveTCP(") == n && strings.Count(text, "dns.(*Server).serveUDP(") == n {
			return
		}
	}
	s.t.Fatal("CoreDNS does not serve on all its sockets")
}

// ask asks for hotName; network is udp or tcp.
func (s *serverUnderTest) ask(network, address string, q *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: network, Timeout: 5 * time.Second, TsigSecret: tsigSecrets}
	r, _, err := c.Exchange(q, net.JoinHostPort(address, fmt.Sprint(s.port)))
	return r, err
}

// await asks until the fast path answers, or CoreDNS does.
func (s *serverUnderTest) await(network, address string, fast bool) {
	s.t.Helper()
	var r *dns.Msg
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		r, err = s.ask(network, address, new(dns.Msg).SetQuestion(hotName, dns.TypeA))
		if err == nil && (r.Rcode == dns.RcodeSuccess) == fast {
			return
		}
	}
	s.t.Fatalf("%s %s: fast path %v wanted, got %v\n%v", network, address, fast, err, r)
}

func (s *serverUnderTest) state() string {
	var out []string
	for _, f := range s.fronts.status() {
		at, _ := netip.ParseAddrPort(f.Address)
		out = append(out, strings.TrimSpace(at.Addr().String()+" "+f.State+" "+f.Why))
	}
	return strings.Join(out, ", ")
}

const keyName = "key.rack1.example.com."

var tsigSecrets = map[string]string{keyName: "c2VjcmV0IG9mIHRoZSB0ZXN0"}

// One CoreDNS with its fast paths through a life of reloads.
func TestFronts(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	s := startServer(t)
	for _, network := range []string{"udp", "tcp"} {
		s.await(network, "127.0.0.1", true)
	}
	t.Run("reload under load", func(t *testing.T) { reloadUnderLoad(t, s) })
	t.Run("new address", func(t *testing.T) {
		s.mustReload("bind 127.0.0.1 127.0.0.2")
		s.await("udp", "127.0.0.2", true)
		s.await("tcp", "127.0.0.2", true)
		s.mustReload("bind 127.0.0.2")
		if got := s.state(); got != "127.0.0.2 serving" {
			t.Errorf("doors %q after 127.0.0.1 left", got)
		}
		s.mustReload("bind 127.0.0.1")
		s.await("udp", "127.0.0.1", true)
	})
	t.Run("failed reload", func(t *testing.T) {
		s.write("bind 127.0.0.1 127.0.0.3 192.0.2.77") // nobody has the last one
		if err := s.reload(); err == nil {
			t.Error("a reload that cannot bind is taken")
		}
		s.await("udp", "127.0.0.1", true)
		if got := s.state(); got != "127.0.0.1 serving" {
			t.Errorf("doors %q, want those of before", got)
		}
	})
	t.Run("bypass", func(t *testing.T) {
		s.mustReload("bind 127.0.0.1", "acl {\n allow net 127.0.0.0/8\n}")
		s.await("udp", "127.0.0.1", false)
		s.await("tcp", "127.0.0.1", false)
		if got := s.state(); got != "127.0.0.1 bypassed plugin acl" {
			t.Errorf("doors %q", got)
		}
		s.mustReload("bind 127.0.0.1")
		s.await("udp", "127.0.0.1", true)
	})
	t.Run("TSIG", func(t *testing.T) { tsigThroughFront(t, s) })
	t.Run("metrics", func(t *testing.T) { frontCounts(t, s) })
}

// A reload loses no query.
func reloadUnderLoad(t *testing.T, s *serverUnderTest) {
	halt := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-halt:
					return
				default:
				}
				for _, name := range []string{hotName, "miss.example.net."} {
					if _, err := s.ask("udp", "127.0.0.1", new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for i := range 5 {
		s.mustReload("bind 127.0.0.1", fmt.Sprintf("nsid n%d", i))
	}
	close(halt)
	clients.Wait()
	s.await("udp", "127.0.0.1", true)
}

// Signed queries come to CoreDNS through the front with the status that they earn.
func tsigThroughFront(t *testing.T, s *serverUnderTest) {
	s.mustReload("bind 127.0.0.1", "tsig {\n secret "+keyName+" "+tsigSecrets[keyName]+"\n require AXFR\n}")
	s.await("udp", "127.0.0.1", true)
	before := s.missed()
	for _, c := range []struct {
		name, key, secret string
		rcode             uint16 // of the TSIG record
	}{
		{"good", keyName, tsigSecrets[keyName], dns.RcodeSuccess},
		{"another secret", keyName, "b3RoZXI=", dns.RcodeBadSig},
		{"an unknown key", "other.example.com.", "b3RoZXI=", dns.RcodeBadKey},
	} {
		q := new(dns.Msg).SetQuestion("rack1.example.com.", dns.TypeSOA)
		q.SetTsig(c.key, dns.HmacSHA256, 300, time.Now().Unix())
		packed, mac, err := dns.TsigGenerate(q, c.secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		for _, network := range []string{"udp", "tcp"} {
			raw := exchangeRaw(t, network, net.JoinHostPort("127.0.0.1", fmt.Sprint(s.port)), packed)
			r := new(dns.Msg)
			if err := r.Unpack(raw); err != nil || r.IsTsig() == nil || r.IsTsig().Error != c.rcode {
				t.Errorf("%s over %s: %v, want TSIG error %d\n%v", c.name, network, err, c.rcode, r)
				continue
			}
			if err := dns.TsigVerify(raw, c.secret, mac, false); (err == nil) != (c.rcode == 0) {
				t.Errorf("%s over %s: the answer's signature: %v", c.name, network, err)
			}
		}
	}
	if got := s.missed() - before; got != 6 {
		t.Errorf("%d of the 6 queries came through the front", got)
	}
}

func exchangeRaw(t *testing.T, network, address string, packed []byte) []byte {
	t.Helper()
	c, err := dns.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(packed); err != nil {
		t.Fatal(err)
	}
	raw, err := c.ReadMsgHeader(nil)
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return raw
}

func (s *serverUnderTest) missed() (n uint64) {
	s.fronts.mu.Lock()
	defer s.fronts.mu.Unlock()
	for _, d := range s.fronts.doors {
		n += d.front.Totals().Missed
	}
	return n
}

// What the fast path answers is in CoreDNS's counters.
func frontCounts(t *testing.T, s *serverUnderTest) {
	s.mustReload("bind 127.0.0.1", "prometheus 127.0.0.1:0")
	s.await("udp", "127.0.0.1", true)
	server := fmt.Sprintf("dns://127.0.0.1:%d", s.port)
	requests := vars.RequestCount.WithLabelValues(server, "rack1.example.com.", "", "tcp", "1", "A")
	responses := vars.ResponseRcode.WithLabelValues(server, "rack1.example.com.", "", "NOERROR", pluginName)
	collect := func() (float64, float64) {
		out := make(chan prometheus.Metric, 100)
		s.fronts.collect(out)
		if len(out) != 9 {
			t.Errorf("%d own metrics, want 9", len(out))
		}
		return valueOf(t, requests), valueOf(t, responses)
	}
	q, r := collect()
	for range 5 {
		if _, err := s.ask("tcp", "127.0.0.1", new(dns.Msg).SetQuestion(hotName, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	if q2, r2 := collect(); q2 != q+5 || r2 != r+5 {
		t.Errorf("%v requests and %v responses, want 5 of both", q2-q, r2-r)
	}
}

func valueOf(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestReadRules(t *testing.T) {
	for _, c := range []struct{ lines, more, bypass, nsid string }{
		{"errors\nprometheus\nready\nhealth\nreload\ntimeouts {\n read 3s\n}\nbind 127.0.0.1\ntransfer {\n to *\n}\nchaos", "", "", ""},
		{"nsid rack 1", "", "", "rack 1"},
		{"log", "", "log", ""},
		{"acl {\n allow net *\n}", "", "acl", ""},
		{"bufsize 1232", "", "", ""},
		{"bufsize", "", "", ""},
		{"bufsize 512", "", "bufsize", ""},
		{"tsig {\n secret a. Zm9v\n}", "", "", ""},
		{"tsig {\n secret a. Zm9v\n require AXFR IXFR\n}", "", "", ""},
		{"tsig {\n secret a. Zm9v\n require none\n}", "", "", ""},
		{"tsig {\n secret a. Zm9v\n require all\n}", "", "tsig", ""},
		{"tsig {\n require SOA\n secret a. Zm9v\n}", "", "tsig", ""},
		{"errors", "other.example.com {\n log\n}", "", ""},
		{"errors", "example.com {\n log\n}", "", ""},
		{"errors", "sub.rack1.example.com {\n log\n}", "server block sub.rack1.example.com.", ""},
		{"errors", "tls://rack1.example.com {\n log\n etcdsrv\n}", "", ""},
	} {
		text := "rack1.example.com {\n" + c.lines + "\netcdsrv {\n node infra0 127.0.0.1\n}\n}\n" + c.more + "\n"
		r, err := readRules("Corefile", []byte(text))
		if err != nil || r.bypass != c.bypass || string(r.nsid) != c.nsid || r.zone != "rack1.example.com." {
			t.Errorf("%s %s: %+v %v, want bypass %q and NSID %q", c.lines, c.more, r, err, c.bypass, c.nsid)
		}
	}
}
