package front

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// reference answers as the engine has to, by way of dns.Msg; nil for a query that the full server answers. canonical
// says that the packet is plain enough for the engine to have to answer it.
func reference(s *Shared, z *fakeZone, packet []byte, tcp bool) (m *dns.Msg, canonical bool) {
	r := new(dns.Msg)
	if r.Unpack(packet) != nil || r.Response || r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 ||
		len(r.Answer)+len(r.Ns) != 0 || len(r.Extra) > 1 || r.Question[0].Qclass != dns.ClassINET {
		return nil, false
	}
	asked := r.IsEdns0()
	if len(r.Extra) == 1 && (asked == nil || asked.Hdr.Name != "." || asked.Version() != 0) {
		return nil, false
	}
	b := make([]byte, 256)
	n, err := dns.PackDomainName(dns.CanonicalName(r.Question[0].Name), b, 0, nil, false)
	if err != nil {
		return nil, false
	}
	a, ok := z.find(b[:n], r.Question[0].Qtype)
	m = new(dns.Msg)
	m.SetReply(r)
	opt, malformed := referenceOPT(s, asked, tcp)
	switch {
	case malformed:
		m.Rcode = dns.RcodeFormatError
	case !ok:
		return nil, false
	default:
		m.Rcode, m.Authoritative = int(a.rcode), true
		limit := dns.MaxMsgSize
		if !tcp {
			limit = dns.MinMsgSize
			if asked != nil {
				limit = int(min(max(asked.UDPSize(), dns.MinMsgSize), MaxUDPSize))
			}
		}
		if opt != nil {
			limit -= dns.Len(opt)
		}
		m.Answer, m.Ns, m.Extra = a.an, a.ns, append([]dns.RR(nil), a.extra...)
		if m.Len() > limit {
			m.Extra = nil
		}
		if m.Len() > limit {
			m.Truncated, m.Answer, m.Ns = true, nil, nil
		}
	}
	if opt != nil {
		m.Extra = append(m.Extra, opt)
	}
	again, err := r.Pack()
	return m, err == nil && bytes.Equal(again[4:], packet[4:]) && plainOptions(asked)
}

func referenceOPT(s *Shared, asked *dns.OPT, tcp bool) (opt *dns.OPT, malformed bool) {
	if asked == nil {
		return nil, false
	}
	opt = &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(MaxUDPSize)
	opt.SetDo(asked.Do())
	var nsid, cookie, keepalive dns.EDNS0
	for _, o := range asked.Option {
		switch o := o.(type) {
		case *dns.EDNS0_NSID:
			nsid = &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: "696e66726130"}
		case *dns.EDNS0_COOKIE:
			if cookie != nil || malformed {
				continue
			}
			var reply []byte
			reply, _, malformed = s.Cookies.Reply(mustHex(o.Cookie), testClient)
			cookie = cookieOption(hexOf(reply))
		case *dns.EDNS0_TCP_KEEPALIVE:
			if tcp {
				keepalive = &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: 100}
			}
		}
	}
	if malformed {
		cookie = nil
	}
	for _, o := range []dns.EDNS0{nsid, cookie, keepalive} {
		if o != nil {
			opt.Option = append(opt.Option, o)
		}
	}
	return opt, malformed
}

// plainOptions: the engine leaves options to the full server that have a format of their own.
func plainOptions(asked *dns.OPT) bool {
	if asked == nil {
		return true
	}
	for _, o := range asked.Option {
		switch o := o.(type) {
		case *dns.EDNS0_NSID, *dns.EDNS0_COOKIE, *dns.EDNS0_PADDING:
		case *dns.EDNS0_LOCAL:
		case *dns.EDNS0_TCP_KEEPALIVE:
			if o.Timeout != 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func FuzzEngine(f *testing.F) {
	const srv = "_etcd-server._tcp.example.org."
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	for _, name := range []string{srv, "N0.example.ORG.", "big.example.org.", "no.such.example.org.", "example.com.", "."} {
		for _, edit := range []func(*dns.Msg){nil, withOPT(512, false), withOPT(4096, true, nsid),
			withOPT(1232, true, cookieOption(testClientCookie)), withOPT(1232, true, cookieOption("2464c4abcf10c957010000005cf79f111f8130c3eee29480"), nsid),
			withOPT(600, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}, cookieOption("11")),
			withOPT(1400, false, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 8, Address: []byte{10, 0, 0, 0}})} {
			for _, qtype := range []uint16{dns.TypeSRV, dns.TypeTXT, dns.TypeANY, dns.TypeAXFR} {
				f.Add(query1(f, name, qtype, edit), qtype%2 == 0)
			}
		}
	}
	e := newTestEngine(f)
	z := newFakeZone(f)
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		size := MaxUDPSize
		if tcp {
			size = dns.MaxMsgSize
		}
		out := make([]byte, size+16)
		n, v := e.handle(packet, testClient, tcp, out[:size:size])
		want, canonical := reference(e.shared, z, packet, tcp)
		if v != answered {
			if n != 0 || canonical {
				t.Fatalf("verdict %d, %d octets, want %v", v, n, want)
			}
			return
		}
		if want == nil {
			t.Fatalf("answered % x, which is the full server's", packet)
		}
		got := new(dns.Msg)
		if err := got.Unpack(out[:n]); err != nil {
			t.Fatalf("% x: %v", out[:n], err)
		}
		// Octets are compared, as a name's text has escapes.
		if end := nameEnd(packet) + 4; !bytes.Equal(out[:2], packet[:2]) || !bytes.Equal(out[headerLen:end], packet[headerLen:end]) {
			t.Fatalf("the ID or the question is not the query's: % x", out[:n])
		}
		if got.String() != want.String() {
			t.Fatalf("got %v\nwant %v", got, want)
		}
		// Unpack ignores what stands behind the last record.
		if got.Len() != n {
			t.Fatalf("%d octets, of which the message has %d", n, got.Len())
		}
		if opt := got.IsEdns0(); !tcp && (n > MaxUDPSize || opt == nil && n > dns.MinMsgSize) {
			t.Fatalf("%d octets over UDP", n)
		}
	})
}
