package stock

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// records are the SRV records that a start is about, of one service.
type records struct {
	scheme, service, domain string
	targets                 []string // HOST:PORT, in lexical order
	// cluster is what etcd makes of them, a line for each member; own has the member's own name.
	cluster []string
	err     error
}

func (r *records) name() string { return "_" + r.service + "._tcp." + r.domain }

// lookSRV looks the records of both services up as etcd does (embed.Config.GetDNSClusterNames), those with TLS first.
func lookSRV(ctx context.Context, s *settings, own types.URLs) (secure, plain *records) {
	look := func(scheme string) *records {
		r := &records{scheme: scheme, service: srv.GetSRVService("etcd-server", s.get("discovery-srv-name"), scheme), domain: s.get("discovery-srv")}
		found, err := lookup(ctx, r.service, r.domain)
		r.targets, r.err = found, err
		if err == nil {
			r.cluster, r.err = srv.GetCluster(scheme, r.service, s.get("name"), r.domain, own)
		}
		return r
	}
	return look("https"), look("http")
}

func lookup(ctx context.Context, service, domain string) (targets []string, err error) {
	_, found, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", domain)
	for _, t := range found {
		targets = append(targets, net.JoinHostPort(strings.TrimSuffix(t.Target, "."), fmt.Sprint(t.Port)))
	}
	slices.Sort(targets)
	return targets, err
}

// checkSRV looks at a start by --discovery-srv, and returns the cluster that etcd will make of it; nil if only etcd can
// tell. etcd fails without records, and without its own among them; of all else it says nothing.
func checkSRV(ctx context.Context, s *settings, say func(string, ...any)) (types.URLsMap, error) {
	own, err := s.urls("initial-advertise-peer-urls")
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // etcd says it
	}
	secure, plain := lookSRV(ctx, s, own)
	all := slices.Concat(secure.cluster, plain.cluster)
	targets := slices.Concat(secure.targets, plain.targets)
	wanted := plain
	if own[0].Scheme == "https" {
		wanted = secure
	}
	record := fmt.Sprintf("%s. 300 IN SRV 0 0 %s NAME., with the address of NAME", wanted.name(), own[0].Port())
	if len(targets) == 0 {
		return nil, &Problem{What: fmt.Sprintf("no SRV records at %s, nor at %s: %v", secure.name(), plain.name(), plain.err), Err: plain.err,
			Fix: fmt.Sprintf("dig SRV %s; publish one for each member: %s", wanted.name(), record)}
	}
	cluster, err := types.NewURLsMap(strings.Join(all, ","))
	if name := s.get("name"); err != nil || cluster[name] == nil {
		what := fmt.Sprintf("cannot find local etcd member %q in SRV records: --initial-advertise-peer-urls is %s, and the records have %s", name, own, strings.Join(targets, ", "))
		if len(wanted.targets) == 0 {
			what += ", but none is at " + wanted.name()
		} else if wanted.err != nil {
			what += ": " + wanted.err.Error()
		}
		return nil, &Problem{What: what, Err: wanted.err, Fix: "publish " + record + "; or correct --initial-advertise-peer-urls"}
	}
	if len(secure.targets) > 0 && len(plain.targets) > 0 {
		say("warning: there are SRV records at %s and at %s: etcd takes the members of both for one cluster's; publish one of the two", secure.name(), plain.name())
	}
	warnUnresolved(ctx, targets, say)
	warnOutside(s, cluster, targets, say)
	return cluster, nil
}

// warnUnresolved: etcd leaves such a target out, and then this member is of another cluster than those that could resolve it.
func warnUnresolved(ctx context.Context, targets []string, say func(string, ...any)) {
	for _, t := range targets {
		host, _, _ := net.SplitHostPort(t)
		if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
			say("warning: the SRV target %s does not resolve, and etcd takes the cluster for one without it: publish its address before any member starts (%v)", host, err)
		}
	}
}

// warnOutside: without a CA of one's own whoever can forge the records can name hosts with valid certificates. What
// protects from that is that etcd looks for the domain in them (embed.Config.PeerURLsMapAndToken), and nothing else does.
func warnOutside(s *settings, cluster types.URLsMap, targets []string, say func(string, ...any)) {
	domain := strings.TrimSuffix(s.get("discovery-srv"), ".")
	if !s.checksDomain(cluster.URLs()) {
		return
	}
	var outside []string
	for _, t := range targets {
		if host, _, _ := net.SplitHostPort(t); host != domain && !strings.HasSuffix(host, "."+domain) {
			outside = append(outside, host)
		}
	}
	if len(outside) > 0 {
		say("warning: the SRV records of %s name %s, outside it: without --peer-trusted-ca-file only the name %s in their certificates tells them from a stranger's; give the members a CA of their own, or names below %s",
			domain, strings.Join(outside, ", "), domain, domain)
	}
}

// checksDomain reports whether the members will look for the discovery domain in each other's certificates: with TLS,
// at the first start, without a CA of their own (embed.Config.PeerURLsMapAndToken). Else they look for the URL's host.
func (s *settings) checksDomain(urls []string) bool {
	tls := slices.ContainsFunc(urls, func(u string) bool { return strings.HasPrefix(u, "https:") })
	return s.get("discovery-srv") != "" && tls && s.get("peer-trusted-ca-file") == "" && s.get("peer-auto-tls") != "true"
}
