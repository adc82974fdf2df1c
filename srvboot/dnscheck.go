package srvboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/internal/ask"
)

// checkDelegation asks every name server of the parent zone, directly and without recursion, what it delegates: a
// recursive server answers with the child's NS records and hides the parent's (RFC 2181 §5.4.1).
func checkDelegation(ctx context.Context, t Target) CheckResult {
	switch {
	case t.Delegation == nil || t.Delegation.Recursive == "":
		return skipped("no recursive name server given to find the parent's with")
	case t.Domain == "":
		return skipped(noDomain)
	}
	q := delegationQuery{d: *t.Delegation, domain: dns.Fqdn(t.domain())}
	if q.d.Port == 0 {
		q.d.Port = 53
	}
	var f findings
	parent, servers, err := q.parentServers(ctx)
	if err != nil {
		f.warn("dig +trace NS "+q.domain, "the parent zone of %s cannot be found: %v", q.domain, err)
		return f.result("")
	}
	asked := 0
	for _, s := range servers {
		reply, err := q.ask(ctx, s)
		if err != nil {
			f.warn(fmt.Sprintf("dig +norec @%s NS %s", s.addrs[0], q.domain), "the name server %s of %s does not answer: %v", s.name, parent, err)
			continue
		}
		asked++
		q.compare(&f, s.name, reply)
	}
	if asked == 0 && len(f) == 0 {
		f.warn("dig NS "+parent, "no name server of %s has an address", parent)
	}
	return f.result("%d name servers of %s delegate %s as expected", asked, parent, q.domain)
}

// queryTimeout bounds one try of one query; checkTimeout is longer than two.
const queryTimeout = 2 * time.Second

type delegationQuery struct {
	d      Delegation
	domain string
}

// nameServer is one name server of the parent zone with its addresses, one at least.
type nameServer struct {
	name  string
	addrs []netip.Addr
}

// parentServers walks up from the domain to the nearest name that has NS records of its own, and returns those servers
// that have addresses.
func (q delegationQuery) parentServers(ctx context.Context) (parent string, out []nameServer, err error) {
	recursive, err := netip.ParseAddrPort(q.d.Recursive)
	if err != nil {
		return "", nil, fmt.Errorf("recursive name server %q: %w", q.d.Recursive, err)
	}
	for off, end := dns.NextLabel(q.domain, 0); ; off, end = dns.NextLabel(q.domain, off) {
		parent = "."
		if !end {
			parent = q.domain[off:]
		}
		names, err := q.nsNames(ctx, recursive, parent)
		if err != nil {
			return "", nil, err
		}
		for _, n := range names {
			addrs, err := q.addresses(ctx, recursive, n)
			if err != nil {
				return "", nil, err
			}
			if len(addrs) > 0 {
				out = append(out, nameServer{n, addrs})
			}
		}
		if len(names) > 0 {
			return parent, out, nil
		}
		if end {
			return "", nil, errors.New("no name above has NS records")
		}
	}
}

func (q delegationQuery) nsNames(ctx context.Context, server netip.AddrPort, zone string) ([]string, error) {
	reply, err := q.exchange(ctx, server, question(zone, dns.TypeNS, recursionDesired))
	if err != nil {
		return nil, err
	}
	return nsOf(reply.Answer, zone), nil
}

// addresses returns the host's addresses; none is not an error.
func (q delegationQuery) addresses(ctx context.Context, server netip.AddrPort, host string) (out []netip.Addr, err error) {
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		reply, err := q.exchange(ctx, server, question(host, t, recursionDesired))
		if err != nil {
			return nil, err
		}
		for _, rr := range reply.Answer {
			if a, ok := addressOf(rr); ok {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// ask asks a server without recursion what it delegates, at one address after the other: this machine may speak one
// family alone.
func (q delegationQuery) ask(ctx context.Context, s nameServer) (*dns.Msg, error) {
	var errs []error
	for _, a := range s.addrs {
		reply, err := q.exchange(ctx, netip.AddrPortFrom(a, q.d.Port), question(q.domain, dns.TypeNS, noRecursion))
		if err == nil {
			return reply, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// rd is the RD bit of a query (RFC 1035 §4.1.1).
type rd bool

const (
	recursionDesired rd = true
	noRecursion      rd = false
)

func question(name string, t uint16, recursion rd) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, t)
	m.RecursionDesired = bool(recursion)
	m.SetEdns0(ask.UDPSize, false)
	return m
}

// exchange takes denials, too, for an answer.
func (delegationQuery) exchange(ctx context.Context, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	reply, err := ask.Server{At: server.String(), Timeout: queryTimeout, Tries: 2}.Ask(ctx, m)
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s answered %s for %s", server, dns.RcodeToString[reply.Rcode], m.Question[0].Name)
	}
	return reply, nil
}

// compare reports how one server's delegation differs from the one expected.
func (q delegationQuery) compare(f *findings, server string, reply *dns.Msg) {
	// A referral has them in authority (RFC 1034 §4.3.2); a server that also serves the child answers with them.
	have := nsOf(append(slices.Clone(reply.Ns), reply.Answer...), q.domain)
	var want []string
	for _, ns := range q.d.NameServers {
		want = append(want, dns.Fqdn(strings.ToLower(ns.Name)))
	}
	slices.Sort(want)
	if len(have) == 0 {
		f.warn("etcd-dns delegation", "the name server %s does not delegate %s; expected NS %s", server, q.domain, strings.Join(want, " "))
		return
	}
	if !slices.Equal(have, want) && len(want) > 0 {
		f.warn("etcd-dns delegation", "the name server %s delegates %s to %s; expected %s", server, q.domain, strings.Join(have, " "), strings.Join(want, " "))
	}
	q.compareGlue(f, server, reply)
}

// compareGlue looks at the addresses that a server gives along; they are needed for names within the domain only.
func (q delegationQuery) compareGlue(f *findings, server string, reply *dns.Msg) {
	for _, ns := range q.d.NameServers {
		name := dns.Fqdn(strings.ToLower(ns.Name))
		if !dns.IsSubDomain(q.domain, name) || len(ns.Addrs) == 0 {
			continue
		}
		var glue []netip.Addr
		for _, rr := range reply.Extra {
			if a, ok := addressOf(rr); ok && strings.EqualFold(rr.Header().Name, name) {
				glue = append(glue, a)
			}
		}
		for _, a := range ns.Addrs {
			if !slices.Contains(glue, a) {
				f.warn("etcd-dns delegation", "the name server %s has the glue [%s] for %s; expected %s", server, joinAddrs(glue), name, joinAddrs(ns.Addrs))
				break
			}
		}
	}
}

// nsOf returns the sorted NS names of a zone among the records.
func nsOf(rrs []dns.RR, zone string) []string {
	var out []string
	for _, rr := range rrs {
		if ns, ok := rr.(*dns.NS); ok && strings.EqualFold(ns.Hdr.Name, zone) {
			out = append(out, strings.ToLower(ns.Ns))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A
	case *dns.AAAA:
		ip = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}
