package srvboot

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// checkNodeName refuses names made of digits: SRV discovery calls the members that it does not know "0", "1", … and a
// node of that name would be taken for a stranger (client/pkg/srv/srv.go GetCluster).
func checkNodeName(ctx context.Context, t Target) CheckResult {
	names := []string{}
	if t.Node != "" {
		names = append(names, t.Node)
	}
	for _, p := range t.Peers {
		label, _, _ := strings.Cut(hostName(p), ".")
		names = append(names, label)
	}
	if set, stop := t.published(ctx); stop == nil {
		for _, r := range set.records {
			if label, isBelow := strings.CutSuffix(hostName(r.Target), "."+t.domain()); isBelow {
				names = append(names, label)
			}
		}
	}
	if len(names) == 0 {
		return skipped("no names given")
	}
	var f findings
	for _, n := range names {
		if strings.Trim(n, "0123456789") == "" {
			f.fail("give the node a name with a letter, such as infra"+n, "the node name %q is all digits, as are the names that etcd makes up for strangers", n)
		}
	}
	return f.result("the node names are not mistaken for numbers")
}

// checkListenURLs wants addresses where etcd wants them (server/embed/config.go checkBindURLs).
func checkListenURLs(_ context.Context, t Target) CheckResult {
	urls := append(append([]string{}, t.ListenPeerURLs...), t.ListenClientURLs...)
	if len(urls) == 0 {
		return skipped("no listen URLs given")
	}
	var f findings
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" {
			f.fail("write it as https://ADDRESS:PORT", "the listen URL %q cannot be read: %v", s, err)
			continue
		}
		if u.Scheme == "unix" || u.Scheme == "unixs" {
			continue
		}
		host, _, err := net.SplitHostPort(u.Host)
		if err != nil {
			f.fail("add the port, as in https://ADDRESS:2380", "the listen URL %s has no port: %v", s, err)
			continue
		}
		a, err := netip.ParseAddr(host)
		switch {
		case host == "localhost":
		case err != nil:
			f.fail("listen on an address of this host; the name belongs into the advertised URL", "the listen URL %s has the name %q, but etcd binds addresses only", s, host)
		case a.Zone() != "":
			f.fail("listen on an address without a zone", "the listen URL %s has the zone %q, which etcd refuses", s, a.Zone())
		}
	}
	return f.result("all %d listen URLs are addresses", len(urls))
}

// checkAdvertiseClientURLs finds endpoints that only work on this host. Loopback addresses are right when the whole
// cluster lives on them.
func checkAdvertiseClientURLs(_ context.Context, t Target) CheckResult {
	if len(t.ClientURLs) == 0 {
		return skipped("no advertised client URL given")
	}
	onLoopback := len(t.literalPeers()) > 0
	for _, p := range t.literalPeers() {
		onLoopback = onLoopback && p.Addr().IsLoopback()
	}
	var f findings
	for _, s := range t.ClientURLs {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			f.fail("write it as https://HOST:PORT", "the advertised client URL %q names no host", s)
			continue
		}
		host := hostName(u.Hostname())
		a, err := netip.ParseAddr(host)
		hint := "advertise a name that clients resolve, such as " + u.Scheme + "://" + t.exampleHost() + ":" + portOr(u, "2379")
		switch {
		case host == "localhost", err == nil && a.IsLoopback() && !onLoopback:
			f.fail(hint, "the advertised client URL %s leads every client to its own host", s)
		case err == nil && a.IsUnspecified():
			f.fail(hint, "the advertised client URL %s is not an address to connect to", s)
		}
	}
	return f.result("clients elsewhere can use %s", strings.Join(t.ClientURLs, ", "))
}

func (t Target) exampleHost() string {
	if own := t.ownHost(); own != "" {
		return own
	}
	return "NODE.DOMAIN"
}

func portOr(u *url.URL, port string) string {
	if p := u.Port(); p != "" {
		return p
	}
	return port
}
