package front

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// What becomes of each kind of packet.
func TestEngineVerdicts(t *testing.T) {
	srv := "_etcd-server._tcp.example.org."
	plain := query1(t, srv, dns.TypeSRV, nil)
	edns := query1(t, srv, dns.TypeSRV, withOPT(1232, false))
	opt := len(plain) // where edns has its OPT record
	change := func(p []byte, off int, b byte) []byte {
		p = bytes.Clone(p)
		p[off] = b
		return p
	}
	long := append([]byte{}, plain[:headerLen]...)
	for range 4 {
		long = append(append(long, 63), bytes.Repeat([]byte{'a'}, 63)...)
	}
	long = append(long, 0, 0, 1, 0, 1)
	// inZone returns a query for a name below the zone with labels of some lengths.
	inZone := func(lengths ...int) []byte {
		p := bytes.Clone(plain[:headerLen])
		for _, n := range lengths {
			p = append(append(p, byte(n)), bytes.Repeat([]byte{'a'}, n)...)
		}
		return append(p, "\x07example\x03org\x00\x00\x01\x00\x01"...)
	}
	local := func(code uint16, n int) dns.EDNS0 { return &dns.EDNS0_LOCAL{Code: code, Data: make([]byte, n)} }

	tests := map[string]struct {
		packet []byte
		want   verdict
	}{
		"plain": {plain, answered},
		"EDNS":  {edns, answered},
		// RFC 1035 §4.1.1
		"empty":                    {nil, dropped},
		"shorter than a header":    {plain[:11], dropped},
		"QR=1":                     {change(plain, 2, 0x81), dropped},
		"header alone":             {plain[:12], missed},
		"opcode NOTIFY":            {change(plain, 2, 4<<3), missed},
		"opcode UPDATE":            {change(plain, 2, 5<<3), missed},
		"opcode 15":                {change(plain, 2, 15<<3), missed},
		"no question":              {change(plain, 5, 0), missed},
		"two questions":            {change(plain, 5, 2), missed},
		"257 questions":            {change(plain, 4, 1), missed},
		"answer":                   {change(plain, 7, 1), missed},
		"authority":                {change(plain, 9, 1), missed},
		"additional, missing":      {change(plain, 11, 1), missed},
		"two additional":           {change(edns, 11, 2), missed},
		"256 additional":           {change(edns, 10, 1), missed},
		"TC, AA, RA, Z, AD, RCODE": {change(change(plain, 2, 0x07), 3, 0xef), answered},
		// RFC 1035 §3.1, §4.1.2
		"class CH":              {change(plain, len(plain)-1, 3), missed},
		"class ANY":             {change(plain, len(plain)-1, 255), missed},
		"class 257":             {change(plain, len(plain)-2, 1), missed},
		"cut in the class":      {plain[:len(plain)-1], missed},
		"cut in the type":       {plain[:len(plain)-3], missed},
		"cut in the name":       {plain[:20], missed},
		"compressed name":       {change(plain, 12, 0xc0), missed},
		"reserved label type":   {change(plain, 12, 0x41), missed},
		"label of 63 octets":    {inZone(63), answered},
		"label of 64 octets":    {inZone(64), missed},
		"label of 191 octets":   {inZone(191), missed},
		"name of 255 octets":    {inZone(63, 63, 63, 49), answered},
		"name of 256 octets":    {inZone(63, 63, 63, 50), missed},
		"name of 257 octets":    {long, missed},
		"garbage behind":        {append(bytes.Clone(plain), 0), missed},
		"garbage behind OPT":    {append(bytes.Clone(edns), 0), missed},
		"name outside":          {query1(t, "example.com.", dns.TypeA, nil), missed},
		"root":                  {query1(t, ".", dns.TypeNS, nil), missed},
		"AXFR":                  {query1(t, "example.org.", dns.TypeAXFR, nil), missed},
		"type 0, as NODATA":     {query1(t, srv, 0, nil), answered},
		"type 65535, as NODATA": {query1(t, srv, 65535, nil), answered},
		// RFC 6891 §6.1
		"OPT not at the root":     {change(edns, opt, 1), missed},
		"additional A":            {change(edns, opt+2, 1), missed},
		"additional TSIG":         {change(edns, opt+2, 250), missed},
		"additional SIG":          {change(edns, opt+2, 24), missed},
		"EDNS version 1":          {change(edns, opt+6, 1), missed},
		"EDNS flags":              {change(edns, opt+8, 0xff), answered},
		"extended RCODE":          {change(edns, opt+5, 0xff), answered},
		"OPT cut":                 {edns[:len(edns)-1], missed},
		"OPT shorter than it is":  {change(edns, opt+10, 1), missed},
		"option of three octets":  {append(change(edns, opt+10, 3), 0, 3, 0), missed},
		"option longer than data": {append(change(edns, opt+10, 4), 0, 3, 0, 1), missed},
		"unknown option":          {query1(t, srv, dns.TypeSRV, withOPT(1232, false, local(65001, 9))), answered},
		"padding":                 {query1(t, srv, dns.TypeSRV, withOPT(1232, false, local(12, 30))), answered},
		"client subnet":           {query1(t, srv, dns.TypeSRV, withOPT(1232, false, local(8, 4))), missed},
		"malformed EDE":           {query1(t, srv, dns.TypeSRV, withOPT(1232, false, local(15, 1))), missed},
		"malformed keepalive":     {query1(t, srv, dns.TypeSRV, withOPT(1232, false, local(11, 2))), missed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t)
			for _, tcp := range []bool{false, true} {
				before := bytes.Clone(tt.packet)
				n, v := e.handle(tt.packet, testClient, tcp, make([]byte, 65535))
				if v != tt.want || (n > 0) != (v == answered) {
					t.Errorf("tcp %v: verdict %d, %d octets, want verdict %d", tcp, v, n, tt.want)
				}
				if !bytes.Equal(before, tt.packet) {
					t.Errorf("tcp %v: the packet was changed", tcp)
				}
			}
		})
	}
}

