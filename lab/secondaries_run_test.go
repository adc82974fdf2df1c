//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/miekg/dns"
)

// pickUpLimit is how long after the first node serves a serial every secondary has it.
const pickUpLimit = 2 * time.Second

// settleLimit bounds how long nodes and secondaries take to come to one zone. On a machine with too much to do members are
// late, and the client sets follow them.
const settleLimit = 2 * time.Minute

// NSD, Knot and BIND, each with all nodes as primaries and the bundle's TSIG key, follow the zone by NOTIFY, by IXFR where
// they ask for it, and hold what the nodes hold.
func TestSecondaries(t *testing.T) {
	t.Parallel()
	s := bootSecondaries(t, Options{})
	s.StartAll()
	s.WaitHealthy()
	s.startSecondaries()
	w := s.watch()
	defer w.judge(t)
	s.settled(w.serials, "the first transfer", 0)
	s.equal(t, s.Domain)
	t.Run("Refused", func(t *testing.T) { s.refused(t) })

	before := s.quiet(w.serials)
	s.reload("aliases on")
	s.pickUp(t, w.serials, "aliases", before)

	before = s.quiet(w.serials)
	s.Kill("infra2")
	s.pickUp(t, w.serials, "a node dies", before, "infra0", "infra1")

	before = s.quiet(w.serials, "infra0", "infra1")
	s.Start("infra2")
	s.pickUp(t, w.serials, "it comes back", before)
	s.WaitHealthy()
	s.quiet(w.serials)
	s.equal(t, s.Domain)
	s.told(t)
	s.notified(t)
	s.incremental(t, s.Domain)
	for _, n := range s.names {
		for _, bad := range []string{"are not cut", "cannot be transferred"} {
			if strings.Contains(s.Log(n), bad) {
				t.Errorf("%s logs %q", n, bad)
			}
		}
	}
}

// reload adds a line to every node's etcdsrv block and has the nodes take it.
func (s *secondaries) reload(line string) {
	s.t.Helper()
	for _, n := range s.names {
		s.EditCorefile(n, func(text string) string {
			return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        "+line, 1)
		})
	}
	for _, n := range s.names {
		s.Signal(n, syscall.SIGHUP)
	}
}

// settled waits until the nodes, all unless some are named, and the secondaries have one serial that is not old.
func (s *secondaries) settled(w *serials, what string, old uint32, nodes ...string) uint32 {
	s.t.Helper()
	if len(nodes) == 0 {
		nodes = s.names
	}
	var serial uint32
	s.Wait(what, settleLimit, func() error {
		serial = w.agreed(slices.Concat(nodes, secondaryHosts))
		if serial == 0 || serial == old {
			return errors.New(w.String())
		}
		return nil
	})
	return serial
}

// quiet waits until nothing has changed for longer than the nodes keep two announcements apart, and returns the serial.
func (s *secondaries) quiet(w *serials, nodes ...string) uint32 {
	s.t.Helper()
	var serial uint32
	var since time.Time
	s.Wait("a quiet zone", settleLimit, func() error {
		if is := s.settled(w, "one serial", 0, nodes...); is != serial {
			serial, since = is, time.Now()
		}
		if time.Since(since) < 1500*time.Millisecond {
			return fmt.Errorf("serial %d is too new", serial)
		}
		return nil
	})
	return serial
}

// pickUp judges how long the secondaries took to follow the nodes to a new serial.
func (s *secondaries) pickUp(t *testing.T, w *serials, what string, old uint32, nodes ...string) {
	t.Helper()
	serial := s.settled(w, what, old, nodes...)
	w.mu.Lock()
	defer w.mu.Unlock()
	var minted time.Time
	for _, n := range s.names {
		if at, ok := w.first[n][serial]; ok && (minted.IsZero() || at.Before(minted)) {
			minted = at
		}
	}
	for _, h := range secondaryHosts {
		took := w.first[h][serial].Sub(minted)
		t.Logf("%s: %s has serial %d after %v", what, h, serial, took.Round(time.Millisecond))
		if took > pickUpLimit {
			t.Errorf("%s: %s took %v, want at most %v", what, h, took, pickUpLimit)
		}
	}
}

