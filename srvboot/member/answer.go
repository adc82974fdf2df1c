package member

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// viewTTL is the TTL of all answers, in seconds; nothing between us and etcd caches.
const viewTTL = 1

// compiledView is a View laid out for questions.
type compiledView struct {
	// domain is absolute with its trailing dot; empty when there is no view yet.
	domain string
	// targets are the addresses of all hosts that SRV records name.
	targets map[string][]netip.Addr
	// records are by lower-case absolute owner name. A name that exists without records has an empty entry.
	records map[string][]dns.RR
	// reverse holds PTR records by owner name.
	reverse map[string][]dns.RR
}

func compileView(v View) *compiledView {
	c := &compiledView{targets: map[string][]netip.Addr{}, records: map[string][]dns.RR{}, reverse: map[string][]dns.RR{}}
	if v.Domain != "" {
		c.domain = strings.ToLower(dns.Fqdn(v.Domain))
		c.records[c.domain] = nil
	}
	for _, name := range sortedKeys(v.Hosts) {
		owner := strings.ToLower(dns.Fqdn(name))
		for _, a := range v.Hosts[name] {
			c.add(addressRecord(owner, a.Unmap()))
			c.addPTR(owner, a.Unmap())
		}
		c.exist(owner)
	}
	for _, name := range sortedKeys(v.SRV) {
		owner := strings.ToLower(dns.Fqdn(name))
		for _, t := range v.SRV[name] {
			c.targets[t.Host] = v.Hosts[t.Host]
			c.add(&dns.SRV{Hdr: header(owner, dns.TypeSRV), Target: strings.ToLower(dns.Fqdn(t.Host)), Port: t.Port})
		}
		c.exist(owner)
	}
	return c
}

func header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: viewTTL}
}

func addressRecord(owner string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func (c *compiledView) add(rr dns.RR) {
	c.records[rr.Header().Name] = append(c.records[rr.Header().Name], rr)
}

func (c *compiledView) addPTR(owner string, a netip.Addr) {
	arpa, err := dns.ReverseAddr(a.WithZone("").String())
	if err != nil {
		return
	}
	c.reverse[arpa] = append(c.reverse[arpa], &dns.PTR{Hdr: header(arpa, dns.TypePTR), Ptr: owner})
}

// exist makes name and everything between it and the domain exist (RFC 8020: no NXDOMAIN above a name that exists).
func (c *compiledView) exist(name string) {
	for dns.IsSubDomain(c.domain, name) && c.domain != "" {
		if _, ok := c.records[name]; !ok {
			c.records[name] = nil
		}
		next, end := dns.NextLabel(name, 0)
		if end || name == c.domain {
			return
		}
		name = name[next:]
	}
}

// answer returns the reply to a question about the view, nil when it is none of the view's business.
func (c *compiledView) answer(req *dns.Msg) *dns.Msg {
	q := req.Question[0]
	name := strings.ToLower(q.Name)
	if ptr, ok := c.reverse[name]; ok {
		return reply(req, matching(ptr, q.Qtype), dns.RcodeSuccess)
	}
	if records, ok := c.records[name]; ok {
		return reply(req, matching(records, q.Qtype), dns.RcodeSuccess)
	}
	if c.owns(name) {
		return reply(req, nil, dns.RcodeNameError)
	}
	return nil
}

// owns reports whether name lies at or below the domain, or is such a name with one of resolv.conf's search domains
// behind it: with "ndots" above a name's dots Go tries these first, and they must not cost a question to a name
// server that is down.
func (c *compiledView) owns(name string) bool {
	if c.domain == "" {
		return false
	}
	return dns.IsSubDomain(c.domain, name) || strings.Contains("."+name, "."+c.domain)
}

func matching(records []dns.RR, qtype uint16) []dns.RR {
	return slices.DeleteFunc(slices.Clone(records), func(rr dns.RR) bool {
		return qtype != dns.TypeANY && rr.Header().Rrtype != qtype
	})
}

// reply is authoritative and claims recursion, as Go takes an empty answer with neither for a lame server's
// (net/dnsclient_unix.go checkHeader).
func reply(req *dns.Msg, records []dns.RR, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(req, rcode)
	m.Authoritative, m.RecursionAvailable = true, true
	m.Answer = records
	return m
}
