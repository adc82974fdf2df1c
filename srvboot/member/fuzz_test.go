package member

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// FuzzReport feeds what a broken child might write. Nothing may panic, and only well-formed states count.
func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"format":1,"event":"state","state":{"id":"00000000deadbeef","serving":true}}` + "\n"))
	f.Add([]byte(`{"format":1,"event":"fatal","cause":"identity","reason":"x","hint":"y"}` + "\n" + `{"format":2}` + "\n"))
	f.Add([]byte(`{"format":1,"event":"state"}` + "\n\n\nnull\n[]\n{\n"))
	f.Add([]byte(strings.Repeat("a", 300) + "\n" + `{"format":1,"event":"stopped"}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 256
		eachLine(bytes.NewReader(stream), limit, func(line []byte) {
			if len(line) > limit || bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("a line of %d octets, limit %d: %q", len(line), limit, line)
			}
			r, err := parseReport(line)
			if err == nil && (r.Format != Format || r.Event == "" || (r.Event == eventState) != (r.State != nil) && r.Event == eventState) {
				t.Fatalf("accepted %q as %+v", line, r)
			}
			p := &Process{log: zap.NewNop()}
			p.relay(line)
		})
	})
}

// FuzzResolverQuery feeds wire-format questions: there is always an answer, under the same ID, and names below the
// domain never leave the node.
func FuzzResolverQuery(f *testing.F) {
	for _, q := range []string{"infra0.rack1.example.com.", "x.rack1.example.com.", "10.1.0.10.in-addr.arpa.", "other.example.", "."} {
		b, err := new(dns.Msg).SetQuestion(q, dns.TypeA).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3})
	var leaked string
	r := NewResolver(ResolverOptions{NameServers: func() []netip.AddrPort { leaked = "asked"; return nil }})
	r.SetView(testView)
	f.Fuzz(func(t *testing.T, query []byte) {
		leaked = ""
		b := r.answer(t.Context(), query)
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("the answer %x cannot be read: %v", b, err)
		}
		if len(query) >= 2 && !bytes.Equal(b[:2], query[:2]) {
			t.Fatalf("answer under ID %x to %x", b[:2], query[:2])
		}
		if !m.Response {
			t.Fatalf("not a response: %v", m)
		}
		if len(m.Question) == 1 && dns.IsSubDomain(testDomain+".", m.Question[0].Name) && leaked != "" {
			t.Fatalf("%q left the node", m.Question[0].Name)
		}
	})
}

// answering is a transport that answers every request alike.
type answering struct{ cluster, body string }

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Header: http.Header{"X-Etcd-Cluster-Id": {a.cluster}}, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

// FuzzPeerMembers feeds what a peer may answer at /members: only one that lists this member under the expected IDs lets it
// start.
func FuzzPeerMembers(f *testing.F) {
	const own, cluster = "https://infra0.rack1.example.com:2380", "cdf818194e3a8c32"
	f.Add(cluster, `[{"id":6460912315094810421,"peerURLs":["`+own+`"],"name":"infra0"}]`)
	f.Add(cluster, `[{"id":1,"peerURLs":["`+own+`"]},{"id":2,"peerURLs":[]}]`)
	f.Add("1", `[]`)
	f.Add("", `null`)
	f.Add(cluster, `[null]`)
	f.Add(cluster, `[{"id":-1}]`)
	f.Fuzz(func(t *testing.T, header, body string) {
		c := &child{spec: Spec{ExpectMemberID: "59a9c584ea2c3f35", ExpectClusterID: cluster}, log: zap.NewNop()}
		a := askPeer(t.Context(), &http.Client{Transport: answering{header, body}}, "https://infra1.rack1.example.com:2380")
		if c.listedByAll([]peerAnswers{a}, own) != nil {
			return
		}
		if a.cluster != cluster || !slices.ContainsFunc(a.members, func(m *membership.Member) bool {
			return hexID(uint64(m.ID)) == c.spec.ExpectMemberID && slices.Contains(m.PeerURLs, own)
		}) {
			t.Fatalf("started by the answer %q of cluster %q", body, header)
		}
	})
}

// FuzzResolvConf feeds what an operator or DHCP may write into resolv.conf.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 10.0.0.2\nsearch a b\noptions ndots:2 timeout:1 attempts:3\n")
	f.Add("nameserver fe80::1%eth0\n; x\n# y\nnameserver\nnameserver 300.1.1.1\noptions ndots: timeout:x\ndomain")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range nameServersIn(strings.NewReader(text)) {
			if !s.IsValid() || s.Port() != 53 || !strings.Contains(text, "nameserver") {
				t.Fatalf("%v from %q", s, text)
			}
		}
	})
}

// FuzzForwardedAnswer feeds what a name server of the system may answer: the member gets a message that it can read, under the
// ID of its question.
func FuzzForwardedAnswer(f *testing.F) {
	m := new(dns.Msg).SetQuestion("other.example.", dns.TypeA)
	m.Response = true
	for _, text := range []string{"other.example. 60 IN A 192.0.2.1", "other.example. 60 IN TXT \"a\" \"b\"", "other.example. 0 CNAME ."} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		m.Id = 4711
		b := pack(m)
		got := new(dns.Msg)
		if err := got.Unpack(b); err != nil || got.Id != 4711 || len(b) > dns.MaxMsgSize {
			t.Fatalf("%x becomes %x: %v", packet, b, err)
		}
	})
}
