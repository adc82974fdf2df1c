package node

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// FuzzTransferBlock feeds what an operator may write below transfer: what is taken names somebody, and what is refused says
// why, with a line and a hint.
func FuzzTransferBlock(f *testing.F) {
	f.Add("transfer {\n to 192.0.2.53 [2001:db8::53]:5300 10.0.0.0/8\n source 192.0.2.1\n}")
	f.Add("transfer example.org 0/25.2.0.192.in-addr.arpa {\n to *\n}\ntransfer {\n to 192.0.2.1:0\n}")
	f.Add("transfer {\n to fe80::1%eth0 ::ffff:10.0.0.0/104 10.0.0.1/8\n to\n too 1\n source\n}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") || strings.Contains(text, "{$") || strings.Contains(text, "{%") {
			return // import reads files, and the environment is not ours to fuzz
		}
		d := caddyfile.NewDispenser("Corefile", strings.NewReader(text))
		blocks, err := parseTransfer(&d, "Corefile", []string{"rack1.example.org:5300"})
		if e, ok := err.(*ConfigError); err != nil && (!ok || e.What == "" || e.Fix == "" || e.Line == 0) { //nolint:errorlint // nobody wraps it yet
			t.Errorf("refused with %#v", err)
		}
		for _, b := range blocks {
			if !b.any && len(b.from) == 0 {
				t.Errorf("%+v lets nobody have the zone", b)
			}
			for _, n := range b.from {
				if !n.IsValid() || n != n.Masked() || n.Addr().Is4In6() || n.Addr().Zone() != "" {
					t.Errorf("the network %v", n)
				}
			}
			for _, to := range b.to {
				if !to.IsValid() || to.Port() == 0 || to.Addr().IsUnspecified() || to.Addr().IsMulticast() || to.Addr().Is4In6() {
					t.Errorf("NOTIFY to %v", to)
				}
			}
			if b.source.Is4In6() {
				t.Errorf("NOTIFY from %v", b.source)
			}
		}
	})
}

// FuzzReverseZone feeds what may stand as a key of the server block: a name that is taken is that of a network.
func FuzzReverseZone(f *testing.F) {
	for _, name := range []string{"1.0.10.in-addr.arpa.", "0/25.1.0.10.in-addr.arpa.", "64-127.1.0.10.in-addr.arpa.", "rack1.1.0.10.in-addr.arpa.",
		"0.0.d.f.ip6.arpa.", "1.1.0.10.in-addr.arpa.", "01.0.10.in-addr.arpa.", "+1.in-addr.arpa.", "256.ip6.arpa.", ".in-addr.arpa.", "1/25.1.0.10.in-addr.arpa."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		z, problem, hint := reverseZone(name)
		if problem != "" {
			if hint == "" {
				t.Errorf("%q: %s, without a hint", name, problem)
			}
			return
		}
		if !z.Prefix.IsValid() || z.Prefix != z.Prefix.Masked() || z.Zone != name {
			t.Fatalf("%q is %+v", name, z)
		}
		ptr, err := dns.ReverseAddr(z.Prefix.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if parent := name[strings.IndexByte(name, '.')+1:]; !dns.IsSubDomain(parent, ptr) {
			t.Errorf("%q is %v, whose addresses are not below %s", name, z.Prefix, parent)
		}
	})
}

// FuzzAdminBody feeds what a node may send: a body that is no request never reaches the boot loop, and the answer says why.
func FuzzAdminBody(f *testing.F) {
	f.Add("/v1/prepare", `{"format":1,"ballot":{"n":7,"by":"infra1/r"},"digest":"d","run":"r"}`)
	f.Add("/v1/accept", `{"format":1,"ballot":{"n":7,"by":"infra1/r"},"genesis":{"id":"x","members":[{"name":"infra0","peer_url":"https://x:2380"}]}}`)
	f.Add("/v1/birth", `{"format":1,"op":"excuse","without":["infra1"]}`)
	f.Add("/v1/birth", `{"op":"abandon","genesis":"x"}`)
	f.Add("/v1/prepare", `{"ballot":null}{"ballot":[]}`)
	f.Add("/v1/accept", strings.Repeat("[", 300))
	f.Add("/v1/state?x=%zz", "")
	b := newTestBundle(f)
	cert, err := newTestCerts(f, b, "infra1").AdminServerTLS().GetCertificate(nil)
	if err != nil {
		f.Fatal(err)
	}
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			f.Fatal(err)
		}
		chain = append(chain, c)
	}
	boot := fakeBoot{from: make(chan string, 1)}
	a := &admin{bundle: b.ID(), boot: boot, hear: func(string, srvboot.News) {}, log: zap.NewNop()}
	h := a.peerHandler()
	f.Fuzz(func(t *testing.T, path, body string) {
		method := http.MethodPost
		switch path {
		case "/v1/prepare", "/v1/accept", "/v1/birth":
		default:
			path, method = "/v1/state", http.MethodGet
		}
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{chain}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		asked := len(boot.from) > 0
		for len(boot.from) > 0 {
			<-boot.from
		}
		switch w.Code {
		case http.StatusOK:
			if !asked {
				t.Error("answered without asking")
			}
		case http.StatusServiceUnavailable: // the disk of fakeBoot is full
		case http.StatusBadRequest:
			if asked || w.Body.Len() == 0 {
				t.Errorf("asked %v, and answered %q", asked, w.Body)
			}
		default:
			t.Errorf("status %d, %.100s, to %.100q", w.Code, w.Body, body)
		}
	})
}

