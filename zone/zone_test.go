package zone

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/ready"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

var (
	_ plugin.Handler  = (*Handler)(nil)
	_ ready.Readiness = (*Handler)(nil)
)

const soa5 = "rack1.example.org. 5 IN SOA infra0.rack1.example.org. hostmaster.rack1.example.org. 1789312064 14400 3600 1209600 5"

func serving(s *Snapshot) *Handler {
	store := NewStore()
	store.current.Store(s)
	return NewHandler(zonesOf(store), nil)
}

func zonesOf(stores ...*Store) *Zones {
	z := new(Zones)
	z.Set(stores...)
	return z
}

func srvs(ttl int, owner string, port int, hosts ...string) (out []dns.RR) {
	for _, h := range hosts {
		out = append(out, test.SRV(fmt.Sprintf("%s %d IN SRV 0 0 %d %s.rack1.example.org.", owner, ttl, port, h)))
	}
	return out
}

func addrs(ttl int, nodes ...int) (out []dns.RR) {
	for _, n := range nodes {
		out = append(out, test.A(fmt.Sprintf("infra%d.rack1.example.org. %d IN A 192.0.2.1%d", n, ttl, n)))
	}
	return out
}

// notReadyCases asks for names that must all be SERVFAIL.
func notReadyCases(why string, qtype uint16, names ...string) (out []lookupCase) {
	for _, n := range names {
		out = append(out, lookupCase{Case: test.Case{Qname: n, Qtype: qtype, Rcode: dns.RcodeServerFailure}, ede: dns.ExtendedErrorCodeNotReady, why: why})
	}
	return out
}

// deniedCases asks for names that must all be NXDOMAIN.
func deniedCases(names ...string) (out []lookupCase) {
	for _, n := range names {
		for _, qtype := range []uint16{dns.TypeSRV, dns.TypeA, dns.TypeANY} {
			out = append(out, lookupCase{Case: test.Case{Qname: n, Qtype: qtype, Rcode: dns.RcodeNameError, Ns: []dns.RR{test.SOA(soa5)}}})
		}
	}
	return out
}

type lookupCase struct {
	test.Case
	ede uint16
	why string
}

const (
	apex    = "rack1.example.org."
	server  = "_etcd-server-ssl._tcp.rack1.example.org."
	client  = "_etcd-client-ssl._tcp.rack1.example.org."
	pserver = "_etcd-server._tcp.rack1.example.org."
	pclient = "_etcd-client._tcp.rack1.example.org."
)

