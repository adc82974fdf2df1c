//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// quiet is how long a test watches that nothing happens; the nodes ask each other every 100 ms.
const quiet = 4 * time.Second

// A node alone waits, says for whom, answers DNS for what is safe to publish, and does not form a cluster. Nor do two.
func TestEtcd5909OneByOne(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	l.Start("infra0")
	l.WaitStatus("infra0", "waiting", "infra1")
	l.WaitStatus("infra0", "waiting", "infra2")
	if r := l.Tool("infra0", "status"); r.Code != 1 || !strings.Contains(r.Stdout, "infra2") {
		t.Errorf("status does not say that it waits for infra2: %v", r)
	}
	alone := func() error {
		if err := l.NoMember("infra0"); err != nil {
			return err
		}
		return safeAnswers(l, "infra0")
	}
	l.Holds("infra0 alone", quiet, alone)
	l.Start("infra1")
	l.Wait("infra0 hears infra1", 30*time.Second, func() error {
		if s := l.StatusText("infra0", "waiting"); strings.Contains(s, "infra1") || !strings.Contains(s, "infra2") {
			return errorf("it waits for %q", s)
		}
		return nil
	})
	l.Holds("infra0 and infra1 without infra2", quiet, func() error {
		if err := l.NoMember("infra1"); err != nil {
			return err
		}
		return alone()
	})
	l.Start("infra2")
	l.WaitHealthy()
	l.OneCluster()
	l.Put("a", "b")
}

// safeAnswers checks what a node says that does not know whether a cluster is born.
func safeAnswers(l *Lab, name string) error {
	for _, q := range []struct {
		name, want string
		qtype      uint16
	}{
		{l.service("server"), "SERVFAIL", dns.TypeSRV},
		{l.service("client"), "SERVFAIL", dns.TypeSRV},
		{l.Domain, "infra0." + l.Domain + "., infra1." + l.Domain + "., infra2." + l.Domain + ".", dns.TypeNS},
		{"infra1." + l.Domain, l.Addr("infra1"), dns.TypeA},
		{"_tcp." + l.Domain, "NODATA", dns.TypeA},
	} {
		if got := l.Ask(clientHost, l.Addr(name), q.name, q.qtype); got != q.want {
			return errorf("%s answers %s for %s %s, want %s", name, got, q.name, dns.TypeToString[q.qtype], q.want)
		}
	}
	return nil
}

// A node of a living cluster that lost its disk never starts anew: alone it waits, beside the others it is replaced.
func TestWipedWaits(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	for _, n := range l.Names() {
		l.Stop(n)
	}
	l.Wipe("infra0")
	l.Start("infra0")
	l.WaitStatus("infra0", "waiting", "infra1")
	l.Holds("the wiped node alone", quiet, func() error {
		if err := l.NoMember("infra0"); err != nil {
			return err
		}
		return safeAnswers(l, "infra0")
	})
	// The others still have everything. The wiped one does not come back under its old ID, which would forget its votes,
	// but as a new member.
	l.Start("infra1")
	l.Start("infra2")
	l.Get("kept", "1")
	l.WaitHealthy()
	l.Get("kept", "1")
	l.GetAt("infra0", "kept", "1")
	l.Wait("infra0 serves the complete set", healthyLimit, func() error {
		if got := l.Ask(clientHost, l.Addr("infra0"), l.service("server"), dns.TypeSRV); got != l.complete("server") {
			return errorf("%s", got)
		}
		return nil
	})
}

// The same with the etcd directory alone lost: the node remembers that it was a member, and waits for the others.
func TestWipedEtcdWaits(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("kept", "1")
	l.KillAll()
	l.WipeEtcd("infra1")
	l.Start("infra1")
	l.WaitStatus("infra1", "phase", "running")
	l.Holds("a member without data alone", quiet, func() error { return l.NoMember("infra1") })
	if l.StatusText("infra1", "waiting") == "" {
		t.Error("status does not say what infra1 waits for")
	}
	l.Start("infra0")
	l.Start("infra2")
	l.Get("kept", "1")
	l.WaitHealthy()
	l.GetAt("infra1", "kept", "1")
}
