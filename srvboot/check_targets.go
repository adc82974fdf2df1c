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

// checkSRVPeerURL wants the advertised peer URL to be, as a string, the one that etcd makes of the SRV target: then
// every comparison of etcd's holds without a further lookup (client/pkg/srv/srv.go GetCluster, server/config/config.go
// advertiseMatchesCluster).
func checkSRVPeerURL(ctx context.Context, t Target) CheckResult {
	if len(t.PeerURLs) == 0 {
		return skipped("no advertised peer URL given")
	}
	if t.Spare != "" {
		return skipped(t.Spare)
	}
	set, stop := t.published(ctx)
	if stop != nil {
		return *stop
	}
	var urls []string
	for _, r := range set.records {
		urls = append(urls, set.scheme+"://"+net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	var f findings
	for _, have := range t.PeerURLs {
		if slices.Contains(urls, have) {
			continue
		}
		t.explainPeerURL(ctx, &f, have, urls, set)
	}
	return f.result("the advertised peer URL %s is a target of %s", strings.Join(t.PeerURLs, ", "), set.name)
}

// explainPeerURL says how have differs from every URL of the set.
func (t Target) explainPeerURL(ctx context.Context, f *findings, have string, urls []string, set srvSet) {
	u, err := url.Parse(have)
	if err != nil {
		f.fail("write it as https://HOST:PORT", "the advertised peer URL %q cannot be read: %v", have, err)
		return
	}
	for i, r := range set.records {
		target, err := url.Parse(urls[i])
		if err != nil {
			continue
		}
		sameHost := hostName(r.Target) == hostName(u.Hostname())
		if !sameHost && !t.resolvesTo(ctx, r.Target, u.Hostname()) {
			continue
		}
		hint := "advertise " + urls[i]
		switch {
		case u.Scheme != target.Scheme:
			f.fail(hint, "the advertised peer URL %s and the SRV record of %s differ in scheme: %s", have, set.name, target.Scheme)
		case u.Port() != target.Port():
			f.fail(hint+fmt.Sprintf(", or publish port %s", u.Port()), "the advertised peer URL %s and the SRV target %s differ in port: %s", have, urls[i], target.Port())
		case sameHost:
			f.fail("publish the target in lower case and without further differences, as "+have,
				"the advertised peer URL %s and the SRV target %s differ as strings, of which etcd computes its IDs", have, urls[i])
		default:
			f.warn(hint, "the advertised peer URL %s gives an address for the SRV target %s; it matches only while that name has this one address", have, urls[i])
		}
		return
	}
	own := t.ownHost()
	if own == "" {
		own = "NODE." + t.domain()
	}
	f.fail(fmt.Sprintf("publish %s. 30 IN SRV 0 0 %d %s., or advertise one of those", set.name, t.peerPort(), own),
		"the advertised peer URL %s is none of the SRV targets %s", have, strings.Join(urls, ", "))
}

func (t Target) resolvesTo(ctx context.Context, host, literal string) bool {
	want, err := netip.ParseAddr(literal)
	if err != nil {
		return false
	}
	addrs, err := t.Resolver.LookupNetIP(ctx, "ip", host)
	return err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == want.Unmap() })
}

// checkSRVTargetsResolve matters because etcd leaves out, silently, a target that does not resolve, and computes
// another cluster ID from the rest.
func checkSRVTargetsResolve(ctx context.Context, t Target) CheckResult {
	set, stop := t.published(ctx)
	if stop != nil {
		return *stop
	}
	var f findings
	for _, r := range set.records {
		addrs, err := t.Resolver.LookupNetIP(ctx, "ip", r.Target)
		host := hostName(r.Target)
		if err == nil && len(addrs) == 0 {
			err = errors.New("no address")
		}
		if err != nil {
			f.fail("publish "+host+". 30 IN A ADDRESS, or AAAA", "the SRV target %s does not resolve (%v), so etcd would leave the member out", host, err)
		}
	}
	return f.result("all %d targets of %s resolve", len(set.records), set.name)
}

