package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// delegationTTL of the parent's NS and glue records: an hour, because the NS set is configuration.
const delegationTTL = 3600

// Delegation returns the records that the parent zone must hold: the NS set, and glue for every name server below the
// domain (RFC 1034 §4.2.1).
func (o *Options) Delegation() (out []dns.RR) {
	r := o.Roster(func(string) int { return 0 })
	var glue []dns.RR
	for _, s := range r.NameServers {
		out = append(out, &dns.NS{Hdr: header(o.Domain, dns.TypeNS), Ns: s.Name})
		addrs := s.Addrs
		if label, below := strings.CutSuffix(s.Name, "."+o.Domain); below {
			if n, ok := r.Node(label); ok {
				addrs = n.Addrs
			}
		}
		for _, a := range addrs {
			glue = append(glue, addressRecord(s.Name, a))
		}
	}
	return append(out, glue...)
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: delegationTTL}
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: net.IP(a.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())}
}

// DelegationReport is what `delegation` prints.
type DelegationReport struct {
	Domain  string        `json:"domain"`
	Records []dns.RR      `json:"-"`
	Parent  *ParentReport `json:"parent,omitempty"`
}

// MarshalJSON writes the records in master format.
func (d DelegationReport) MarshalJSON() ([]byte, error) {
	type plain DelegationReport
	text := []string{}
	for _, rr := range d.Records {
		text = append(text, rr.String())
	}
	return json.Marshal(struct {
		plain
		Records []string `json:"records"`
	}{plain(d), text})
}

// ParentReport is what the parent's own servers say of the delegation.
type ParentReport struct {
	OK bool `json:"ok"`
	// Zone is the parent zone; Servers the addresses that were asked.
	Zone    string   `json:"zone"`
	Servers []string `json:"servers"`
	// Missing and Unexpected are NS names or glue that differ; Err says why nobody could be asked.
	Missing    []string `json:"missing"`
	Unexpected []string `json:"unexpected"`
	Err        string   `json:"error,omitempty"`
}

// Summary is one line for a person.
func (p *ParentReport) Summary() string {
	switch {
	case p.Err != "":
		return "the parent could not be asked: " + p.Err
	case p.OK:
		return "the parent " + p.Zone + " delegates as above"
	}
	text := "the parent " + p.Zone + " differs:"
	if len(p.Missing) > 0 {
		text += " it lacks " + strings.Join(p.Missing, ", ")
	}
	if len(p.Unexpected) > 0 {
		text += " it has besides " + strings.Join(p.Unexpected, ", ")
	}
	return text
}

// parentTimeout bounds one query to a resolver or a parent's server.
const parentTimeout = 3 * time.Second

// AskParent finds the parent's name servers through the system's resolver and asks them directly: a resolver would
// show the child's NS set, not the parent's view.
func AskParent(ctx context.Context, domain string, want []dns.RR) *ParentReport {
	p := &ParentReport{Servers: []string{}, Missing: []string{}, Unexpected: []string{}}
	servers, err := p.findServers(ctx, domain)
	if err != nil {
		p.Err = err.Error()
		return p
	}
	for _, s := range servers {
		p.Servers = append(p.Servers, s.String())
		r, err := query(ctx, netip.AddrPortFrom(s, 53), dns.Question{Name: domain, Qtype: dns.TypeNS, Qclass: dns.ClassINET})
		if err != nil {
			p.Err = fmt.Sprintf("%s does not answer: %v", s, err)
			return p
		}
		p.compare(slices.Concat(r.Answer, r.Ns, r.Extra), want, domain)
	}
	p.OK = len(p.Missing) == 0 && len(p.Unexpected) == 0 && len(servers) > 0
	return p
}

// findServers walks up from the domain to the closest name that has NS records.
func (p *ParentReport) findServers(ctx context.Context, domain string) ([]netip.Addr, error) {
	for name := domain; ; {
		i, end := dns.NextLabel(name, 0)
		if end {
			return nil, fmt.Errorf("no zone above %s has name servers", domain)
		}
		name = name[i:]
		lookup, cancel := context.WithTimeout(ctx, parentTimeout)
		hosts, err := net.DefaultResolver.LookupNS(lookup, name)
		cancel()
		if err != nil || len(hosts) == 0 {
			continue
		}
		p.Zone = name
		var out []netip.Addr
		for _, h := range hosts {
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h.Host)
			if err == nil {
				out = append(out, addrs[0].Unmap())
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("no address of the name servers of %s is known", name)
		}
		return out, nil
	}
}

func query(ctx context.Context, at netip.AddrPort, q dns.Question) (*dns.Msg, error) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id()}, Question: []dns.Question{q}}
	m.SetEdns0(1232, false)
	client := &dns.Client{Timeout: parentTimeout}
	r, _, err := client.ExchangeContext(ctx, m, at.String())
	if err == nil && r.Truncated {
		client.Net = "tcp"
		r, _, err = client.ExchangeContext(ctx, m, at.String())
	}
	return r, err
}

// compare notes what differs between the parent's records at and below the domain and ours.
func (p *ParentReport) compare(got, want []dns.RR, domain string) {
	have, should := map[string]bool{}, map[string]bool{}
	for _, rr := range got {
		if dns.IsSubDomain(domain, rr.Header().Name) {
			if k := delegationKey(rr); k != "" {
				have[k] = true
			}
		}
	}
	for _, rr := range want {
		should[delegationKey(rr)] = true
	}
	for k := range should {
		if !have[k] && !slices.Contains(p.Missing, k) {
			p.Missing = append(p.Missing, k)
		}
	}
	for k := range have {
		if !should[k] && !slices.Contains(p.Unexpected, k) {
			p.Unexpected = append(p.Unexpected, k)
		}
	}
	slices.Sort(p.Missing)
	slices.Sort(p.Unexpected)
}

// delegationKey names a record without its TTL, which is the parent's own business.
func delegationKey(rr dns.RR) string {
	name := dns.CanonicalName(rr.Header().Name)
	switch rr := rr.(type) {
	case *dns.NS:
		return "NS " + dns.CanonicalName(rr.Ns)
	case *dns.A:
		return name + " A " + rr.A.String()
	case *dns.AAAA:
		return name + " AAAA " + rr.AAAA.String()
	}
	return ""
}
