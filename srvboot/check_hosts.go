package srvboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// checkHostsFile finds names that this host answers by itself. A peer's name in the hosts file goes stale when the
// peer moves; this node's own is usually a distribution's 127.0.1.1.
func checkHostsFile(ctx context.Context, t Target) CheckResult {
	if t.HostsFile == "" {
		return skipped("no hosts file given")
	}
	data, err := os.ReadFile(t.HostsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return passed("there is no %s", t.HostsFile)
	}
	var f findings
	if err != nil {
		f.warn("ls -l "+t.HostsFile, "%v", err)
		return f.result("")
	}
	own := t.ownHost()
	names := []string{}
	for _, p := range t.Peers {
		names = append(names, hostName(p))
	}
	if set, stop := t.published(ctx); stop == nil {
		for _, r := range set.records {
			names = append(names, hostName(r.Target))
		}
	}
	if own != "" {
		names = append(names, own)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return skipped("no names to look for")
	}
	for _, e := range parseHosts(string(data)) {
		if !slices.Contains(names, e.name) {
			continue
		}
		where := fmt.Sprintf("%s line %d gives %s for", t.HostsFile, e.line, e.addr)
		hint := fmt.Sprintf("remove %s from %s line %d", e.name, t.HostsFile, e.line)
		if e.name == own {
			f.warn(hint, "%s this node's own name %s, whatever the DNS says", where, e.name)
		} else {
			f.fail(hint, "%s the peer %s, whatever the DNS says", where, e.name)
		}
	}
	return f.result("%s has none of %s", t.HostsFile, strings.Join(names, ", "))
}

type hostsEntry struct {
	line int
	addr netip.Addr
	name string
}

// parseHosts reads hosts(5); lines that it does not understand are passed over, as resolvers do.
func parseHosts(data string) []hostsEntry {
	var out []hostsEntry
	for i, line := range strings.Split(data, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			out = append(out, hostsEntry{i + 1, addr, hostName(name)})
		}
	}
	return out
}