// A bypass makes everything a miss but what is no query.
func TestEngineBypass(t *testing.T) {
	e := newTestEngine(t)
	e.shared.SetSettings(Settings{Bypass: "a plugin has to see every query"})
	plain := query1(t, "n0.example.org.", dns.TypeA, nil)
	if n, v := e.handle(plain, testClient, false, make([]byte, 1232)); n != 0 || v != missed {
		t.Errorf("%d, %d, want a miss", n, v)
	}
	plain[2] |= flagQR
	if n, v := e.handle(plain, testClient, false, make([]byte, 1232)); n != 0 || v != dropped {
		t.Errorf("QR=1: %d, %d, want it dropped", n, v)
	}
}

// ask has e handle a packet that it answers, and returns the answer.
func ask(t testing.TB, e *engine, packet []byte, from netip.Addr, tcp bool) (*dns.Msg, []byte) {
	t.Helper()
	out := make([]byte, 65535)
	n, v := e.handle(packet, from, tcp, out)
	if v != answered {
		t.Fatalf("verdict %d, want it answered", v)
	}
	m := new(dns.Msg)
	if err := m.Unpack(out[:n]); err != nil {
		t.Fatal(err)
	}
	return m, out[:n]
}

// The header and the question of the answer.
func TestEngineHeader(t *testing.T) {
	e := newTestEngine(t)
	packet := query1(t, "N0.eXample.ORG.", dns.TypeA, nil)
	for flags := range 1 << 16 {
		if flags&((flagQR|flagOpcode)<<8) != 0 {
			continue
		}
		packet[2], packet[3] = byte(flags>>8), byte(flags)
		m, out := ask(t, e, packet, testClient, false)
		want := uint16(0x8400) | uint16(flags)&0x0100 // QR, AA; RD as it was
		if got := uint16(out[2])<<8 | uint16(out[3]); got != want {
			t.Fatalf("flags %04x: %04x, want %04x", flags, got, want)
		}
		if m.Id != 0xbeef || m.Question[0].Name != "N0.eXample.ORG." || len(m.Answer) != 1 {
			t.Fatalf("flags %04x: %v", flags, m)
		}
	}
}