func bornCases() []lookupCase {
	soa := []dns.RR{test.SOA(soa5)}
	cases := []lookupCase{
		{Case: test.Case{Qname: server, Qtype: dns.TypeSRV, Answer: srvs(30, server, 2380, "infra0", "infra1", "infra2"), Extra: addrs(30, 0, 1, 2)}},
		{Case: test.Case{Qname: client, Qtype: dns.TypeSRV, Answer: srvs(5, client, 2379, "infra0", "infra1", "infra2"), Extra: addrs(30, 0, 1, 2)}},
		{Case: test.Case{Qname: client, Qtype: dns.TypeANY, Answer: srvs(5, client, 2379, "infra0", "infra1", "infra2"), Extra: addrs(30, 0, 1, 2)}},
		{Case: test.Case{Qname: server, Qtype: dns.TypeA, Ns: soa}},
		{Case: test.Case{Qname: apex, Qtype: dns.TypeA, Answer: []dns.RR{
			test.A("rack1.example.org. 5 IN A 192.0.2.10"), test.A("rack1.example.org. 5 IN A 192.0.2.11"), test.A("rack1.example.org. 5 IN A 192.0.2.12")}}},
		{Case: test.Case{Qname: apex, Qtype: dns.TypeAAAA, Ns: soa}},
		{Case: test.Case{Qname: apex, Qtype: dns.TypeDS, Ns: soa}},
		{Case: test.Case{Qname: apex, Qtype: dns.TypeSOA, Answer: []dns.RR{test.SOA(strings.Replace(soa5, " 5 ", " 30 ", 1))}}},
		{Case: test.Case{Qname: "_tcp." + apex, Qtype: dns.TypeSRV, Ns: soa}},
		{Case: test.Case{Qname: "_tcp." + apex, Qtype: dns.TypeANY, Answer: []dns.RR{test.TXT("_tcp.rack1.example.org. 30 IN TXT \"etcd-dns\"")}}},
		{Case: test.Case{Qname: "infra1." + apex, Qtype: dns.TypeA, Answer: addrs(30, 1)}},
		{Case: test.Case{Qname: "infra1." + apex, Qtype: dns.TypeAAAA, Ns: soa}},
		{Case: test.Case{Qname: "infra1." + apex, Qtype: 65280, Ns: soa}},
		{Case: test.Case{Qname: "infra1." + apex, Qtype: dns.TypeRRSIG, Ns: soa}},
	}
	for _, qtype := range []uint16{dns.TypeNS, dns.TypeANY} {
		cases = append(cases, lookupCase{Case: test.Case{Qname: apex, Qtype: qtype, Extra: addrs(30, 0, 1, 2), Answer: []dns.RR{
			test.NS("rack1.example.org. 3600 IN NS infra0.rack1.example.org."), test.NS("rack1.example.org. 3600 IN NS infra1.rack1.example.org."),
			test.NS("rack1.example.org. 3600 IN NS infra2.rack1.example.org.")}}})
	}
	return append(cases, deniedCases(pserver, pclient, "_etcd-server-ssl-foo._tcp."+apex, "_etcd-ssl._tcp."+apex, "nosuch."+apex,
		"x."+server, "*."+apex, "infra0-peer."+apex, "_udp."+apex)...)
}

