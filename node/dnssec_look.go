package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/internal/ask"
	"github.com/etcd-dns/etcd-dns/parent"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

const (
	// lookTimeout bounds one query; lookTries is how many lost packets are forgiven, since one that counted would begin
	// an hour's wait anew.
	lookTimeout = 2 * time.Second
	lookTries   = 3
)

// zoneTTL is the longest TTL of the zone, NS's or that of an extra record, and the negative one.
func zoneTTL(records []dns.RR) time.Duration {
	longest := uint32(3600)
	for _, rr := range records {
		longest = max(longest, rr.Header().Ttl)
	}
	return time.Duration(longest)*time.Second + 5*time.Second
}

// parentDS asks the parent for the DS set of the domain.
type parentDS interface {
	// parentDS asks each of the parent's own servers with RD=0 and returns one set for each; an empty one is a certain
	// no. ttl is the longest TTL seen, in seconds. A server that does not answer with authority is an error.
	parentDS(ctx context.Context) (sets [][]*dns.DS, ttl uint32, err error)
}

// looker sees the zone as a resolver would: by asking.
type looker struct {
	domain string
	ring   *sign.Ring
	// keys are the numbers of the keys in use.
	keys    func() []uint32
	servers func(ctx context.Context) []nameServerAddr
	parent  parentDS
	// records are the zone's extra ones; nil for none.
	records func() []dns.RR
}

// nameServerAddr is one address of one name server; err says why it has none.
type nameServerAddr struct {
	name string
	at   netip.AddrPort
	err  error
}

func (s nameServerAddr) String() string {
	if s.err != nil {
		return s.name
	}
	return s.name + " " + s.at.Addr().String()
}

// look asks all name servers and the parent at once.
func (l *looker) look(ctx context.Context) sign.View {
	var keys []*sign.Key
	for _, n := range l.keys() {
		if k, err := l.ring.Key(n); err == nil {
			keys = append(keys, k)
		}
	}
	servers := l.servers(ctx)
	v := sign.View{Servers: make([]sign.Server, len(servers)), ZoneTTL: zoneTTL(l.extra())}
	var group sync.WaitGroup
	for i, s := range servers {
		group.Go(func() { v.Servers[i] = l.server(ctx, s, keys) })
	}
	group.Go(func() { v.Parent = l.askParent(ctx, keys) })
	group.Wait()
	return v
}

func (l *looker) extra() []dns.RR {
	if l.records == nil {
		return nil
	}
	return l.records()
}

func (l *looker) askParent(ctx context.Context, keys []*sign.Key) (p sign.Parent) {
	sets, ttl, err := l.parent.parentDS(ctx)
	if err != nil {
		return sign.Parent{Err: err.Error()}
	}
	p.TTL = ttl
	for _, set := range sets {
		tags := []uint16{}
		for _, ds := range set {
			tag := uint16(0)
			for _, k := range keys {
				if k.Matches(l.domain, ds) {
					tag = k.Tag()
				}
			}
			tags = append(tags, tag)
		}
		p.Sets = append(p.Sets, tags)
	}
	return p
}

// server asks one address for what a validator needs.
func (l *looker) server(ctx context.Context, s nameServerAddr, keys []*sign.Key) sign.Server {
	out := sign.Server{Name: s.String()}
	if s.err != nil {
		out.Err = s.err.Error()
		return out
	}
	answers := map[uint16][]dns.RR{}
	for _, t := range []uint16{dns.TypeDNSKEY, dns.TypeSOA, dns.TypeCDS} {
		m, err := exchange(ctx, s.at, l.domain, t)
		if err != nil {
			return sign.Server{Name: out.Name, Err: err.Error()}
		}
		answers[t] = m.Answer
	}
	l.read(&out, answers, keys)
	return out
}

