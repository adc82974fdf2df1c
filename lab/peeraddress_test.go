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
)

// peerAddr is where a node of TestPeerAddresses has its raft traffic.
func (l *Lab) peerAddr(name string) string { return strings.Replace(l.Addr(name), "10.0.", "10.9.", 1) }

// TestPeerAddresses: raft traffic has addresses of its own. A node line that would move a member is not taken, neither by a reload nor at a
// start, and a member moves by being removed and added.
func TestPeerAddresses(t *testing.T) {
	t.Parallel()
	var l *Lab
	withPeers := func(_, corefile string) string {
		for _, n := range l.Names() {
			corefile = strings.Replace(corefile, "node "+n+" "+l.Addr(n), "node "+n+" "+l.Addr(n)+" peer "+l.peerAddr(n), 1)
		}
		return corefile
	}
	l = New(t, Options{})
	l.Edit = withPeers
	for _, n := range l.Names() {
		l.addAddress(n, l.peerAddr(n))
		l.EditCorefile(n, func(s string) string { return withPeers(n, s) })
	}
	l.StartAll()
	l.WaitHealthy()
	l.OneCluster()
	l.published("infra2-peer", l.peerAddr("infra2"))
	if got := l.Must("infra0", "ss", "-Htln", "sport", "=", ":2380"); !strings.Contains(got, l.peerAddr("infra0")+":2380") || strings.Contains(got, l.Addr("infra0")+":2380") {
		t.Errorf("infra0 listens for peers at %s", got)
	}
	l.Put("k", "1")

	without := func(n string) {
		l.EditCorefile(n, func(s string) string { return strings.Replace(s, " peer "+l.peerAddr("infra2"), "", 1) })
	}
	for _, n := range l.Names() {
		without(n)
		l.Signal(n, syscall.SIGHUP)
		l.WaitStatus(n, "corefile_error", "the member of infra2 is at infra2-peer:2380")
	}
	for _, n := range l.Names() { // one after the other, as an operator does
		l.Stop(n)
		l.Start(n)
		l.WaitStatus(n, "corefile_error", "the member of infra2 is at infra2-peer:2380")
		l.well(n)
	}
	l.published("infra2-peer", l.peerAddr("infra2"))

	// infra1 is forgotten: its Corefile is again what it was. That of infra0 moves infra2 once more, and is reloaded too early.
	for _, n := range []string{"infra0", "infra1"} {
		l.EditCorefile(n, func(s string) string {
			return strings.Replace(s, "node infra2 "+l.Addr("infra2"), "node infra2 "+l.Addr("infra2")+" peer "+l.peerAddr("infra2"), 1)
		})
		l.Signal(n, syscall.SIGHUP)
		l.taken(n)
	}
	without("infra0")
	l.Signal("infra0", syscall.SIGHUP)
	l.WaitStatus("infra0", "corefile_error", "the member of infra2 is at infra2-peer:2380")
	stale := map[string]string{}
	for _, file := range []string{"roster.json", "Corefile.last-good"} {
		stale[file] = l.Must("infra1", "cat", filepath.Join(l.node("infra1").data(), file))
	}
	l.order("remove", "infra2")
	l.WaitStatus("infra2", "phase", "removed")
	l.taken("infra0")
	l.Signal("infra2", syscall.SIGHUP)
	l.WaitStatus("infra2", "corefile_error", "the peer host of infra2 was infra2-peer and is now infra2")
	l.Stop("infra2")
	l.Start("infra2")
	l.order("add", "infra2")
	for _, n := range l.Names() {
		l.well(n)
	}
	l.published("infra2", l.Addr("infra2"))
	l.Stop("infra1") // it starts and answers all the same
	l.Start("infra1")
	l.well("infra1")
	l.published("infra2", l.Addr("infra2"))

	// infra1 was down meanwhile, and has the new Corefile: it takes it when it hears where the member is.
	l.Stop("infra1")
	without("infra1")
	for file, text := range stale {
		if err := os.WriteFile(filepath.Join(l.node("infra1").data(), file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logged := len(l.Log("infra1"))
	l.Start("infra1")
	l.WaitHealthy()
	l.taken("infra1")
	if log := l.Log("infra1")[logged:]; !strings.Contains(log, "starting from the last good one") {
		t.Errorf("infra1 did not remember infra2 elsewhere:\n%s", log)
	}
	l.published("infra2", l.Addr("infra2"))
	l.Get("k", "1")
}

// well waits until a node's member is, whatever its Corefile.
func (l *Lab) well(name string) {
	l.t.Helper()
	l.Wait("the member of "+name, 60*time.Second, func() error {
		if s, err := l.ask(name); err != nil || s.Health != "healthy" {
			return errorf("health %q, %v", s.Health, err)
		}
		return nil
	})
}

// taken waits until a node serves by its Corefile.
func (l *Lab) taken(name string) {
	l.t.Helper()
	l.Wait("the Corefile of "+name+" is taken", 10*time.Second, func() error {
		if e := l.StatusText(name, "corefile_error"); e != "" {
			return errors.New(e)
		}
		return nil
	})
}

// order gives a command about the membership at infra0.
func (l *Lab) order(args ...string) {
	l.t.Helper()
	l.Wait("member "+strings.Join(args, " "), 30*time.Second, func() error { return l.Tool("infra0", append([]string{"member"}, args...)...).Err() })
}

// published waits until every node's server records name a host, which has an address.
func (l *Lab) published(label, addr string) {
	l.t.Helper()
	for _, n := range l.Names() {
		l.Wait(label+" at "+n, 10*time.Second, func() error {
			srv, host := l.Ask(clientHost, l.Addr(n), l.service("server"), dns.TypeSRV), l.Ask(clientHost, l.Addr(n), label+"."+l.Domain, dns.TypeA)
			if !strings.Contains(srv, " "+label+"."+l.Domain) || host != addr {
				return errorf("it has %s, and %s at %s", srv, label, host)
			}
			return nil
		})
	}
}
