//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	s.settled(w, "the first transfer", 0)
	s.equal(t)
	t.Run("Refused", func(t *testing.T) { s.refused(t) })

	before := s.quiet(w)
	for _, n := range s.names {
		s.EditCorefile(n, func(text string) string {
			return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        aliases on", 1)
		})
	}
	for _, n := range s.names {
		s.Signal(n, syscall.SIGHUP)
	}
	s.pickUp(t, w, "aliases", before)

	before = s.quiet(w)
	s.Kill("infra2")
	s.pickUp(t, w, "a node dies", before, "infra0", "infra1")

	before = s.quiet(w, "infra0", "infra1")
	s.Start("infra2")
	s.pickUp(t, w, "it comes back", before)
	s.WaitHealthy()
	s.quiet(w)
	s.equal(t)
	s.told(t)
	s.incremental(t)
	for _, n := range s.names {
		for _, bad := range []string{"are not cut", "cannot be transferred"} {
			if strings.Contains(s.Log(n), bad) {
				t.Errorf("%s logs %q", n, bad)
			}
		}
	}
}

// settled waits until the nodes, all unless some are named, and the secondaries have one serial that is not old.
func (s *secondaries) settled(w *history, what string, old uint32, nodes ...string) uint32 {
	s.t.Helper()
	if len(nodes) == 0 {
		nodes = s.names
	}
	var serial uint32
	s.Wait(what, settleLimit, func() error {
		serial = w.agreed(append(slices.Clone(nodes), nsdHost, knotHost, bindHost))
		if serial == 0 || serial == old {
			return errors.New(w.String())
		}
		return nil
	})
	return serial
}

// quiet waits until nothing has changed for longer than the nodes keep two announcements apart, and returns the serial.
func (s *secondaries) quiet(w *history, nodes ...string) uint32 {
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
func (s *secondaries) pickUp(t *testing.T, w *history, what string, old uint32, nodes ...string) {
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
	for _, h := range []string{nsdHost, knotHost, bindHost} {
		took := w.first[h][serial].Sub(minted)
		t.Logf("%s: %s has serial %d after %v", what, h, serial, took.Round(time.Millisecond))
		if took > pickUpLimit {
			t.Errorf("%s: %s took %v, want at most %v", what, h, took, pickUpLimit)
		}
	}
}

// equal compares what the nodes and the secondaries transfer.
func (s *secondaries) equal(t *testing.T) {
	t.Helper()
	zones := map[string][]string{}
	s.Wait("transfers at one serial", settleLimit, func() error {
		for _, n := range s.names {
			zone, err := s.transfer(nsdHost, s.Addr(n), s.key, s.secret)
			if err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
			zones[n] = zone
		}
		for _, h := range []string{nsdHost, knotHost, bindHost} {
			zone, err := s.transfer(h, s.Addr(h), "", "")
			if err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
			zones[h] = zone
		}
		for h, z := range zones {
			if len(z) < 10 || z[0] != z[len(z)-1] || z[0] != zones["infra0"][0] {
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
			zone, err := s.transfer(tt.from, s.Addr(n), tt.key, tt.secret)
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
			if len(list) != 3 {
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

// incremental: each secondary got a change by IXFR.
func (s *secondaries) incremental(t *testing.T) {
	t.Helper()
	for _, h := range []string{nsdHost, knotHost, bindHost} {
		results := map[string]int{}
		for _, n := range s.names {
			for line := range strings.Lines(s.Log(n)) {
				if strings.Contains(line, `"zone transferred"`) && strings.Contains(line, s.Addr(h)+":") {
					for _, kind := range []string{"full", "incremental", "current"} {
						if strings.Contains(line, `"result":"`+kind+`"`) {
							results[kind]++
						}
					}
				}
			}
		}
		t.Logf("%s: %v", h, results)
		if results["incremental"] == 0 {
			t.Errorf("%s got no change by IXFR: %v", h, results)
		}
	}
}