func TestServeDNS(t *testing.T) {
	soa := []dns.RR{test.SOA(soa5)}
	unknown := "not known yet whether the default cluster is born"
	rosters := map[string][]lookupCase{
		"born": bornCases(),
		"unborn": append(deniedCases(server, client, pserver, pclient),
			lookupCase{Case: test.Case{Qname: apex, Qtype: dns.TypeA, Ns: soa}},
			lookupCase{Case: test.Case{Qname: "_tcp." + apex, Qtype: dns.TypeA, Ns: soa}},
			lookupCase{Case: test.Case{Qname: "infra2." + apex, Qtype: dns.TypeA, Answer: addrs(30, 2)}}),
		"unknown": slices.Concat(
			notReadyCases(unknown, dns.TypeSRV, server, client, pserver, pclient),
			notReadyCases(unknown, dns.TypeA, server, client, pserver, pclient, apex),
			notReadyCases(unknown, dns.TypeANY, server),
			notReadyCases(unknown, dns.TypeAAAA, apex), notReadyCases(unknown, dns.TypeSOA, apex),
			deniedCases("_etcd-server-ssl-foo._tcp."+apex, "nosuch."+apex),
			[]lookupCase{
				{Case: test.Case{Qname: "_tcp." + apex, Qtype: dns.TypeA, Ns: soa}},
				{Case: test.Case{Qname: apex, Qtype: dns.TypeMX, Ns: soa}},
				{Case: test.Case{Qname: "infra0." + apex, Qtype: dns.TypeA, Answer: addrs(30, 0)}},
			}),
		"plain_one_down": append(deniedCases(server, client),
			lookupCase{Case: test.Case{Qname: pserver, Qtype: dns.TypeSRV, Answer: srvs(30, pserver, 2380, "infra0", "infra1", "infra2"), Extra: addrs(30, 0, 1, 2)}},
			lookupCase{Case: test.Case{Qname: pclient, Qtype: dns.TypeSRV, Answer: srvs(5, pclient, 2379, "infra0", "infra2"), Extra: addrs(30, 0, 2)}}),
		"none_serving": {{Case: test.Case{Qname: client, Qtype: dns.TypeSRV, Answer: srvs(5, client, 2379, "infra0", "infra1", "infra2"), Extra: addrs(30, 0, 1, 2)}}},
		"no_address": append(notReadyCases("no address of infra2.rack1.example.org. is known", dns.TypeSRV, server),
			append(notReadyCases("no address of infra2.rack1.example.org. is known", dns.TypeA, "infra2."+apex),
				lookupCase{Case: test.Case{Qname: client, Qtype: dns.TypeSRV, Answer: srvs(5, client, 2379, "infra0", "infra1"), Extra: addrs(30, 0, 1)}})...),
		"no_address_serving": append(notReadyCases("no address of infra2.rack1.example.org. is known", dns.TypeSRV, server, client),
			notReadyCases("no address of infra2.rack1.example.org. is known", dns.TypeA, apex)...),
		"clusters": slices.Concat(
			notReadyCases("not known yet whether cluster baz is born", dns.TypeSRV, "_etcd-server-ssl-baz._tcp."+apex, "_etcd-server-baz._tcp."+apex,
				"_etcd-client-ssl-baz._tcp."+apex, "_etcd-client-baz._tcp."+apex),
			deniedCases("_etcd-server-foo._tcp."+apex, "_etcd-server-ssl-foo._tcp."+apex, "_etcd-client-ssl-bar._tcp."+apex),
			[]lookupCase{{Case: test.Case{Qname: "_etcd-server-bar._tcp." + apex, Qtype: dns.TypeSRV, Answer: srvs(30, "_etcd-server-bar._tcp."+apex, 3380, "infra1"), Extra: addrs(30, 1)}}}),
		"named_only": append(append(notReadyCases("not known yet whether cluster foo is born", dns.TypeSRV, "_etcd-server-ssl-foo._tcp."+apex), deniedCases(server, client)...),
			lookupCase{Case: test.Case{Qname: apex, Qtype: dns.TypeSOA, Answer: []dns.RR{test.SOA(strings.Replace(soa5, " 5 ", " 30 ", 1))}}}),
		"outside": slices.Concat(
			notReadyCases("not known yet which members cluster unseen has", dns.TypeSRV, "_etcd-server-unseen._tcp."+apex, "_etcd-client-ssl-unseen._tcp."+apex),
			notReadyCases("the URLs that the members of cluster silent advertise cannot be published", dns.TypeSRV, "_etcd-server-silent._tcp."+apex, "_etcd-client-silent._tcp."+apex),
			notReadyCases("no address of gone.rack1.example.org. is known", dns.TypeSRV, "_etcd-server-ssl-nameless._tcp."+apex),
			deniedCases("_etcd-server-ssl-legacy._tcp."+apex, "_etcd-client-ssl-legacy._tcp."+apex, "_etcd-client-mixed._tcp."+apex),
			[]lookupCase{
				{Case: test.Case{Qname: "_etcd-client-legacy._tcp." + apex, Qtype: dns.TypeSRV, Answer: srvs(5, "_etcd-client-legacy._tcp."+apex, 2379, "etcd1"),
					Extra: []dns.RR{test.A("etcd1.rack1.example.org. 30 IN A 192.0.2.31")}}},
				{Case: test.Case{Qname: "_etcd-server-mixed._tcp." + apex, Qtype: dns.TypeSRV, // the target is in another zone, so its address is not ours to give
					Answer: []dns.RR{test.SRV("_etcd-server-mixed._tcp.rack1.example.org. 30 IN SRV 0 0 2380 b.example.net.")}}},
			}),
		"named_unknown": append(notReadyCases("not known yet whether cluster bar is born", dns.TypeSOA, apex), deniedCases(server, client)...),
	}
	for name, cases := range rosters {
		h := serving(load(t, name))
		for _, tc := range cases {
			t.Run(name+"/"+tc.Qname+dns.TypeToString[tc.Qtype], func(t *testing.T) { tc.run(t, h) })
		}
	}
}