// OPT in the answer.
func TestEngineOPT(t *testing.T) {
	const srv = "_etcd-server._tcp.example.org."
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	keepalive := &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}
	const wantCookie = "COOKIE: 2464c4abcf10c957010000005cf79f111f8130c3eee29480"
	tests := map[string]struct {
		edit func(*dns.Msg)
		tcp  bool
		want string // of the OPT record, "" for none
	}{
		"none":           {nil, false, ""},
		"plain":          {withOPT(4096, false), false, "version 0; flags:; udp: 1232"},
		"DO":             {withOPT(4096, true), false, "version 0; flags: do; udp: 1232"},
		"NSID":           {withOPT(4096, false, nsid), false, "version 0; flags:; udp: 1232\n; NSID: 696e66726130  (i)(n)(f)(r)(a)(0)"},
		"COOKIE":         {withOPT(4096, true, cookieOption(testClientCookie)), false, "version 0; flags: do; udp: 1232\n; " + wantCookie},
		"two COOKIEs":    {withOPT(4096, true, cookieOption(testClientCookie), cookieOption("1111111111111111")), false, "version 0; flags: do; udp: 1232\n; " + wantCookie},
		"keepalive, UDP": {withOPT(4096, false, keepalive), false, "version 0; flags:; udp: 1232"},
		"keepalive, TCP": {withOPT(4096, false, keepalive), true, "version 0; flags:; udp: 1232\n; KEEPALIVE: use tcp keep-alive, timeout 10000ms"},
		"all":            {withOPT(0, false, keepalive, nsid, cookieOption(testClientCookie)), true, "version 0; flags:; udp: 1232\n; NSID: 696e66726130  (i)(n)(f)(r)(a)(0)\n; " + wantCookie + "\n; KEEPALIVE: use tcp keep-alive, timeout 10000ms"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, _ := ask(t, newTestEngine(t), query1(t, srv, dns.TypeSRV, tt.edit), testClient, tt.tcp)
			got := ""
			if opt := m.IsEdns0(); opt != nil {
				got = opt.String()[len("\n;; OPT PSEUDOSECTION:\n; EDNS: "):]
			}
			if got != tt.want || len(m.Answer) != 3 {
				t.Errorf("got %q and %d answers, want %q and 3", got, len(m.Answer), tt.want)
			}
		})
	}
}

// RFC 7873 §5.2.2, on TCP as well.
func TestEngineMalformedCookie(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		for _, bad := range []string{"", "11", testClientCookie + "00"} {
			e := newTestEngine(t)
			m, _ := ask(t, e, query1(t, "n0.example.org.", dns.TypeA, withOPT(1232, true, cookieOption(bad))), testClient, tcp)
			opt := m.IsEdns0()
			if m.Rcode != dns.RcodeFormatError || m.Authoritative || len(m.Answer)+len(m.Ns) != 0 || opt == nil || len(opt.Option) != 0 {
				t.Errorf("tcp %v, cookie %q: %v", tcp, bad, m)
			}
			if err := e.shared.Cookies.Set(nil, nil); err != nil {
				t.Fatal(err)
			}
			m, _ = ask(t, e, query1(t, "n0.example.org.", dns.TypeA, withOPT(1232, true, cookieOption(bad))), testClient, tcp)
			if m.Rcode != dns.RcodeSuccess || len(m.IsEdns0().Option) != 0 {
				t.Errorf("tcp %v, cookie %q without secrets: %v", tcp, bad, m)
			}
		}
	}
}

// Sizes: RFC 1035 §4.2.1, RFC 6891 §6.2.
func TestEngineSize(t *testing.T) {
	const big = "big.example.org." // 1,506 octets of TXT
	const srv = "_etcd-server._tcp.example.org."
	cookie, nsid := cookieOption(testClientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	e := newTestEngine(t)
	whole := len(query1(t, srv, dns.TypeSRV, nil)) + len(newFakeZone(t).names[wire(t, srv)][dns.TypeSRV].all)
	tests := map[string]struct {
		name            string
		qtype           uint16
		edit            func(*dns.Msg)
		tcp             bool
		truncated       bool
		answers, extras int
	}{
		"UDP, too big":           {big, dns.TypeTXT, withOPT(65535, false), false, true, 0, 0},
		"UDP, too big, no EDNS":  {big, dns.TypeTXT, nil, false, true, 0, 0},
		"TCP":                    {big, dns.TypeTXT, withOPT(512, false), true, false, 1, 0},
		"TCP, no EDNS":           {big, dns.TypeTXT, nil, true, false, 1, 0},
		"UDP, no EDNS":           {srv, dns.TypeSRV, nil, false, false, 3, 6},
		"size 0 counts as 512":   {srv, dns.TypeSRV, withOPT(0, false), false, false, 3, 6},
		"no room for additional": {srv, dns.TypeSRV, withOPT(0, false, nsid, cookie), false, false, 3, 0},
	}
	if whole > 512-optLen || whole <= 512-optLen-28-10-4-MaxNSID {
		t.Fatalf("the answer has %d octets, which shows nothing", whole)
	}
	e.shared.SetSettings(Settings{NSID: make([]byte, MaxNSID)})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, _ := ask(t, e, query1(t, tt.name, tt.qtype, tt.edit), testClient, tt.tcp)
			extras := len(m.Extra)
			if m.IsEdns0() != nil {
				extras--
			}
			if m.Truncated != tt.truncated || len(m.Answer) != tt.answers || extras != tt.extras {
				t.Errorf("TC %v, %d answers, %d additional, want %v, %d, %d", m.Truncated, len(m.Answer), extras, tt.truncated, tt.answers, tt.extras)
			}
		})
	}
	e.shared.SetSettings(Settings{NSID: make([]byte, MaxNSID+1)})
	if m, _ := ask(t, e, query1(t, srv, dns.TypeSRV, withOPT(0, false, nsid)), testClient, false); len(m.IsEdns0().Option) != 0 {
		t.Error("an NSID of 65 octets is sent")
	}
}

