package parent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// findZone walks up from the domain to the zone that its delegation stands in.
func (a Asker) findZone(ctx context.Context, domain string) (zone, primary string, err error) {
	for name := domain; name != "."; {
		name = above(name)
		m, err := a.lookup(ctx, name, dns.TypeSOA)
		if err != nil {
			return "", "", err
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns) {
			// RFC 2308 §2: a denial carries the SOA of the zone that the name would be in. An alias may lead to another
			// zone's, which is not above the name.
			soa, ok := rr.(*dns.SOA)
			if ok && dns.IsSubDomain(soa.Hdr.Name, name) {
				return dns.CanonicalName(soa.Hdr.Name), dns.CanonicalName(soa.Ns), nil
			}
		}
	}
	return "", "", &problem{what: "no zone above " + domain + " has an SOA record", hint: "dig SOA " + above(domain)}
}

// above returns the name without its first label.
func above(name string) string {
	if i, end := dns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}

// findServers returns an entry for each address of the zone's name servers, but for our own.
func (a Asker) findServers(ctx context.Context, zone string) (out []Server, err error) {
	m, err := a.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, rr := range m.Answer {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		addrs, err := a.addresses(ctx, ns.Ns)
		errs = append(errs, err)
		for _, addr := range addrs {
			if !slices.Contains(a.Own, addr) && !slices.ContainsFunc(out, func(s Server) bool { return s.Addr == addr }) {
				out = append(out, Server{Name: dns.CanonicalName(ns.Ns), Addr: addr})
			}
		}
	}
	if len(out) == 0 {
		err := errors.Join(errs...)
		return nil, &problem{what: joinCause("no address of the name servers of "+zone+" is known but our own", err),
			hint: "dig NS " + zone, cause: err}
	}
	return out, nil
}

func joinCause(what string, err error) string {
	if err != nil {
		what += ": " + err.Error()
	}
	return what
}

// addresses returns a host's addresses of both families, see Routed.
func (a Asker) addresses(ctx context.Context, host string) (out []netip.Addr, err error) {
	var errs []error
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := a.lookup(ctx, host, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, rr := range m.Answer {
			if addr, ok := addressOf(rr); ok {
				out = append(out, addr)
			}
		}
	}
	return Routed(out), errors.Join(errs...)
}

// addressOf returns the address of an A or AAAA record.
func addressOf(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		addr, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return addr.Unmap(), ok
}

// lookup asks the resolvers in turn until one gives an answer or a denial.
func (a Asker) lookup(ctx context.Context, name string, t uint16) (*dns.Msg, error) {
	var errs []error
	for _, r := range a.Resolvers {
		q := question(name, t)
		q.RecursionDesired = true
		m, err := server(r).Ask(ctx, q)
		switch {
		case err != nil:
		case !m.RecursionAvailable: // RFC 1035 §4.1.1: it does not look further than its own zones
			err = errors.New("it is no resolver")
		case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
			return m, nil
		default:
			err = errors.New(dns.RcodeToString[m.Rcode])
		}
		errs = append(errs, fmt.Errorf("resolver %s: %w", r.Addr(), err))
	}
	err := errors.Join(errs...)
	return nil, &problem{what: fmt.Sprintf("%s %s cannot be looked up: %v", name, dns.TypeToString[t], err), hint: "dig " + dns.TypeToString[t] + " " + name, cause: err}
}