// equal compares what the nodes and the secondaries transfer.
func (s *secondaries) equal(t *testing.T, zone string) {
	t.Helper()
	zones := map[string][]string{}
	s.Wait("transfers at one serial", settleLimit, func() error {
		for _, n := range s.names {
			records, err := s.transfer(request{nsdHost, s.primary(n, nsdHost), zone, s.key, s.secret})
			if err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
			zones[n] = records
		}
		for _, h := range secondaryHosts {
			records, err := s.transfer(request{from: h, addr: s.Addr(h), zone: zone})
			if err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
			zones[h] = records
		}
		for h, z := range zones {
			if len(z) < 8 || z[0] != z[len(z)-1] || z[0] != zones["infra0"][0] {
				return fmt.Errorf("%s: %d records from %q", h, len(z), z)
			}
		}
		return nil
	})
	for _, h := range slices.Sorted(maps.Keys(zones)) {
		slices.Sort(zones[h])
		if diff := cmp.Diff(zones["infra0"], zones[h]); diff != "" {
			t.Errorf("%s differs from infra0 (-infra0 +%s):\n%s", h, h, diff)
		}
	}
}

// refused: without the key, with another, and from elsewhere nobody gets the zone.
func (s *secondaries) refused(t *testing.T) {
	other := "b3RoZXItc2VjcmV0LW9mLTMyLW9jdGV0cy1vciBzbw=="
	for _, tt := range []struct{ what, from, key, secret, want string }{
		{"no TSIG", nsdHost, "", "", "bad xfr rcode: 5"},
		{"wrong secret", nsdHost, s.key, other, "bad authentication"},
		{"unknown key", nsdHost, "other.", other, "bad authentication"},
		{"not on the list", clientHost, s.key, s.secret, "bad xfr rcode: 5"},
	} {
		for _, n := range s.names {
			zone, err := s.transfer(request{tt.from, s.primary(n, nsdHost), s.Domain, tt.key, tt.secret})
			if err == nil || len(zone) > 0 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s at %s: %d records, %v, want %s", tt.what, n, len(zone), err, tt.want)
			}
		}
	}
}

// told waits until every node knows that every secondary has its serial.
func (s *secondaries) told(t *testing.T) {
	t.Helper()
	for _, n := range s.names {
		s.Wait(n+" knows the secondaries", 20*time.Second, func() error {
			st, err := s.Status(n)
			if err != nil {
				return err
			}
			list, _ := st["secondaries"].([]any)
			if len(list) != len(secondaryHosts)*len(s.zones) {
				return fmt.Errorf("%v", st["secondaries"])
			}
			for _, x := range list {
				if m := x.(map[string]any); m["behind"] != false || m["pulled"] != m["serial"] || m["error"] != nil {
					return fmt.Errorf("%v", m)
				}
			}
			return nil
		})
	}
}

// notified: each secondary says that it got NOTIFY from each node's own address and, where it says so, that it was signed
// with the key.
func (s *secondaries) notified(t *testing.T) {
	t.Helper()
	for h, form := range map[string]struct{ log, line string }{
		nsdHost:  {"nsd.log", `notify for %[3]s\. from %[1]s serial`},
		knotHost: {"knotd.out", `\[%[3]s\.\] ACL, allowed, action notify, remote %[1]s@\d+, key '%[2]s\.'`},
		bindHost: {"named.out", `client @\S+ %[1]s#\d+/key %[2]s: received notify for zone '%[3]s': TSIG '%[2]s'`},
	} {
		text, err := os.ReadFile(filepath.Join(s.host(h).dir, form.log))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range s.names {
			for _, zone := range s.zones {
				line := fmt.Sprintf(form.line, regexp.QuoteMeta(s.primary(n, h)), regexp.QuoteMeta(strings.TrimSuffix(s.key, ".")), regexp.QuoteMeta(zone))
				if !regexp.MustCompile(line).Match(text) {
					t.Errorf("%s has no signed NOTIFY for %s from %s at %s: nothing in %s is like %s", h, zone, n, s.primary(n, h), form.log, line)
				}
			}
		}
	}
}

// incremental: each secondary got a change by IXFR.
func (s *secondaries) incremental(t *testing.T, zone string) {
	t.Helper()
	for _, h := range secondaryHosts {
		results := map[string]int{}
		for _, n := range s.names {
			for line := range strings.Lines(s.Log(n)) {
				if strings.Contains(line, `"zone transferred"`) && strings.Contains(line, `"`+dns.Fqdn(zone)+`"`) && strings.Contains(line, `"`+net.JoinHostPort(s.Addr(h), "")) {
					for _, kind := range []string{"full", "incremental", "current"} {
						if strings.Contains(line, `"result":"`+kind+`"`) {
							results[kind]++
						}
					}
				}
			}
		}
		t.Logf("%s of %s: %v", h, zone, results)
		if results["incremental"] == 0 {
			t.Errorf("%s got no change of %s by IXFR: %v", h, zone, results)
		}
	}
}