// run asks without EDNS and with it, and checks what test.SortAndCheck leaves out.
func (tc lookupCase) run(t *testing.T, h *Handler) {
	for _, withEDNS := range []bool{false, true} {
		q := tc.Msg()
		if withEDNS {
			q.SetEdns0(4096, false)
		}
		got := ask(t, h, q)
		if (got.IsEdns0() != nil) != withEDNS {
			t.Fatalf("OPT in the answer: %v, in the query: %v", got.IsEdns0() != nil, withEDNS)
		}
		var ede *dns.EDNS0_EDE
		if opt := got.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				ede = o.(*dns.EDNS0_EDE)
			}
			got.Extra = got.Extra[:len(got.Extra)-1]
		}
		if withEDNS && tc.ede != 0 && (ede == nil || ede.InfoCode != tc.ede || ede.ExtraText != tc.why) {
			t.Errorf("extended error %v, want %d %q", ede, tc.ede, tc.why)
		}
		if tc.ede == 0 && ede != nil {
			t.Errorf("extended error %v, want none", ede)
		}
		if err := test.SortAndCheck(got, tc.Case); err != nil {
			t.Errorf("%v\n%v", err, got)
		}
		wantAA := tc.Rcode == dns.RcodeSuccess || tc.Rcode == dns.RcodeNameError
		if got.Authoritative != wantAA || got.Truncated || got.RecursionAvailable || got.AuthenticatedData {
			t.Errorf("flags of %v\nwant AA %v and no TC, RA, AD", got, wantAA)
		}
		for _, rr := range slices.Concat(got.Answer, got.Ns) {
			if s, ok := rr.(*dns.SOA); ok && s.Serial != testSerial {
				t.Errorf("serial %d, want %d", s.Serial, testSerial)
			}
		}
	}
}

// ask serves q, through the wire format on both ways.
func ask(t testing.TB, h plugin.Handler, q *dns.Msg) *dns.Msg {
	t.Helper()
	return askFrom(t, h, q, &test.ResponseWriter{})
}

func askFrom(t testing.TB, h plugin.Handler, q *dns.Msg, w dns.ResponseWriter) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(w)
	code, err := h.ServeDNS(context.Background(), rec, repack(t, q))
	if err != nil {
		t.Fatal(err)
	}
	if !plugin.ClientWrite(code) {
		if rec.Msg != nil {
			t.Fatalf("ServeDNS wrote an answer and returned %s", dns.RcodeToString[code])
		}
		m := new(dns.Msg)
		return m.SetRcode(q, code)
	}
	if rec.Msg == nil {
		t.Fatalf("ServeDNS wrote nothing and returned %s", dns.RcodeToString[code])
	}
	return repack(t, rec.Msg)
}