// checkSRVTargetsDisjoint: two members at one address and port are taken for one (client/pkg/srv/srv.go).
func checkSRVTargetsDisjoint(ctx context.Context, t Target) CheckResult {
	set, stop := t.published(ctx)
	if stop != nil {
		return *stop
	}
	type use struct {
		host string
		port uint16
	}
	var f findings
	users := map[netip.Addr][]use{}
	for _, r := range set.records {
		addrs, _ := t.Resolver.LookupNetIP(ctx, "ip", r.Target) // srv-targets-resolve reports a failure
		host := hostName(r.Target)
		for _, a := range addrs {
			for _, u := range users[a.Unmap()] {
				hint := "give each member's name addresses of its own"
				if u.port == r.Port {
					f.fail(hint, "the SRV targets %s and %s share %s", u.host, host, netip.AddrPortFrom(a.Unmap(), r.Port))
				} else if u.host != host {
					f.warn(hint, "the SRV targets %s:%d and %s:%d are on one machine, %s", u.host, u.port, host, r.Port, a.Unmap())
				}
			}
			users[a.Unmap()] = append(users[a.Unmap()], use{host, r.Port})
		}
	}
	return f.result("the %d targets of %s have %d addresses, each its own", len(set.records), set.name, len(users))
}

// checkSRVTargetsInDomain: without a CA file etcd verifies peers by the system's CAs against the discovery domain, and
// anybody has a valid certificate for some other domain.
func checkSRVTargetsInDomain(ctx context.Context, t Target) CheckResult {
	set, stop := t.published(ctx)
	if stop != nil {
		return *stop
	}
	if set.scheme != "https" {
		return skipped("the members do not use TLS")
	}
	if t.CustomCA {
		return skipped("peers are verified by a CA of their own")
	}
	var f findings
	for _, r := range set.records {
		if host := hostName(r.Target); !strings.HasSuffix(host, "."+t.domain()) {
			f.fail("publish a name below "+t.domain()+" as the target, or give the members a CA file (--peer-trusted-ca-file)",
				"the SRV target %s is not below the discovery domain %s, and there is no CA file", host, t.domain())
		}
	}
	return f.result("all targets lie below %s", t.domain())
}

// checkPeerAddress wants the host of the advertised peer URL to lead to this machine.
func checkPeerAddress(ctx context.Context, t Target) CheckResult {
	local, err := t.localAddrs()
	switch {
	case t.SkipDNS != "":
		return skipped(t.SkipDNS)
	case len(t.PeerURLs) == 0 && t.ownHost() == "":
		return skipped("no node name and no advertised peer URL given")
	case err != nil:
		return skipped(err.Error())
	case len(local) == 0:
		return skipped("this host's addresses are not known")
	}
	hosts := []string{}
	for _, s := range t.PeerURLs {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			hosts = append(hosts, u.Hostname())
		}
	}
	if len(hosts) == 0 {
		hosts = append(hosts, t.ownHost())
	}
	var f findings
	for _, host := range hosts {
		t.checkHostIsLocal(ctx, &f, host, local)
	}
	return f.result("%s leads to this host", strings.Join(hosts, ", "))
}

func (t Target) checkHostIsLocal(ctx context.Context, f *findings, host string, local []netip.Addr) {
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else {
		if t.Resolver == nil {
			return
		}
		if addrs, err = t.Resolver.LookupNetIP(ctx, "ip", hostName(host)+"."); err != nil {
			f.fail(fmt.Sprintf("publish %s. 30 IN %s %s", hostName(host), addressType(local[0]), local[0]), "the peer host %s does not resolve: %v", host, err)
			return
		}
	}
	var foreign []netip.Addr
	for _, a := range addrs {
		// All of 127.0.0.0/8 is this host's, whatever the interface lists.
		if a.Unmap().IsLoopback() || slices.Contains(local, a.Unmap().WithZone("")) {
			continue
		}
		foreign = append(foreign, a.Unmap())
	}
	hint := fmt.Sprintf("publish %s. 30 IN %s %s, or another address of this host; ip -brief address", hostName(host), addressType(local[0]), local[0])
	switch {
	case len(foreign) == 0:
	case len(foreign) == len(addrs):
		f.fail(hint, "the peer host %s has the address %s, but this host has %s", host, joinAddrs(foreign), joinAddrs(local))
	default:
		f.warn(hint, "the peer host %s also has the address %s, which is not this host's", host, joinAddrs(foreign))
	}
}

// addressType is the type of the record that holds an address.
func addressType(a netip.Addr) string {
	if a.Is4() {
		return "A"
	}
	return "AAAA"
}

func joinAddrs(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// localAddrs are this host's addresses without those that are only of use on one link. They are nil for a target that
// is not this host.
func (t Target) localAddrs() ([]netip.Addr, error) {
	if t.LocalAddrs != nil || t.Node == "" {
		return t.LocalAddrs, nil
	}
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("this host's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range ifaddrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}
