//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The tests of RFC 8906 §8, and what the RFC says elsewhere of answers, at every plain door of a node, and at NSD with the same
// signed zone as the control.

// compliance is one test: a query and the form of its answer, as form writes it.
type compliance struct {
	// section is of RFC 8906 unless another one is named.
	section, name string
	query         func(zone string) *dns.Msg
	want          string
	// but are the doors that answer otherwise.
	but []deviation
	// tcp leaves UDP out.
	tcp bool
}

// deviation is what doors whose name begins with at say instead. A door that no longer says it fails, too.
type deviation struct{ at, says, why string }

const (
	byHeader = "CoreDNS's listener has read the header only"
	nsdBare  = "NSD leaves the question out of such an error"
)

var (
	nsdResets = deviation{"NSD TCP", "connection reset", "NSD ends a TCP connection with a message shorter than a question"}
	// definedOptions are those that the RFC asks with, in §8.2.10.
	definedOptions = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: clientCookie}, nsidOption,
		&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: []byte{0, 0, 0, 0}}}
	nsidOption    = &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	unknownOption = &dns.EDNS0_LOCAL{Code: 100}
	// brokenOption is a client subnet of address family 9 (RFC 7871 §6).
	brokenOption = &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: []byte{0, 9, 24, 0, 192, 0, 2}}
)

// noDO: RFC 8906 §8.2.9 expects it in BADVERS if an answer to version 0 has it.
var noDO = []deviation{{"own UDP", "BADVERS; EDNS", "CoreDNS's listener leaves DO out"}, {"own TLS", "BADVERS; EDNS", "CoreDNS's listener leaves DO out"}, {"NSD", "BADVERS; EDNS", "NSD leaves DO out"}}

func basicDNS() []compliance {
	const soa = "NOERROR aa; answer SOA"
	return []compliance{
		{section: "8.1.1", name: "SOA", query: askFor(dns.TypeSOA), want: soa},
		{section: "8.1.2", name: "TYPE1000", query: askFor(1000), want: "NOERROR aa; authority SOA"},
		{section: "8.1.3.1", name: "CD", query: askFor(dns.TypeSOA, func(m *dns.Msg) { m.CheckingDisabled = true }), want: soa}, // RFC 4035 §3.1.6
		{section: "8.1.3.2", name: "AD", query: askFor(dns.TypeSOA, func(m *dns.Msg) { m.AuthenticatedData = true }), want: soa},
		{section: "8.1.3.3", name: "reserved bit", query: askFor(dns.TypeSOA, func(m *dns.Msg) { m.Zero = true }), want: soa},
		{section: "8.1.3.4", name: "RD", query: askFor(dns.TypeSOA, func(m *dns.Msg) { m.RecursionDesired = true }), want: "NOERROR aa rd; answer SOA"},
		{section: "8.1.4", name: "opcode 15", query: askHeader(15), want: "opcode 15 NOTIMP; no question", but: []deviation{nsdResets}},
		{section: "8.1.5", name: "SOA over TCP", query: askFor(dns.TypeSOA), want: soa, tcp: true},

		{section: "2", name: "all bits of the header", query: askFor(dns.TypeSOA, withAllBits), want: "NOERROR aa rd; answer SOA"},
		{section: "3.1.1", name: "a zone that is not ours", query: askFor(dns.TypeSOA, withName("example.net.")), want: "REFUSED"},
		{section: "3.1.2", name: "a meta type", query: askFor(dns.TypeMAILB), want: "NOTIMP",
			but: []deviation{{"NSD", "NOERROR aa; authority SOA", "for NSD MAILB is a type like any other"}}},
		{section: "4", name: "an unknown class", query: askFor(dns.TypeSOA, withClass(65280)), want: "REFUSED",
			but: []deviation{{"NSD", "REFUSED; no question", nsdBare}}},
		{section: "7", name: "an unknown type at no name", query: askFor(1000, withLabel("nosuch")), want: "NXDOMAIN aa; authority SOA"},
	}
}