func repack(t testing.TB, m *dns.Msg) *dns.Msg {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestQueryTypesAndOpcodes(t *testing.T) {
	h := serving(load(t, "born"))
	for _, tc := range []struct {
		name   string
		change func(*dns.Msg)
		want   int
	}{
		{"AXFR", func(m *dns.Msg) { m.SetAxfr(apex) }, dns.RcodeRefused},
		{"IXFR", func(m *dns.Msg) { m.SetIxfr(apex, 1, apex, apex) }, dns.RcodeRefused},
		{"OPT", func(m *dns.Msg) { m.SetQuestion(apex, dns.TypeOPT) }, dns.RcodeFormatError},
		{"type 0", func(m *dns.Msg) { m.SetQuestion(apex, 0) }, dns.RcodeFormatError},
		{"TKEY", func(m *dns.Msg) { m.SetQuestion(apex, dns.TypeTKEY) }, dns.RcodeFormatError},
		{"NXNAME", func(m *dns.Msg) { m.SetQuestion(apex, dns.TypeNXNAME) }, dns.RcodeFormatError},
		{"MAILB", func(m *dns.Msg) { m.SetQuestion(apex, dns.TypeMAILB) }, dns.RcodeNotImplemented},
		{"NOTIFY", func(m *dns.Msg) { m.SetNotify(apex) }, dns.RcodeNotAuth},
		{"UPDATE", func(m *dns.Msg) { m.SetUpdate(apex) }, dns.RcodeRefused},
		{"IQUERY", func(m *dns.Msg) { m.Opcode = dns.OpcodeIQuery }, dns.RcodeNotImplemented},
		{"CH", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"class ANY", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }, dns.RcodeRefused},
		{"parent", func(m *dns.Msg) { m.SetQuestion("example.org.", dns.TypeA) }, dns.RcodeRefused},
		{"sibling", func(m *dns.Msg) { m.SetQuestion("xrack1.example.org.", dns.TypeA) }, dns.RcodeRefused},
		{"escaped dot", func(m *dns.Msg) { m.SetQuestion(`a\.rack1.example.org.`, dns.TypeA) }, dns.RcodeRefused},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"OPT with a name", func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().Hdr.Name = apex }, dns.RcodeFormatError},
		{"two OPT", func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }, dns.RcodeFormatError},
		{"control", func(*dns.Msg) {}, dns.RcodeSuccess},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion(apex, dns.TypeNS)
			tc.change(q)
			got := ask(t, h, q)
			if got.Rcode != tc.want || got.Authoritative != (tc.want == dns.RcodeSuccess) {
				t.Errorf("rcode %s, AA %v; want %s", dns.RcodeToString[got.Rcode], got.Authoritative, dns.RcodeToString[tc.want])
			}
			if tc.want != dns.RcodeSuccess && len(got.Answer)+len(got.Ns)+len(got.Extra) > 0 && got.IsEdns0() == nil {
				t.Errorf("sections are not empty:\n%v", got)
			}
		})
	}
}

// Every REFUSED and SERVFAIL says why to those who sent EDNS (RFC 8914), and so do the NOTAUTH for what is not ours.
func TestExtendedErrors(t *testing.T) {
	const none = ^uint16(0)
	born, unknown, empty := serving(load(t, "born")), serving(load(t, "unknown")), NewHandler(zonesOf(NewStore()), nil)
	class := func(name string, c uint16) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetQuestion(name, dns.TypeTXT).Question[0].Qclass = c }
	}
	question := func(name string, qtype uint16) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetQuestion(name, qtype) }
	}
	for _, tc := range []struct {
		name    string
		h       *Handler
		change  func(*dns.Msg)
		rcode   int
		ede     uint16
		because string
	}{
		{"AXFR", born, question(apex, dns.TypeAXFR), dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, ""},
		{"IXFR", born, func(m *dns.Msg) { m.SetIxfr(apex, 1, apex, apex) }, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, ""},
		{"AXFR of another zone", born, question("example.net.", dns.TypeAXFR), dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"IXFR of another zone", born, func(m *dns.Msg) { m.SetIxfr("example.net.", 1, apex, apex) }, dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"UPDATE", born, func(m *dns.Msg) { m.SetUpdate(apex) }, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, ""},
		{"UPDATE of another zone", born, func(m *dns.Msg) { m.SetUpdate("example.net.") }, dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"NOTIFY", born, func(m *dns.Msg) { m.SetNotify(apex) }, dns.RcodeNotAuth, none, ""},
		{"NOTIFY of another zone", born, func(m *dns.Msg) { m.SetNotify("example.net.") }, dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"another opcode", born, func(m *dns.Msg) { m.SetQuestion("example.net.", dns.TypeA).Opcode = dns.OpcodeStatus }, dns.RcodeNotImplemented, none, ""},
		{"another zone", born, question("example.net.", dns.TypeA), dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"the parent's", born, question("example.org.", dns.TypeDS), dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"the root", born, question(".", dns.TypeNS), dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"another zone while ours is not known", unknown, question("example.net.", dns.TypeA), dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative, ""},
		{"version.bind", born, class("version.bind.", dns.ClassCHAOS), dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, ""},
		{"class ANY", born, class(apex, dns.ClassANY), dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, ""},
		{"an unknown class", born, class(apex, 65280), dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, ""},
		{"an unknown class, no zone", empty, class(apex, 65280), dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, ""},
		{"not known yet", unknown, question(server, dns.TypeSRV), dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "not known yet whether the default cluster is born"},
		{"no zone", empty, question(apex, dns.TypeSOA), dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "no zone has been compiled yet"},
		{"NXNAME", born, question(apex, dns.TypeNXNAME), dns.RcodeFormatError, dns.ExtendedErrorCodeInvalidQueryType, ""},
	} {
		for _, edns := range []bool{false, true} {
			q := new(dns.Msg)
			tc.change(q)
			if edns {
				q.SetEdns0(1232, false)
			}
			got := ask(t, tc.h, q)
			code, text := none, ""
			if opt := got.IsEdns0(); opt != nil && len(opt.Option) == 1 {
				code, text = opt.Option[0].(*dns.EDNS0_EDE).InfoCode, opt.Option[0].(*dns.EDNS0_EDE).ExtraText
			}
			wantCode, wantText := tc.ede, tc.because
			if !edns {
				wantCode, wantText = none, ""
			}
			if got.Rcode != tc.rcode || (got.IsEdns0() != nil) != edns || code != wantCode || text != wantText {
				t.Errorf("%s, EDNS %v: want %s with extended error %d %q:\n%v", tc.name, edns, dns.RcodeToString[tc.rcode], wantCode, wantText, got)
			}
		}
	}
	if a := load(t, "born").Lookup("example.net.", dns.TypeA, false); a.Rcode != dns.RcodeRefused || a.EDE != dns.ExtendedErrorCodeNotAuthoritative {
		t.Errorf("Lookup outside of the zone: %+v", a)
	}
}

