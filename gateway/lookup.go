package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/internal/ask"
)

const (
	// tryTimeout is how long one name server has for one answer. Go's and the C library's 5 s would leave no time for the next one.
	tryTimeout = time.Second
	// rounds is how often each name server is asked: UDP loses packets.
	rounds = 2
)

// Resolver asks name servers, at first the one that answered last: one that is silent costs time once, not in each lookup.
type Resolver struct {
	// Servers are ADDRESS:PORT; empty means those of /etc/resolv.conf, read anew for each lookup.
	Servers []string

	first atomic.Uint32 // the place in the list of the server that is asked first
}

// Services are the sources that etcd's clients ask for the members of a domain (client/pkg/v3 srv.GetClient): _etcd-client-ssl, and
// with insecure _etcd-client after it, each with "-" and the srv-name when the cluster has one.
func (r *Resolver) Services(domain, srvName string, insecure bool) []Source {
	if srvName != "" {
		srvName = "-" + srvName
	}
	tls, plain := "_etcd-client-ssl"+srvName+"._tcp."+dns.Fqdn(domain), "_etcd-client"+srvName+"._tcp."+dns.Fqdn(domain)
	if !insecure {
		s := r.service("https", tls)
		s.Hint = "dig SRV " + tls + ", and --insecure-discovery for a cluster without TLS"
		return []Source{s}
	}
	return []Source{r.service("https", tls), r.service("http", plain)}
}

func (r *Resolver) service(scheme, name string) Source {
	return Source{Name: name, Hint: "dig SRV " + name, Lookup: func(ctx context.Context) (Answer, error) {
		a, err := r.srv(ctx, scheme, name)
		if err != nil {
			return Answer{}, fmt.Errorf("look up SRV %s: %w", name, err)
		}
		r.addresses(ctx, a.Endpoints, dns.Fqdn) // a target is absolute: no search list
		return a, nil
	}}
}

// Given is a source for endpoints that the operator wrote; the addresses of their hosts may change.
func (r *Resolver) Given(endpoints []Endpoint) Source {
	return Source{Name: "--endpoints", Hint: "give --endpoints that resolve", Lookup: func(ctx context.Context) (Answer, error) {
		a := Answer{Endpoints: append([]Endpoint(nil), endpoints...), TTL: maxInterval}
		r.addresses(ctx, a.Endpoints, strings.Clone)
		return a, nil
	}}
}

// addresses looks up the addresses of the endpoints in parallel, and leaves out those that it cannot have: the follower keeps
// what it had, and says which it never had.
func (r *Resolver) addresses(ctx context.Context, endpoints []Endpoint, host func(name string) string) {
	var wg sync.WaitGroup
	for i := range endpoints {
		e := &endpoints[i]
		wg.Go(func() {
			addrs, err := r.system().LookupNetIP(ctx, "ip", host(e.Host))
			if err != nil {
				return
			}
			for _, a := range addrs {
				e.Addrs = append(e.Addrs, a.Unmap())
			}
		})
	}
	wg.Wait()
}

// system is Go's resolver for one lookup, for /etc/hosts, the search list and the order of addresses (RFC 6724). Its questions to name
// servers go through exchange: by itself it would give the first server 5 s for each of them.
func (r *Resolver) system() *net.Resolver {
	var failed sync.Map // dns.Question
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { // ends with ctx or the close of near, which both come with the end of the question
			defer func() { _ = far.Close() }()
			r.relay(ctx, &dns.Conn{Conn: far}, &failed)
		}()
		return near, nil
	}}
}

// relay answers one question that comes as over TCP (RFC 1035 §4.2.2), or leaves it without an answer. Go asks again for each line of
// /etc/resolv.conf, twice; what failed at every server is not asked for again.
func (r *Resolver) relay(ctx context.Context, conn *dns.Conn, failed *sync.Map) {
	q, err := conn.ReadMsg()
	if err != nil || len(q.Question) != 1 {
		return
	}
	id, question := q.Id, q.Question[0]
	if _, again := failed.Load(question); again {
		return
	}
	reply, err := r.exchange(ctx, q)
	if err != nil {
		if ctx.Err() == nil {
			failed.Store(question, true)
		}
		return
	}
	reply.Id = id
	_ = conn.WriteMsg(reply) // nobody listens when Go has given up
}

// srv asks for the SRV records of a name. NXDOMAIN and NODATA are answers without endpoints (RFC 2308 §2).
func (r *Resolver) srv(ctx context.Context, scheme, name string) (Answer, error) {
	q := new(dns.Msg).SetQuestion(name, dns.TypeSRV)
	q.SetEdns0(ask.UDPSize, false)
	reply, err := r.exchange(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	return endpoints(scheme, reply), nil
}

// exchange asks one name server after the other until one answers.
func (r *Resolver) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	servers := r.Servers
	if len(servers) == 0 {
		c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("read the name servers: %w", err)
		}
		for _, s := range c.Servers {
			servers = append(servers, net.JoinHostPort(s, c.Port))
		}
	}
	failed := errors.New("/etc/resolv.conf has no nameserver line")
	first, n := r.first.Load(), uint32(len(servers))
	for try := range rounds * n {
		i := (first + try) % n
		reply, err := askOne(ctx, servers[i], q)
		if err == nil {
			r.first.Store(i)
			return reply, nil
		}
		// The next lookup goes on behind it, even if this one has no time left for that.
		r.first.CompareAndSwap(i, (i+1)%n)
		if failed = err; ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// askOne asks one name server. A denial is an answer.
func askOne(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	reply, err := ask.Server{At: server, Timeout: tryTimeout}.Ask(ctx, q)
	switch {
	case err != nil:
		return nil, fmt.Errorf("at %s: %w", server, err)
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("at %s: %s", server, dns.RcodeToString[reply.Rcode])
	}
	return reply, nil
}

// endpoints reads an answer. The TTL is the least of the records', or that of the denial (RFC 2308 §5); the target "." says that
// the service is not there (RFC 2782).
func endpoints(scheme string, reply *dns.Msg) Answer {
	a := Answer{TTL: maxInterval}
	hold := func(seconds uint32) { a.TTL = min(a.TTL, time.Duration(seconds)*time.Second) }
	for _, rr := range reply.Answer {
		hold(rr.Header().Ttl)
		if s, ok := rr.(*dns.SRV); ok && s.Target != "." && s.Port != 0 {
			host := strings.ToLower(strings.TrimSuffix(s.Target, "."))
			a.Endpoints = append(a.Endpoints, Endpoint{Scheme: scheme, Host: host, Port: s.Port, Priority: s.Priority, Weight: s.Weight})
		}
	}
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok && len(a.Endpoints) == 0 {
			hold(min(soa.Hdr.Ttl, soa.Minttl))
		}
	}
	return a
}