// The longest name, every option and the least room: nothing is written behind the end.
func TestEngineTightRoom(t *testing.T) {
	name := ""
	for len(name) < 192 {
		name += string(bytes.Repeat([]byte{'a'}, 63)) + "."
	}
	name += string(bytes.Repeat([]byte{'b'}, 253-len(name)-len(".example.org"))) + ".example.org."
	e := newTestEngine(t)
	e.shared.SetSettings(Settings{NSID: make([]byte, MaxNSID)})
	packet := query1(t, name, dns.TypeA, withOPT(0, true, cookieOption(testClientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
	if m, _ := ask(t, e, packet, testClient, false); m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
	for n := range 600 {
		out := make([]byte, n+8)
		if got, _ := e.handle(packet, testClient, true, out[:n:n]); got > n {
			t.Fatalf("%d octets in %d", got, n)
		}
	}
}

func TestLower(t *testing.T) {
	for b := range 256 {
		for n := 1; n <= 255; n++ {
			if b > 1 && n > 17 {
				break
			}
			name := bytes.Repeat([]byte{byte(b)}, n)
			var got [256]byte
			lower(&got, name)
			if want := byte(b); 'A' <= want && want <= 'Z' {
				want += 'a' - 'A'
				if got[n-1] != want {
					t.Fatalf("%d octets %d: %q", n, b, got[:n])
				}
			} else if !bytes.Equal(got[:n], name) {
				t.Fatalf("%d octets %d: %q", n, b, got[:n])
			}
		}
	}
}

func TestEngineCounts(t *testing.T) {
	e := newTestEngine(t)
	old := e.shared.snapshot()
	out := make([]byte, 65535)
	do := query1(t, "_etcd-server._tcp.example.org.", dns.TypeSRV, withOPT(1232, true))
	e.handle(do, testClient, false, out)
	e.handle(do, testClient6, true, out)
	e.handle(query1(t, "no.example.org.", dns.TypeAAAA, nil), netip.MustParseAddr("::ffff:192.0.2.1"), false, out)
	e.handle(query1(t, "n0.example.org.", 65535, nil), testClient, false, out)
	e.handle(query1(t, "example.com.", dns.TypeA, nil), testClient, false, out)
	e.handle(nil, testClient, false, out)
	got := map[countKey]uint64{}
	now := e.shared.snapshot()
	now.since(old, func(k countKey, n uint64) { got[k] = n })
	want := map[countKey]uint64{
		{"1", "udp", "SRV", true, "NOERROR"}:    1,
		{"2", "tcp", "SRV", true, "NOERROR"}:    1,
		{"1", "udp", "AAAA", false, "NXDOMAIN"}: 1,
		{"1", "udp", "other", false, "NOERROR"}: 1,
	}
	if len(got) != len(want) || now.Missed != 1 || now.Dropped != 1 {
		t.Errorf("%v, %d missed, %d dropped", got, now.Missed, now.Dropped)
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%+v: %d, want %d", k, got[k], n)
		}
	}
	now.since(now, func(k countKey, n uint64) { t.Errorf("%+v: %d since the same snapshot", k, n) })
}

// Every type that CoreDNS names comes out under its name.
func TestCountTypes(t *testing.T) {
	seen := map[countKey]bool{}
	for i := range answerCells {
		k := keyOf(i)
		if seen[k] {
			t.Errorf("%+v: twice", k)
		}
		seen[k] = true
	}
}