// read takes from the answers what a validator needs of them.
func (l *looker) read(out *sign.Server, answers map[uint16][]dns.RR, keys []*sign.Key) {
	for _, k := range keys {
		record := k.DNSKEY(l.domain)
		if signedBy(answers[dns.TypeDNSKEY], dns.TypeDNSKEY, record) && holds(answers[dns.TypeDNSKEY], record) {
			out.Published = append(out.Published, k.Tag())
		}
		if signedBy(answers[dns.TypeSOA], dns.TypeSOA, record) {
			out.Signing = append(out.Signing, k.Tag())
		}
	}
	for _, rr := range answers[dns.TypeSOA] {
		if soa, ok := rr.(*dns.SOA); ok {
			out.Serial = soa.Serial
		}
	}
	out.Deletes = slices.ContainsFunc(answers[dns.TypeCDS], func(rr dns.RR) bool {
		cds, ok := rr.(*dns.CDS)
		return ok && sign.IsDelete(cds)
	})
}

// signedBy reports whether the RRset of that type has a signature that the key verifies. Its dates are left to the
// epoch: this node's clock may be the wrong one.
func signedBy(answer []dns.RR, t uint16, key *dns.DNSKEY) bool {
	var set []dns.RR
	for _, rr := range answer {
		if rr.Header().Rrtype == t {
			set = append(set, rr)
		}
	}
	return len(set) > 0 && slices.ContainsFunc(answer, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && sig.TypeCovered == t && sig.KeyTag == key.KeyTag() && sig.Verify(key, set) == nil
	})
}

func holds(answer []dns.RR, key *dns.DNSKEY) bool {
	return slices.ContainsFunc(answer, func(rr dns.RR) bool {
		k, ok := rr.(*dns.DNSKEY)
		return ok && k.Flags == key.Flags && k.Algorithm == key.Algorithm && k.PublicKey == key.PublicKey
	})
}

// exchange asks a server about its own zone: RD=0, DO set, TCP when the answer is cut. The answer has authority, and is
// NOERROR.
func exchange(ctx context.Context, at netip.AddrPort, name string, t uint16) (m *dns.Msg, err error) {
	what := dns.TypeToString[t]
	q := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: t, Qclass: dns.ClassINET}}}
	q.SetEdns0(ask.UDPSize, true)
	m, err = ask.Server{At: at.String(), Timeout: lookTimeout, Tries: lookTries}.Ask(ctx, q)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask for %s: %w", what, err)
	case m.Rcode != dns.RcodeSuccess:
		return nil, fmt.Errorf("asked for %s it says %s", what, dns.RcodeToString[m.Rcode])
	case !m.Authoritative:
		return nil, fmt.Errorf("asked for %s it answers without authority", what)
	}
	return m, nil
}

// nameServerAddrs lists every address of the NS set that this machine has a route to. Name servers outside of the zone are looked up.
func nameServerAddrs(ctx context.Context, r *roster.Roster, port uint16) (out []nameServerAddr) {
	for _, ns := range r.NameServers {
		addrs, p := ns.Addrs, uint16(dnsPort)
		if label, below := strings.CutSuffix(ns.Name, "."+r.Domain); below {
			if n, ok := r.Node(label); ok {
				addrs, p = n.Addrs, port
			}
		}
		if len(addrs) == 0 {
			var err error
			ctx, cancel := context.WithTimeout(ctx, lookTries*lookTimeout)
			addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", ns.Name)
			cancel()
			if err != nil {
				out = append(out, nameServerAddr{name: ns.Name, err: err})
			}
		}
		for _, a := range parent.Routed(addrs) {
			out = append(out, nameServerAddr{name: ns.Name, at: netip.AddrPortFrom(a.Unmap(), p)})
		}
	}
	return out
}

// parentServers reads the DS sets from what the parent's servers say of the delegation.
type parentServers struct {
	domain string
	ask    func(ctx context.Context, domain string) (parent.View, error)
}

func (p parentServers) parentDS(ctx context.Context) (sets [][]*dns.DS, ttl uint32, err error) {
	v, err := p.ask(ctx, p.domain)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range v.Servers {
		if s.Err != nil {
			return nil, 0, fmt.Errorf("%s: %w", s, s.Err)
		}
		for _, ds := range s.DS {
			ttl = max(ttl, ds.Hdr.Ttl)
		}
		sets = append(sets, s.DS)
	}
	return sets, ttl, nil
}