// FuzzPeerAnswer feeds what another node may answer: it counts only if it is that node's of this bundle.
func FuzzPeerAnswer(f *testing.F) {
	f.Add(200, `{"format":1,"bundle":"b1","node":"infra0","phase":"running","view":{"Members":[{"Node":"infra0"}]}}`)
	f.Add(200, `{"ok":true,"state":{"format":1,"bundle":"b1","node":"infra0"}}`)
	f.Add(200, `{"format":1,"bundle":"b1","node":"infra0","state":{"format":1,"mode":"on","keys":[{"number":0,"tag":1,"phase":"active"}]}}`)
	f.Add(403, "no")
	f.Add(200, `{"bundle":"b1","node":"infra0","accepted":{"genesis":{"members":[{}]}},"member":{"members":[{"peer_urls":[""]}]}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		p := &peers{bundle: "b1", clients: map[string]*http.Client{"infra0": {Transport: answering{status, body}}}}
		if s, err := p.State(t.Context(), "infra0"); err == nil && (s.Node != "infra0" || s.Bundle != "b1" || s.Format > srvboot.Format || status != http.StatusOK) {
			t.Errorf("%+v of %q", s, body)
		}
		if r, err := p.Prepare(t.Context(), "infra0", srvboot.Prepare{}); err == nil && (r.State.Node != "infra0" || r.State.Bundle != "b1") {
			t.Errorf("%+v of %q", r, body)
		}
		if d, err := p.DNSSEC(t.Context(), "infra0"); err == nil && (d.Node != "infra0" || d.State.Check() != nil) {
			t.Errorf("%+v of %q", d, body)
		}
	})
}

// answering is a transport that answers every request alike.
type answering struct {
	status int
	body   string
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{Status: http.StatusText(a.status), StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// FuzzLook feeds what a name server may answer to DNSKEY, SOA and CDS: no key counts as published or as signing but by a
// signature of its own.
func FuzzLook(f *testing.F) {
	ring, err := sign.NewRing(newTestBundle(f).Secrets().ZoneKey)
	if err != nil {
		f.Fatal(err)
	}
	k, err := ring.Key(0)
	if err != nil {
		f.Fatal(err)
	}
	const domain = "rack1.example.com."
	key := k.DNSKEY(domain)
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 30}, Ns: "a.", Mbox: "b.", Serial: 7}
	forged := &dns.RRSIG{Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET}, TypeCovered: dns.TypeDNSKEY, Algorithm: key.Algorithm, Labels: 3,
		KeyTag: key.KeyTag(), SignerName: domain, Signature: strings.Repeat("A", 86) + "=="}
	for _, answer := range [][]dns.RR{{key}, {key, forged}, {soa}, {&dns.CDS{DS: dns.DS{Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeCDS, Class: dns.ClassINET}, Digest: "00"}}}} {
		b, err := (&dns.Msg{Answer: answer}).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b, b)
	}
	l := &looker{domain: domain, ring: ring}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		answers := map[uint16][]dns.RR{}
		for qtype, packet := range map[uint16][]byte{dns.TypeDNSKEY: a, dns.TypeSOA: b, dns.TypeCDS: c} {
			m := new(dns.Msg)
			if m.Unpack(packet) != nil {
				return
			}
			answers[qtype] = m.Answer
		}
		var out sign.Server
		l.read(&out, answers, []*sign.Key{k})
		if len(out.Published)+len(out.Signing) > 0 {
			t.Errorf("%+v, without a signature of the key", out)
		}
	})
}
