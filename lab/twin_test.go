//go:build linux

package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// The hosts of two more parents, each with a root and an example.com of its own: one has no delegation, one a wrong DS.
const (
	bareHost  = "bare"
	wrongHost = "wrong"
)

var (
	bareAddr  = netip.MustParseAddr("10.0.0.54")
	wrongAddr = netip.MustParseAddr("10.0.0.55")
)

// twinParent starts NSD on a new host with the parent's configuration and zones, which are not signed yet, at its own addresses. edit
// changes example.com. Both zones are signed then; it returns the root's DS.
func (l *Lab) twinParent(name string, addr netip.Addr, edit func(zone string) string) *dns.DS {
	l.t.Helper()
	h, parent := l.addHost(name, addr), l.host(parentHost)
	from, to := l.both(parentHost), l.both(name)
	own := strings.NewReplacer(parent.dir, h.dir, from[1].String(), to[1].String(), from[0].String(), to[0].String())
	for _, file := range []string{"nsd.conf", "root.zone", "example.com.zone"} {
		text, err := os.ReadFile(filepath.Join(parent.dir, file))
		if err != nil {
			l.t.Fatal(err)
		}
		twin := own.Replace(string(text))
		if file == "example.com.zone" {
			twin = edit(twin)
		}
		l.write(h, file, twin)
	}
	ds := l.signChain(h)
	l.daemon(h, "nsd", "-d", "-c", filepath.Join(h.dir, "nsd.conf"))
	return ds
}

// signChain signs example.com of NSD on a host, and the root above it, and returns the root's DS.
func (l *Lab) signChain(h *host) *dns.DS {
	l.t.Helper()
	key := l.signZone(h, "example.com")
	root, err := os.ReadFile(zoneFile(h, "."))
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(h, filepath.Base(zoneFile(h, ".")), string(root)+key.ToDS(dns.SHA256).String()+"\n")
	return l.signZone(h, ".").ToDS(dns.SHA256)
}
