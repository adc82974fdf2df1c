//go:build linux

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A node whose disk is full goes on answering, over changes and restarts, and its serial never goes back, although no
// other node could tell it what it served. It says what is wrong, and is well again when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Nodes: 1, Edit: inMemory})
	const name = "infra0"
	full := smallDisk(t, l, name, "1m")
	l.Start(name)
	l.WaitHealthy()
	w := l.watchSerials(l.Domain, name)
	defer func() {
		for _, f := range w.stop() {
			t.Error(f)
		}
	}()
	first := l.serialOf(name)

	full(true)
	const record = "        record full.disk TXT \"x\"\n"
	l.EditCorefile(name, func(s string) string { return strings.Replace(s, "etcdsrv {\n", "etcdsrv {\n"+record, 1) })
	l.Signal(name, syscall.SIGHUP)
	l.waitRecord(name, "full.disk", `"x"`)
	second := l.serialOf(name)
	if int32(second-first) <= 0 { // RFC 1982 §3.2
		t.Errorf("on a full disk the serial went from %d to %d", first, second)
	}
	// The restarted node finds the content of its first serial, and does not take it for the last.
	l.Kill(name)
	l.EditCorefile(name, func(s string) string { return strings.Replace(s, record, "", 1) })
	l.Start(name)
	l.waitRecord(name, "full.disk", "NXDOMAIN")
	if third := l.serialOf(name); int32(third-second) <= 0 {
		t.Errorf("after a restart on a full disk the serial went from %d to %d", second, third)
	}
	if got := l.Ask(clientHost, l.Addr(name), l.service("server"), dns.TypeSRV); got != l.complete("server") {
		t.Errorf("on a full disk it answers %s", got)
	}
	l.WaitStatus(name, "problems", "no space left on device")
	pid := l.PID(name)
	full(false)
	l.WaitHealthy()
	if l.PID(name) != pid {
		t.Error("it started again")
	}
}

// A member whose own disk is full dies, as etcd does. Its node goes on answering and says why, the others serve, and with room again it is the member that
// it was.
func TestFullDiskUnderEtcd(t *testing.T) {
	t.Parallel()
	c := forTrials(t, Options{Edit: inMemory})
	const name = "infra2"
	n := c.node(name)
	c.disk(t, filepath.Join(n.dir, "disk"), n.data(), "256m")(true)
	c.boot(t)
	before := c.memberIDs("infra0")
	c.trial("Full", func(t *testing.T, c *campaign) {
		ballast := filepath.Join(n.data(), "ballast")
		if err := os.WriteFile(ballast, make([]byte, 256<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		c.Wait("its member has died of that, again and again", healthyLimit, func() error {
			if deaths, err := c.ask(name); err != nil || len(deaths.Deaths) < 2 {
				return errorf("%v, %v", deaths.Deaths, err)
			}
			return nil
		})
		c.WaitStatus(name, "problems", "the member does not run")
		said := c.StatusText(name, "deaths")
		if !strings.Contains(said, "no space left on device") {
			t.Errorf("it does not say why: %s", said)
		}
		served, _, _ := c.counts()
		c.Wait("the others serve", healthyLimit, func() error {
			if now, _, _ := c.counts(); now < served+50 {
				return errorf("%d writes were acknowledged", now-served)
			}
			return nil
		})
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
	if err := sameMembers(c.nodes, before, c.memberIDs("infra0")); err != nil {
		t.Error(err)
	}
}

// smallDisk gives a node a data directory that full fills to the last octet, and empties again. Its member's data has
// room elsewhere.
func smallDisk(t *testing.T, l *Lab, name, size string) (full func(bool)) {
	t.Helper()
	n := l.node(name)
	elsewhere := filepath.Join(n.dir, "etcd")
	for _, dir := range []string{n.data(), elsewhere} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(source, dir, kind string, flags uintptr, data string) {
		if err := unix.Mount(source, dir, kind, flags, data); err != nil {
			t.Fatalf("mount %s: %v", dir, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	mount("tmpfs", n.data(), "tmpfs", 0, "size="+size)
	if err := os.Mkdir(filepath.Join(n.data(), "etcd"), 0o700); err != nil {
		t.Fatal(err)
	}
	mount(elsewhere, filepath.Join(n.data(), "etcd"), "", unix.MS_BIND, "")
	ballast := filepath.Join(n.data(), "ballast")
	return func(yes bool) {
		var err error
		if yes {
			if err = os.WriteFile(ballast, make([]byte, 32<<20), 0o600); errors.Is(err, syscall.ENOSPC) {
				return
			}
		} else {
			err = os.Remove(ballast)
		}
		if yes || err != nil {
			t.Fatalf("fill the disk: %v, %v", yes, err)
		}
	}
}

// waitRecord waits until a node answers for a TXT record of its Corefile.
func (l *Lab) waitRecord(name, owner, want string) {
	l.t.Helper()
	l.Wait(name+" says "+want+" for "+owner, 30*time.Second, func() error {
		if got := l.Ask(clientHost, l.Addr(name), owner+"."+l.Domain, dns.TypeTXT); got != want {
			return errors.New(got)
		}
		return nil
	})
}

// serialOf is a node's serial.
func (l *Lab) serialOf(name string) (serial uint32) {
	l.t.Helper()
	l.Wait("the serial of "+name, 30*time.Second, func() error {
		m, err := l.Query(clientHost, l.Addr(name), l.Domain, dns.TypeSOA)
		if err == nil && len(m.Answer) != 1 {
			err = errors.New(m.String())
		}
		if err == nil {
			serial = m.Answer[0].(*dns.SOA).Serial
		}
		return err
	})
	return serial
}
