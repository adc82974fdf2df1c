package member

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
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
