package stock

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/netutil"
	"go.uber.org/zap"
)

// resolveWithin bounds the look at whether names are the addresses that they should be.
const resolveWithin = time.Second

// check looks at a start that is not a restart: initialized members ignore all that is checked here, but for addresses.
func check(ctx context.Context, s *settings, say func(string, ...any)) error {
	if err := checkListen(ctx, s); err != nil {
		return err
	}
	warnLocalhost(s, say)
	var cluster types.URLsMap
	var err error
	switch {
	case s.hasLog():
	case s.get("discovery") != "":
	case s.given["discovery-endpoints"]:
		err = checkProtocol3(ctx, s, say)
	case s.get("discovery-srv") != "" && !s.given["initial-cluster"]:
		cluster, err = checkSRV(ctx, s, say)
	case s.given["initial-cluster"]:
		cluster, err = checkStatic(ctx, s, say)
	}
	if err != nil {
		return err
	}
	warnCertificates(s, cluster, say)
	if cluster == nil {
		return nil
	}
	return checkClusterID(ctx, s, cluster, s.get("initial-cluster-token"), say)
}

// checkStatic looks at --initial-cluster.
func checkStatic(ctx context.Context, s *settings, say func(string, ...any)) (types.URLsMap, error) {
	cluster, err := types.NewURLsMap(s.get("initial-cluster"))
	if err != nil {
		return nil, &Problem{What: fmt.Sprintf("--initial-cluster %q: %v", s.get("initial-cluster"), err), Fix: "write NAME=URL,NAME=URL, such as infra0=http://10.0.1.10:2380"}
	}
	warnTwice(cluster, say)
	if err := checkName(s, cluster); err != nil {
		return nil, err
	}
	return cluster, checkAdvertised(ctx, s, cluster)
}

// checkName is the guide's first error: the member is not among those it is to form a cluster with.
func checkName(s *settings, cluster types.URLsMap) error {
	name := s.get("name")
	if _, ok := cluster[name]; ok {
		return nil
	}
	own := s.get("initial-advertise-peer-urls")
	return &Problem{What: fmt.Sprintf("%s not listed in the initial cluster config: --name is %q and --initial-cluster has %s", name, name, strings.Join(slices.Sorted(maps.Keys(cluster)), ", ")),
		Fix: fmt.Sprintf("add %s=%s to --initial-cluster on every member, or give the --name that stands there", name, own)}
}

// checkAdvertised is the guide's second error. Names are resolved and addresses compared as etcd does it; a name that does
// not resolve now is etcd's to ask for again.
func checkAdvertised(ctx context.Context, s *settings, cluster types.URLsMap) error {
	name := s.get("name")
	advertised, err := s.urls("initial-advertise-peer-urls")
	if err != nil {
		return nil //nolint:nilerr // etcd says it
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	a, b := advertised.StringSlice(), cluster[name].StringSlice()
	slices.Sort(a)
	slices.Sort(b)
	same, err := netutil.URLStringsEqual(ctx, zap.NewNop(), a, b)
	if same || ctx.Err() != nil {
		return nil
	}
	return &Problem{What: fmt.Sprintf("%s has different advertised URLs in the cluster and advertised peer URLs list: --initial-cluster says %s, --initial-advertise-peer-urls says %s",
		name, strings.Join(b, ","), strings.Join(a, ",")), Err: err,
		Fix: "write the same URLs in both: those by which the other members reach this one"}
}

func hostOf(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return rest
	}
	return host
}

// checkListen explains what etcd refuses since 3.2: names to listen on.
func checkListen(ctx context.Context, s *settings) error {
	for _, flag := range []string{"listen-peer-urls", "listen-client-urls", "listen-metrics-urls", "listen-client-http-urls"} {
		if s.get(flag) == "" {
			continue
		}
		urls, err := s.urls(flag)
		if err != nil {
			return nil //nolint:nilerr // etcd says it
		}
		for _, u := range urls {
			host := u.Hostname()
			if u.Scheme == "unix" || u.Scheme == "unixs" || host == "localhost" || net.ParseIP(host) != nil {
				continue
			}
			p := &Problem{What: fmt.Sprintf("--%s %s: expected an IP address to listen on, but %s is a name", flag, u.String(), host),
				Fix: "write this machine's address; names belong into the URLs that are advertised"}
			if found, err := net.DefaultResolver.LookupHost(ctx, host); err == nil && len(found) > 0 {
				p.Fix = fmt.Sprintf("write --%s %s://%s, which is what the name resolves to", flag, u.Scheme, net.JoinHostPort(found[0], u.Port()))
			}
			return p
		}
	}
	return nil
}

// warnLocalhost: clients elsewhere are told to connect to themselves.
func warnLocalhost(s *settings, say func(string, ...any)) {
	for _, flag := range []string{"advertise-client-urls", "initial-advertise-peer-urls"} {
		urls, err := s.urls(flag)
		if err != nil || flag == "initial-advertise-peer-urls" && !s.given["initial-cluster"] {
			continue
		}
		for _, u := range urls {
			ip := net.ParseIP(u.Hostname())
			if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) || alone(s) {
				continue
			}
			say("warning: --%s is %s, which is no address that other machines reach this member at: write %s://ADDRESS:%s", flag, u.String(), u.Scheme, u.Port())
		}
	}
}

// alone reports whether all of the cluster is on loopback, as when somebody tries etcd.
func alone(s *settings) bool {
	peers := strings.Split(s.get("initial-advertise-peer-urls"), ",")
	if cluster, err := types.NewURLsMap(s.get("initial-cluster")); err == nil && s.given["initial-cluster"] {
		peers = cluster.URLs()
	}
	for _, u := range peers {
		host := hostOf(u)
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// warnTwice: etcd takes two members of one name for one with both URLs, and waits for fewer.
func warnTwice(cluster types.URLsMap, say func(string, ...any)) {
	for _, name := range slices.Sorted(maps.Keys(cluster)) {
		hosts := map[string]bool{}
		for _, u := range cluster[name] {
			hosts[u.Hostname()] = true
		}
		if len(hosts) > 1 {
			say("warning: --initial-cluster has %s at %s: etcd takes them for one member; if they are several machines, give each its own name",
				name, strings.Join(slices.Sorted(maps.Keys(hosts)), " and "))
		}
	}
}
