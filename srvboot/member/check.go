package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// failure is why a child ends, with what the parent needs to react.
type failure struct {
	cause cause
	hint  string
	err   error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func wrongIdentity(format string, args ...any) error {
	return &failure{cause: causeIdentity, err: fmt.Errorf(format, args...)}
}

// before checks everything that can be known before etcd touches the data directory (safety.md R8). What etcd would
// find out itself it would find out too late: with a write-ahead log written, or with a smaller cluster born.
func (c *child) before(ctx context.Context, cfg *embed.Config) error {
	walDir := filepath.Join(c.spec.DataDir, "member", "wal")
	if wal.Exist(walDir) {
		return c.beforeRestart(ctx, cfg, walDir)
	}
	// etcd only asks whether there is a log, and would serve such a database under a new identity (safety.md C1).
	db := filepath.Join(c.spec.DataDir, "member", "snap", "db")
	switch _, err := os.Lstat(db); {
	case err == nil:
		return wrongIdentity("%s exists but there is no write-ahead log beside it", db)
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("look for a database: %w", err)
	}
	if err := c.checkHosts(ctx); err != nil {
		return err
	}
	urls, token, err := cfg.PeerURLsMapAndToken("etcd")
	if err != nil {
		return fmt.Errorf("discover the members by SRV below %s: %w", c.spec.Domain, err)
	}
	var members []srvboot.GenesisMember
	for name, us := range urls {
		if len(us) != 1 {
			return wrongIdentity("SRV discovery gives member %s the peer URLs %s, want one", name, us)
		}
		members = append(members, srvboot.GenesisMember{Name: name, PeerURL: us[0].String()})
	}
	sort.Slice(members, func(i, j int) bool { return members[i].PeerURL < members[j].PeerURL })
	if c.spec.New {
		if err := c.beforeNew(members, token); err != nil {
			return err
		}
		return c.afterFirst(ctx, cfg, members[0].PeerURL)
	}
	return c.beforeExisting(ctx, cfg, members)
}

// beforeRestart lets a member start on its data only if that data is its own.
func (c *child) beforeRestart(ctx context.Context, cfg *embed.Config, walDir string) error {
	if c.spec.New {
		return wrongIdentity("told to start as new, but %s holds a write-ahead log", walDir)
	}
	ids, err := readWALIdentity(walDir)
	if err != nil {
		return err
	}
	if err := c.expect("the write-ahead log in "+walDir, ids); err != nil {
		return err
	}
	if err := c.checkHosts(ctx); err != nil {
		// A running cluster survives one wrong name better than one member less.
		c.log.Warn("a name does not resolve as it should", zap.Error(err))
	}
	return c.maybeCompareHashes(ctx, cfg)
}

// beforeNew requires that the set found by SRV, with the token, gives the IDs that the genesis computed.
func (c *child) beforeNew(members []srvboot.GenesisMember, token string) error {
	clusterID, byName, err := srvboot.IDs(members, token)
	if err != nil {
		return err
	}
	var urls []string
	for _, m := range members {
		urls = append(urls, m.PeerURL)
	}
	return c.expect("SRV discovery of "+strings.Join(urls, ", "), identity{cluster: clusterID, member: byName[c.spec.Name]})
}

// identity is a pair of etcd IDs, 16 hexadecimal digits each.
type identity struct{ cluster, member string }

// expect compares with the IDs of the spec; those that are empty there are not known and match all.
func (c *child) expect(who string, got identity) error {
	if want := c.spec.ExpectClusterID; want != "" && got.cluster != want {
		return wrongIdentity("%s gives cluster ID %s, expected %s", who, got.cluster, want)
	}
	if want := c.spec.ExpectMemberID; want != "" && got.member != want {
		return wrongIdentity("%s gives member ID %s, expected %s", who, got.member, want)
	}
	return nil
}

// checkHosts requires that every SRV target of the view resolves in this process to the view's addresses. They come from
// the parent, unless /etc/hosts has the name or nsswitch.conf keeps lookups of hosts from DNS: Go offers no way
// around these (net/conf.go lookupOrder). The own name may differ, as in Debian's line "127.0.1.1 NAME": it is
// compared with itself only.
func (c *child) checkHosts(ctx context.Context) error {
	own := map[string]bool{}
	for _, raw := range c.spec.AdvertisePeer {
		if u, err := url.Parse(raw); err == nil {
			own[u.Hostname()] = true
		}
	}
	for _, name := range sortedKeys(c.spec.Hosts) {
		want := c.spec.Hosts[name]
		if len(want) == 0 {
			// etcd would leave such a target out silently, and so out of the cluster (client/pkg/srv/srv.go GetCluster).
			return fmt.Errorf("the SRV target %s has no address in this node's view", name)
		}
		got, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		if err == nil && own[name] {
			continue
		}
		if err == nil && sameAddrs(got, want) {
			continue
		}
		found := fmt.Sprintf("resolves to %v", got)
		if err != nil {
			found = fmt.Sprintf("does not resolve (%v)", err)
		}
		return &failure{
			err:  fmt.Errorf("%s %s on this host, but its address is %v", name, found, want),
			hint: "remove " + name + " from /etc/hosts, and see that /etc/nsswitch.conf says \"hosts: files dns\"",
		}
	}
	return nil
}

func sameAddrs(a, b []netip.Addr) bool {
	norm := func(in []netip.Addr) []netip.Addr {
		var out []netip.Addr
		for _, x := range in {
			out = append(out, x.Unmap())
		}
		slices.SortFunc(out, netip.Addr.Compare)
		return slices.Compact(out)
	}
	return slices.Equal(norm(a), norm(b))
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
