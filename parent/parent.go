// Package parent asks a zone's parent, at its own servers, what it delegates, and changes that by dynamic update.
//
// A resolver shows the child's NS set wherever it has both (RFC 2181 §5.4.1), so that only the parent's servers,
// asked without recursion, can tell what the parent holds.
package parent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Asker finds and asks the parents of zones. It keeps nothing between two questions and is safe for concurrent use.
type Asker struct {
	// Resolvers are the recursive name servers that find the parent's servers; each is tried in order.
	Resolvers []netip.AddrPort
	// Own are addresses of the child's own servers, which never count as the parent's.
	Own []netip.Addr

	// port is where the parent's servers listen; 0 means 53. Tests without root use another.
	port uint16
}

// resolvConf is where the system's resolver is configured (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// System returns an Asker that goes through the resolvers of this machine's resolv.conf.
func System(own []netip.Addr) (Asker, error) {
	c, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return Asker{}, fmt.Errorf("find this machine's resolvers: %w", err)
	}
	a := Asker{Own: own}
	for _, s := range c.Servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			a.Resolvers = append(a.Resolvers, netip.AddrPortFrom(addr, dnsPort))
		}
	}
	if len(a.Resolvers) == 0 {
		return Asker{}, &problem{what: resolvConf + " names no resolver", hint: "add a nameserver line that reaches the parent zone"}
	}
	return a, nil
}

// View is what the servers of a parent zone hold of one delegation.
type View struct {
	// Domain is the child; Zone the parent: absolute, lower case.
	Domain, Zone string
	// Primary is the SOA's MNAME, where updates go (RFC 2136 §4.3).
	Primary string
	// Servers has an entry for each address of the parent's NS set that this machine has a route to, in its order; it is
	// never empty.
	Servers []Server
}

// Ask finds the parent zone of domain and asks each address of its servers. It fails only when there is nobody to
// ask; what a single server did wrong stands in its entry.
func (a Asker) Ask(ctx context.Context, domain string) (View, error) {
	v := View{Domain: dns.CanonicalName(domain)}
	var err error
	if v.Zone, v.Primary, err = a.findZone(ctx, v.Domain); err != nil {
		return v, err
	}
	if v.Servers, err = a.findServers(ctx, v.Zone); err != nil {
		return v, err
	}
	var all sync.WaitGroup
	for i := range v.Servers {
		all.Go(func() { a.askServer(ctx, &v, &v.Servers[i]) })
	}
	all.Wait()
	return v, nil
}

// DSView is the parent's DS RRset as all of its servers give it.
type DSView struct {
	// Common are the records that every answering server has, Any those that at least one has.
	Common, Any []*dns.DS
	// TTL is how long a resolver may keep an answer that it got just now: the longest of all servers, of the DS RRset
	// or, where there is none, of its denial (RFC 2308 §5).
	TTL time.Duration
	// Silent are the servers that did not answer, so that what they hold is not known.
	Silent []string
}

// DS asks for the parent's DS RRset. The error says that no server answered.
func (a Asker) DS(ctx context.Context, domain string) (DSView, error) {
	v, err := a.Ask(ctx, domain)
	if err != nil {
		return DSView{}, err
	}
	return v.DS()
}

// DS returns the DS RRset of the view. The error says that no server answered.
func (v View) DS() (out DSView, err error) {
	var sets [][]*dns.DS
	for _, s := range v.Servers {
		if s.Err != nil {
			out.Silent = append(out.Silent, s.String())
			continue
		}
		sets = append(sets, s.DS)
		out.TTL = max(out.TTL, s.DSTTL)
	}
	if len(sets) == 0 {
		return out, v.silence()
	}
	for _, set := range sets {
		for _, ds := range set {
			if !containsDS(out.Any, ds) {
				out.Any = append(out.Any, ds)
			}
		}
	}
	for _, ds := range out.Any {
		everywhere := true
		for _, set := range sets {
			everywhere = everywhere && containsDS(set, ds)
		}
		if everywhere {
			out.Common = append(out.Common, ds)
		}
	}
	return out, nil
}

// silence is the error of a view in which no server answered.
func (v View) silence() error {
	errs := make([]error, 0, len(v.Servers))
	for _, s := range v.Servers {
		errs = append(errs, fmt.Errorf("%s: %w", s, s.Err))
	}
	return &problem{what: fmt.Sprintf("no server of the parent zone %s could be asked: %v", v.Zone, errors.Join(errs...)),
		hint: "dig +norecurse NS " + v.Domain + " @" + v.Servers[0].Addr.String(), cause: errors.Join(errs...)}
}

// problem is an error with a way out for the operator.
type problem struct {
	what, hint string
	cause      error
}

func (p *problem) Error() string { return p.what }
func (p *problem) Hint() string  { return p.hint }
func (p *problem) Unwrap() error { return p.cause }
