package srvboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const noDomain = "no discovery domain given"

// srvSet is what the domain publishes for its members.
type srvSet struct {
	// scheme is "https" for the -ssl name and "http" for the plain one.
	scheme, name string
	records      []*net.SRV
}

// serverSets looks up both services of the members, as etcd does (server/embed/config.go GetDNSClusterNames). A name
// that does not exist is an empty set; any other failure is an error.
func (t Target) serverSets(ctx context.Context) (sets []srvSet, err error) {
	return t.sets(ctx, "etcd-server")
}

func (t Target) sets(ctx context.Context, service string) (sets []srvSet, err error) {
	suffix := ""
	if t.SrvName != "" {
		suffix = "-" + t.SrvName
	}
	for _, s := range []struct{ scheme, service string }{{"https", service + "-ssl" + suffix}, {"http", service + suffix}} {
		name := "_" + s.service + "._tcp." + t.domain()
		_, records, err := t.Resolver.LookupSRV(ctx, s.service, "tcp", t.domain()+".")
		var dnsErr *net.DNSError
		if err != nil && (!errors.As(err, &dnsErr) || !dnsErr.IsNotFound) {
			return nil, fmt.Errorf("SRV %s: %w", name, err)
		}
		sets = append(sets, srvSet{s.scheme, name, records})
	}
	return sets, nil
}

// domain is the discovery domain in lower case without its trailing dot.
func (t Target) domain() string { return hostName(t.Domain) }

// hostName is a name in lower case without its trailing dot.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// published returns the one set that etcd would boot from, for the checks of its content. A result that is not nil
// says why there is nothing to check; checkSRVOneScheme tells what is wrong.
func (t Target) published(ctx context.Context) (srvSet, *CheckResult) {
	stop := func(r CheckResult) (srvSet, *CheckResult) { return srvSet{}, &r }
	switch {
	case t.Domain == "":
		return stop(skipped(noDomain))
	case t.Resolver == nil:
		return stop(skipped("no resolver given"))
	case t.SkipDNS != "":
		return stop(skipped(t.SkipDNS))
	}
	sets, err := t.serverSets(ctx)
	if err != nil {
		return stop(skipped("see srv-one-scheme: " + err.Error()))
	}
	for _, s := range sets {
		if len(s.records) > 0 && (t.Scheme == "" || t.Scheme == s.scheme) {
			return s, nil
		}
	}
	return stop(skipped("see srv-one-scheme: no SRV records"))
}

func (t Target) serverName(scheme string) string {
	name := "_etcd-server"
	if scheme == "https" {
		name += "-ssl"
	}
	if t.SrvName != "" {
		name += "-" + t.SrvName
	}
	return name + "._tcp." + t.domain()
}

func checkSRVOneScheme(ctx context.Context, t Target) CheckResult {
	switch {
	case t.Domain == "":
		return skipped(noDomain)
	case t.Resolver == nil:
		return skipped("no resolver given")
	case t.SkipDNS != "":
		return skipped(t.SkipDNS)
	}
	var f findings
	sets, err := t.serverSets(ctx)
	if err != nil {
		f.fail(fmt.Sprintf("dig +trace SRV %s.; etcd-dns delegation", t.serverName("https")), "%v", err)
		return f.result("")
	}
	tls, plain := sets[0], sets[1]
	switch {
	case len(tls.records) == 0 && len(plain.records) == 0:
		want := t.Scheme
		if want == "" {
			want = "https"
		}
		f.fail(fmt.Sprintf("publish %s. 30 IN SRV 0 0 2380 NODE.%s. for every member; etcd-dns delegation", t.serverName(want), t.domain()),
			"neither %s nor %s has SRV records", tls.name, plain.name)
	case len(tls.records) > 0 && len(plain.records) > 0:
		f.fail(fmt.Sprintf("withdraw %s., or the -ssl name if the cluster is plain", plain.name),
			"both %s (%d records) and %s (%d records) are published; etcd joins the two sets and makes a wrong cluster",
			tls.name, len(tls.records), plain.name, len(plain.records))
	case t.Scheme == "https" && len(tls.records) == 0:
		f.fail("publish "+tls.name+". instead", "%s is published, but the members speak https, which needs %s", plain.name, tls.name)
	case t.Scheme == "http" && len(plain.records) == 0:
		f.fail("publish "+plain.name+". instead", "%s is published, but the members speak http, which needs %s", tls.name, plain.name)
	}
	t.checkClientSets(ctx, &f)
	if len(plain.records) > 0 {
		tls = plain
	}
	return f.result("only %s is published, %d records", tls.name, len(tls.records))
}

// checkClientSets warns when clients would find both services.
func (t Target) checkClientSets(ctx context.Context, f *findings) {
	clients, err := t.sets(ctx, "etcd-client")
	if err != nil {
		f.warn("dig SRV _etcd-client-ssl._tcp."+t.domain()+".", "%v", err)
		return
	}
	if len(clients[0].records) > 0 && len(clients[1].records) > 0 {
		f.warn("withdraw one of them", "both %s and %s are published; clients try endpoints of both", clients[0].name, clients[1].name)
	}
}

// ownHost is the host name by which the other members know this node.
func (t Target) ownHost() string { return t.hostIn(t.PeerURLs) }

// hostIn is the first host name in URLs of this node, else the node's name below the domain.
func (t Target) hostIn(urls []string) string {
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Hostname() != "" {
			return hostName(u.Hostname())
		}
	}
	if t.Node == "" || t.Domain == "" {
		return ""
	}
	return hostName(t.Node) + "." + t.domain()
}

func checkSRVOwnName(ctx context.Context, t Target) CheckResult {
	own := t.ownHost()
	switch {
	case own == "":
		return skipped("no node name given")
	case t.Spare != "":
		return skipped(t.Spare)
	}
	set, stop := t.published(ctx)
	if stop != nil {
		return *stop
	}
	var targets []string
	for _, r := range set.records {
		if hostName(r.Target) == own {
			return passed("%s has the target %s", set.name, own)
		}
		targets = append(targets, hostName(r.Target))
	}
	// etcd goes by addresses, so an advertised address counts if a target resolves to it.
	for _, ip := range t.literalPeers() {
		for _, r := range set.records {
			addrs, err := t.Resolver.LookupNetIP(ctx, "ip", r.Target)
			if err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == ip.Addr() && r.Port == ip.Port() }) {
				return passed("%s has the target %s with this node's address %s", set.name, hostName(r.Target), ip)
			}
		}
	}
	var f findings
	f.fail(fmt.Sprintf("publish %s. 30 IN SRV 0 0 %d %s.", set.name, t.peerPort(), own),
		"%s has the targets %s, but not this node's name %s", set.name, strings.Join(targets, ", "), own)
	return f.result("")
}

// literalPeers are the advertised peer URLs that give an address.
func (t Target) literalPeers() []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range t.PeerURLs {
		if u, err := url.Parse(s); err == nil {
			if ap, err := netip.ParseAddrPort(u.Host); err == nil {
				out = append(out, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
			}
		}
	}
	return out
}

// defaultPeerPort is etcd's.
const defaultPeerPort = 2380

func (t Target) peerPort() uint16 {
	for _, s := range t.PeerURLs {
		if u, err := url.Parse(s); err == nil {
			if p, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
				return uint16(p)
			}
		}
	}
	return defaultPeerPort
}
