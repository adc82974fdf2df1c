//go:build linux

package lab

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A Corefile edited into nonsense is refused on SIGHUP with its line and a hint, and neither the zone nor the member
// notice. A good one is taken, and the member does not notice that either.
func TestBadReload(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	server := Question{l.service("server"), dns.TypeSRV}
	member := l.MemberPID("infra0")
	w := l.Ask100(clientHost, server)
	logged := len(l.Log("infra0"))

	l.EditCorefile("infra0", func(s string) string {
		return strings.Replace(s, "etcdsrv {", "etcdsrv {\n        pear_port 2390", 1)
	})
	line := lineOf(t, l, "infra0", "pear_port")
	l.Signal("infra0", syscall.SIGHUP)
	l.Wait("the error in the log", 10*time.Second, func() error {
		for text := range strings.Lines(l.Log("infra0")[logged:]) {
			if strings.Contains(text, "pear_port") && strings.Contains(text, fmt.Sprintf(":%d", line)) && strings.Contains(text, "peer_port") {
				return nil
			}
		}
		return fmt.Errorf("want pear_port, line %d and the nearest word, peer_port, in:\n%s", line, l.Log("infra0")[logged:])
	})
	l.WaitStatus("infra0", "corefile_error", "pear_port")
	if got := l.Ask(clientHost, l.Addr("infra0"), server.Name, dns.TypeSRV); got != l.complete("server") {
		t.Errorf("after the bad reload infra0 answers %s", got)
	}

	l.EditCorefile("infra0", func(s string) string { return strings.Replace(s, "pear_port 2390", "ttl 17s", 1) })
	l.Signal("infra0", syscall.SIGHUP)
	l.Wait("the new TTL", 10*time.Second, func() error {
		m, err := l.Query(clientHost, l.Addr("infra0"), server.Name, dns.TypeSRV)
		if err == nil && (len(m.Answer) == 0 || m.Answer[0].Header().Ttl != 17) {
			err = errors.New(m.String())
		}
		return err
	})
	l.Wait("no error in the status", 10*time.Second, func() error {
		if e := l.StatusText("infra0", "corefile_error"); e != "" {
			return errors.New(e)
		}
		return nil
	})
	enough(l, w, server)
	w.Stop()
	unbroken(t, w, "infra0", server, l.complete("server"))
	if now := l.MemberPID("infra0"); now != member {
		t.Errorf("the member is process %d now and was %d", now, member)
	}
}

// lineOf finds the line of a node's Corefile that contains a word.
func lineOf(t *testing.T, l *Lab, name, word string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(l.Must(name, "cat", l.node(name).dir+"/Corefile")) {
		if n++; strings.Contains(line, word) {
			return n
		}
	}
	t.Fatalf("no %s in the Corefile of %s", word, name)
	return 0
}

// Deleting a member's node line removes nothing: its member, its address and the sets stay, over a restart too.
func TestDeletedLineRemovesNothing(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	server, client := Question{l.service("server"), dns.TypeSRV}, Question{l.service("client"), dns.TypeSRV}
	addr := Question{"infra2." + l.Domain, dns.TypeA}
	w := l.Ask100(clientHost, server, addr)
	l.EditCorefile("infra0", func(s string) string {
		var kept []string
		for line := range strings.Lines(s) {
			if !strings.Contains(line, "node infra2 ") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	})
	l.Signal("infra0", syscall.SIGHUP)
	l.Wait("the warning of infra0", 10*time.Second, func() error {
		if r := l.Tool("infra0", "status"); !strings.Contains(r.Stdout, "the node line of infra2 is gone") {
			return errors.New(r.Stdout)
		}
		return nil
	})
	for at, says := range map[string]string{"infra1": "infra0 has another Corefile: only here: `node infra2 ", "infra0": "infra2 has another Corefile: only there: `node infra2 "} {
		l.WaitStatus(at, "warnings", says+l.Addr("infra2")+"`")
	}
	stays := func() {
		for _, q := range []struct {
			Question
			want string
		}{{server, l.complete("server")}, {client, l.complete("client")}, {addr, l.Addr("infra2")}} {
			l.Wait(q.Name+" at infra0", 20*time.Second, func() error {
				if got := l.Ask(clientHost, l.Addr("infra0"), q.Name, q.Type); got != q.want {
					return errorf("it answers %s", got)
				}
				return nil
			})
		}
	}
	stays()
	enough(l, w, server)
	w.Stop()
	for _, n := range l.Names() {
		unbroken(t, w, n, server, l.complete("server"))
		unbroken(t, w, n, addr, l.Addr("infra2"))
	}
	l.Stop("infra0")
	l.Start("infra0")
	stays()
	l.WaitHealthy("infra1", "infra2")
}

// enough waits until the watcher asked infra0 often enough to say something.
func enough(l *Lab, w *Watcher, q Question) {
	l.Wait("the watcher to ask", 60*time.Second, func() error {
		asked := 0
		for _, s := range w.Sequence("infra0", q) {
			asked += s.Count
		}
		if asked < 60 {
			return errorf("it asked %d times", asked)
		}
		return nil
	})
}