// opcodes are those that nobody knows, and two that a primary does not take from everybody.
func opcodes() (rows []compliance) {
	for o := range 15 {
		if !slices.Contains([]int{dns.OpcodeQuery, dns.OpcodeNotify, dns.OpcodeUpdate}, o) {
			rows = append(rows, compliance{section: "3.1.4", name: fmt.Sprintf("opcode %d", o), query: askHeader(o),
				want: fmt.Sprintf("opcode %d NOTIMP; no question", o), but: []deviation{nsdResets}})
		}
	}
	forgets := []deviation{{"fast UDP", "FORMERR; no question", byHeader + ", and forgets the opcode"},
		{"own UDP", "FORMERR; no question", byHeader + ", and forgets the opcode"}, {"own TLS", "FORMERR; no question", byHeader + ", and forgets the opcode"}, nsdResets}
	return append(rows, []compliance{
		{section: "3.1.4", name: "opcode 15 with question and EDNS", query: askFor(dns.TypeSOA, withOpcode(15), withEDNS(0, 0)), want: "opcode 15 NOTIMP; no question"},
		{section: "2", name: "opcode 15 with all bits of the header", query: askHeader(15, withAllBits), want: "opcode 15 NOTIMP rd; no question",
			but: []deviation{{"own TLS", "opcode 15 NOTIMP tc rd ra ad cd; no question", byHeader + ", and copies it"},
				{"NSD UDP", "opcode 15 NOTIMP aa tc rd ra z cd; no question", "NSD copies the header"}, nsdResets}},
		{section: "7", name: "no question", query: askHeader(dns.OpcodeQuery), want: "FORMERR; no question", but: []deviation{nsdResets}},
		{section: "7", name: "NOTIFY without question", query: askHeader(dns.OpcodeNotify), want: "opcode 4 FORMERR; no question", but: forgets},
		{section: "7", name: "UPDATE without zone", query: askHeader(dns.OpcodeUpdate), want: "opcode 5 FORMERR; no question",
			but: append(slices.Clone(forgets), deviation{"NSD UDP", "opcode 5 NOTIMP; no question", "NSD knows no UPDATE"})},
		{section: "7", name: "NOTIFY", query: askFor(dns.TypeSOA, withOpcode(dns.OpcodeNotify)), want: "opcode 4 NOTAUTH",
			but: []deviation{{"NSD", "opcode 4 REFUSED; no question", nsdBare}}},
	}...)
}

func extendedDNS() []compliance {
	const soa, badvers = "NOERROR aa; answer SOA; EDNS", "BADVERS; EDNS"
	return []compliance{
		{section: "8.2.1", name: "EDNS", query: askFor(dns.TypeSOA, withEDNS(0, 0)), want: soa},
		{section: "8.2.2", name: "version 1", query: askFor(dns.TypeSOA, withEDNS(1, 0)), want: badvers},
		{section: "8.2.3", name: "an unknown option", query: askFor(dns.TypeSOA, withEDNS(0, 0, unknownOption)), want: soa},
		{section: "8.2.4", name: "an unknown flag", query: askFor(dns.TypeSOA, withEDNS(0, 0x40)), want: soa},
		{section: "8.2.5", name: "version 1 with an unknown flag", query: askFor(dns.TypeSOA, withEDNS(1, 0x40)), want: badvers},
		{section: "8.2.6", name: "version 1 with an unknown option", query: askFor(dns.TypeSOA, withEDNS(1, 0, unknownOption)), want: badvers},
		{section: "8.2.7", name: "DNSKEY in 512 octets", query: askFor(dns.TypeDNSKEY, withEDNS(0, flagDO), withSize(512)), want: "NOERROR aa; answer DNSKEY RRSIG; EDNS DO"},
		{section: "8.2.7", name: "what does not fit in 512 octets", query: askFor(dns.TypeTXT, withLabel("big"), withEDNS(0, flagDO), withSize(512)),
			want: "NOERROR aa tc; EDNS DO", but: overAll("T", "NOERROR aa; answer RRSIG TXT TXT; EDNS DO", "§3.2.7: over TCP the size does not count")},
		{section: "8.2.8", name: "DO", query: askFor(dns.TypeSOA, withEDNS(0, flagDO)), want: "NOERROR aa; answer RRSIG SOA; EDNS DO"},
		{section: "8.2.9", name: "version 1 with DO", query: askFor(dns.TypeSOA, withEDNS(1, flagDO)), want: "BADVERS; EDNS DO", but: noDO},
		{section: "8.2.10", name: "defined options", query: askFor(dns.TypeSOA, withEDNS(0, 0, definedOptions...)), want: "NOERROR aa; answer SOA; EDNS COOKIE NSID"},

		{section: "2", name: "all flags of EDNS", query: askFor(dns.TypeSOA, withEDNS(0, 0xffff)), want: "NOERROR aa; answer RRSIG SOA; EDNS DO"},
		{section: "2", name: "a malformed option", query: askFor(dns.TypeSOA, withEDNS(0, 0, brokenOption)), want: "FORMERR; EDNS", // RFC 6891 §7
			but: []deviation{{"own UDP", "FORMERR", "CoreDNS's listener leaves EDNS out"}, {"own TLS", "FORMERR", "CoreDNS's listener leaves EDNS out"}, {"NSD", soa, "NSD knows no such option"}}},
		{section: "6", name: "nothing of the query before", query: askFor(dns.TypeSOA, withEDNS(0, 0)), want: soa},
		{section: "6", name: "no EDNS behind EDNS", query: askFor(dns.TypeSOA), want: "NOERROR aa; answer SOA"},
		{section: "7", name: "an unknown type at no name", query: askFor(1000, withLabel("nosuch"), withEDNS(0, 0)), want: "NXDOMAIN aa; authority SOA; EDNS"},
	}
}

