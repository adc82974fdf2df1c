package parent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/internal/ask"
)

const (
	dnsPort = 53
	// queryTimeout bounds one try of one query: a server on the other side of the world takes a tenth of that.
	queryTimeout = 2 * time.Second
	// tries over UDP, since a datagram may be lost.
	tries = 3
)

// Server is what one server of the parent says.
type Server struct {
	// Name is the server's host name, absolute; Addr the address that was asked.
	Name string
	Addr netip.Addr
	// NS and Glue are the referral; both are empty where there is no delegation.
	NS   []*dns.NS
	Glue []dns.RR
	// DS is the delegation's DS RRset, and DSTTL how long a resolver may keep it or its denial.
	DS    []*dns.DS
	DSTTL time.Duration
	// Child says that the server serves the child zone too. It then answers for NS and glue from the child's zone, and
	// what the parent holds cannot be seen there; DS is the parent's all the same (RFC 4035 §3.1.4.1).
	Child bool
	// Err says why nothing else here is filled in.
	Err error
}

// String is the server's name and address.
func (s Server) String() string { return s.Name + " (" + s.Addr.String() + ")" }

// MarshalJSON writes the records in master format.
func (s Server) MarshalJSON() ([]byte, error) {
	out := struct {
		Name    string   `json:"name"`
		Address string   `json:"address"`
		Records []string `json:"records"`
		Child   bool     `json:"serves_child,omitempty"`
		Err     string   `json:"error,omitempty"`
	}{s.Name, s.Addr.String(), []string{}, s.Child, ""}
	for _, rr := range s.records() {
		out.Records = append(out.Records, rr.String())
	}
	if s.Err != nil {
		out.Err = s.Err.Error()
	}
	return json.Marshal(out)
}

// records are NS, glue and DS in this order.
func (s Server) records() (out []dns.RR) {
	for _, ns := range s.NS {
		out = append(out, ns)
	}
	out = append(out, s.Glue...)
	for _, ds := range s.DS {
		out = append(out, ds)
	}
	return out
}

// askServer fills in an entry of the view.
func (a Asker) askServer(ctx context.Context, v *View, s *Server) {
	at := server(netip.AddrPortFrom(s.Addr, cmp.Or(a.port, dnsPort)))
	r, err := at.Ask(ctx, question(v.Domain, dns.TypeNS))
	if err == nil {
		err = s.readReferral(r, v)
	}
	if err == nil && s.lacksGlue(v.Domain) {
		// Servers from before RFC 9471 leave out what does not fit UDP without a word; over TCP all of it fits.
		at.TCP = true
		if whole, tcpErr := at.Ask(ctx, question(v.Domain, dns.TypeNS)); tcpErr == nil {
			err = s.readReferral(whole, v)
		}
	}
	if err == nil {
		at.TCP = false
		r, err = at.Ask(ctx, question(v.Domain, dns.TypeDS))
	}
	if err == nil {
		err = s.readDS(r, v)
	}
	if err != nil {
		*s = Server{Name: s.Name, Addr: s.Addr, Err: err}
	}
}

// readReferral takes the delegation from the answer to an NS query without recursion.
func (s *Server) readReferral(r *dns.Msg, v *View) error {
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return fmt.Errorf("it answers %s, so it does not serve %s", dns.RcodeToString[r.Rcode], v.Zone)
	}
	s.NS, s.Glue = nil, nil
	if slices.ContainsFunc(r.Answer, func(rr dns.RR) bool { return isAt[*dns.NS](rr, v.Domain) }) {
		if !r.Authoritative {
			return errors.New("it answers from a cache")
		}
		s.Child = true
		return nil
	}
	for _, rr := range r.Ns {
		// RFC 1034 §4.3.2 step 3b: a referral is the NS RRset of the cut in the authority section.
		if isAt[*dns.NS](rr, v.Domain) {
			s.NS = append(s.NS, rr.(*dns.NS))
		}
	}
	if len(s.NS) == 0 {
		// RFC 2308 §2: a denial comes with the zone's SOA, and only the zone's own servers set AA.
		if r.Authoritative && slices.ContainsFunc(r.Ns, func(rr dns.RR) bool { return isAt[*dns.SOA](rr, v.Zone) }) {
			return nil
		}
		return fmt.Errorf("it neither delegates %s nor denies it, so it does not serve %s", v.Domain, v.Zone)
	}
	for _, rr := range r.Extra {
		if _, ok := addressOf(rr); ok && dns.IsSubDomain(v.Domain, rr.Header().Name) {
			s.Glue = append(s.Glue, rr)
		}
	}
	return nil
}

// lacksGlue reports whether a name server below the domain came without an address.
func (s *Server) lacksGlue(domain string) bool {
	return slices.ContainsFunc(s.NS, func(ns *dns.NS) bool {
		return dns.IsSubDomain(domain, ns.Ns) &&
			!slices.ContainsFunc(s.Glue, func(rr dns.RR) bool { return sameName(rr.Header().Name, ns.Ns) })
	})
}

// readDS takes the DS RRset, which the parent is authoritative for (RFC 4035 §2.4).
func (s *Server) readDS(r *dns.Msg, v *View) error {
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return fmt.Errorf("it answers %s when asked for DS", dns.RcodeToString[r.Rcode])
	}
	if !r.Authoritative {
		return errors.New("it answers for DS without authority") // then an empty answer is no denial
	}
	for _, rr := range r.Answer {
		if isAt[*dns.DS](rr, v.Domain) {
			s.DS = append(s.DS, rr.(*dns.DS))
			s.DSTTL = max(s.DSTTL, time.Duration(rr.Header().Ttl)*time.Second)
		}
	}
	for _, rr := range r.Ns {
		if soa, ok := rr.(*dns.SOA); ok && len(s.DS) == 0 {
			s.DSTTL = time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second // RFC 2308 §5
		}
	}
	return nil
}

// isAt reports whether rr is of type T and owned by name.
func isAt[T dns.RR](rr dns.RR, name string) bool {
	_, ok := rr.(T)
	return ok && sameName(rr.Header().Name, name)
}

func sameName(a, b string) bool { return dns.CanonicalName(a) == dns.CanonicalName(b) }

// question is a query without recursion.
func question(name string, t uint16) *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id()}, Question: []dns.Question{{Name: name, Qtype: t, Qclass: dns.ClassINET}}}
	return m.SetEdns0(ask.UDPSize, true)
}

// server is how one of the parent's servers, or a resolver, is asked.
func server(at netip.AddrPort) ask.Server {
	return ask.Server{At: at.String(), Timeout: queryTimeout, Tries: tries}
}