func TestNextGetsWhatIsNotOurs(t *testing.T) {
	h := serving(load(t, "born"))
	h.Next = test.NextHandler(dns.RcodeBadName, nil)
	for _, tc := range []struct {
		name  string
		class uint16
		next  bool
	}{
		{"example.org.", dns.ClassINET, true}, {"version.bind.", dns.ClassCHAOS, true}, {apex, dns.ClassINET, false}, {"nosuch." + apex, dns.ClassINET, false},
	} {
		q := new(dns.Msg).SetQuestion(tc.name, dns.TypeTXT)
		q.Question[0].Qclass = tc.class
		code, err := h.ServeDNS(context.Background(), &test.ResponseWriter{}, q)
		if err != nil || (code == dns.RcodeBadName) != tc.next {
			t.Errorf("%s: rcode %d, %v; handed on: want %v", tc.name, code, err, tc.next)
		}
	}
}

func TestEmptyStore(t *testing.T) {
	h := NewHandler(zonesOf(NewStore()), nil)
	if h.Ready() {
		t.Error("ready without a zone")
	}
	notReadyCases("no zone has been compiled yet", dns.TypeA, apex)[0].run(t, h)
	notReadyCases("no zone has been compiled yet", dns.TypeSRV, server)[0].run(t, h)
	h = serving(load(t, "unknown"))
	if !h.Ready() {
		t.Error("not ready with a zone")
	}
}

func TestCaseOfTheQuestionIsKept(t *testing.T) {
	snap := load(t, "born")
	h, before := serving(snap), text(t, snap)
	const mixed = "_eTcD-SerVer-sSL._TCP.Rack1.eXample.ORG."
	got := ask(t, h, new(dns.Msg).SetQuestion(mixed, dns.TypeSRV))
	if len(got.Answer) != 3 || got.Question[0].Name != mixed {
		t.Fatalf("answer to %s:\n%v", mixed, got)
	}
	for _, rr := range got.Answer {
		if rr.Header().Name != mixed || rr.(*dns.SRV).Target != strings.ToLower(rr.(*dns.SRV).Target) {
			t.Errorf("record %v: want the owner as asked, and a target in lower case", rr)
		}
	}
	if after := text(t, snap); after != before {
		t.Errorf("the snapshot has become\n%s", after)
	}
}