// extendedErrors are of RFC 8914 and of what a server says of itself.
func extendedErrors() []compliance {
	const nowhere, unsupported = "REFUSED; EDNS EDE=20", "REFUSED; EDNS EDE=21"
	rows := []compliance{
		{section: "RFC 8914 §4.21", name: "a zone that is not ours", query: askFor(dns.TypeSOA, withName("example.net."), withEDNS(0, 0)), want: nowhere},
		{section: "RFC 8914 §4.21", name: "the parent's DS", query: askFor(dns.TypeDS, withName("example.com."), withEDNS(0, flagDO)), want: "REFUSED; EDNS DO EDE=20"},
		{section: "RFC 8914 §4.21", name: "the root", query: askFor(dns.TypeNS, withName("."), withEDNS(0, 0)), want: nowhere},
		{section: "RFC 8914 §4.21", name: "with options", query: askFor(dns.TypeSOA, withName("example.net."), withEDNS(0, 0, definedOptions...)), want: "REFUSED; EDNS COOKIE EDE=20 NSID"},
		{section: "RFC 8914 §4.19", name: "AXFR", query: askFor(dns.TypeAXFR, withEDNS(0, 0)), want: "REFUSED; EDNS EDE=18",
			but: []deviation{{"NSD UDP", "NOTIMP; EDNS", "NSD knows no AXFR over UDP"}}},
		{section: "RFC 5936 §2.2.1", name: "AXFR of a zone that is not ours", query: askFor(dns.TypeAXFR, withName("example.net."), withEDNS(0, 0)), want: "NOTAUTH; EDNS EDE=20",
			but: []deviation{{"NSD UDP", "NOTIMP; EDNS", "NSD knows no AXFR over UDP"}, {"NSD TCP", "NOTAUTH; EDNS", "without an extended error"}}},
		{section: "RFC 8914 §4.19", name: "UPDATE", query: askFor(dns.TypeSOA, withOpcode(dns.OpcodeUpdate), withEDNS(0, 0)), want: "opcode 5 REFUSED; EDNS EDE=18",
			but: []deviation{{"NSD", "opcode 5 NOTIMP; no question", "NSD knows no UPDATE"}}},
		{section: "RFC 8914 §4.22", name: "an unknown class", query: askFor(dns.TypeSOA, withClass(65280), withEDNS(0, 0)), want: unsupported,
			but: []deviation{{"NSD", "REFUSED; no question; EDNS EDE=21", nsdBare}}},
	}
	for _, name := range []string{"version.bind.", "version.server.", "hostname.bind.", "id.server."} {
		rows = append(rows, compliance{section: "RFC 8914 §4.22", name: name, query: askFor(dns.TypeTXT, withName(name), withClass(dns.ClassCHAOS), withEDNS(0, 0)), want: unsupported,
			but: []deviation{{"NSD", "REFUSED; EDNS EDE=18", "to NSD it is a question of policy"}}})
	}
	return append(rows,
		compliance{section: "RFC 5001 §2.2", name: "NSID", query: askFor(dns.TypeSOA, withEDNS(0, 0, nsidOption)), want: "NOERROR aa; answer SOA; EDNS NSID"},
		compliance{section: "RFC 5001 §2.2", name: "no NSID", query: askFor(dns.TypeSOA, withEDNS(0, 0)), want: "NOERROR aa; answer SOA; EDNS"})
}

func TestRFC8906(t *testing.T) {
	t.Parallel()
	l := bootCompliant(t)
	for _, part := range []struct {
		name string
		rows []compliance
	}{{"Basic", basicDNS()}, {"Opcodes", opcodes()}, {"EDNS", extendedDNS()}, {"ExtendedErrors", extendedErrors()}} {
		t.Run(part.name, func(t *testing.T) {
			for _, row := range part.rows {
				t.Run(row.section+" "+row.name, func(t *testing.T) { l.judge(t, row) })
			}
		})
	}
	t.Run("Chaos", l.chaos)
	t.Run("OtherBlock", func(t *testing.T) {
		for _, d := range l.doors[:2] {
			// The block's acl says Filtered, and sets DO by itself.
			q := askFor(dns.TypeSOA, withName("host.other.example.net."), withEDNS(0, 0))("")
			if got := l.form(d, q); got != "NOERROR; EDNS DO EDE=17" {
				t.Errorf("%s: %s, want the other server block's answer", d.name, got)
			}
		}
	})
}

// judge asks every door.
func (l *compliant) judge(t *testing.T, row compliance) {
	t.Helper()
	for _, d := range l.doors {
		if row.tcp && d.network == "udp" {
			continue
		}
		want, why := row.want, ""
		for _, dev := range row.but {
			if strings.HasPrefix(d.name, dev.at) {
				want, why = dev.says, " ("+dev.why+")"
			}
		}
		if got := l.form(d, row.query(l.Domain)); got != want {
			t.Errorf("%s: %s\nwant %s%s", d.name, got, want, why)
		}
	}
}

// overAll is a deviation of all doors of a transport.
func overAll(transport, says, why string) (out []deviation) {
	for _, who := range []string{"fast ", "own ", "NSD "} {
		out = append(out, deviation{who + transport, says, why})
	}
	return out
}
