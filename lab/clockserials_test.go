//go:build linux

package lab

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// storms are further rounds of TestClockSerials.
var storms = flag.Int("storms", 0, "how many random rounds of TestClockSerials to add to each rack; each takes about 20 s")

const tenYears = 10 * 365 * 24 * time.Hour

// storm is one round: the clock of infra1 is set, the zone changes, infra0 and infra1 are cut apart from everybody and get
// contents of their own, nodes restart, and all comes together again.
type storm struct {
	// clock is how far the clock of infra1 is ahead.
	clock time.Duration
	// minter is the node that serves the change first.
	minter string
	// restart ends infra1, or all nodes, and starts them again.
	restart func(s *secondaries)
	// healed is the one of infra0 and infra1 whose links are healed first, last the one whose content stays.
	healed, last string
}

func (r storm) String() string {
	return fmt.Sprintf("clock %v ahead, minted by %s, healed first %s, content of %s", r.clock, r.minter, r.healed, r.last)
}

// stepped is the node whose clock is set, other the one that is cut off as well, witness the third.
const stepped, other, witness = "infra1", "infra0", "infra2"

func terminate(s *secondaries) { s.Stop(stepped); s.Start(stepped) }
func kill(s *secondaries)      { s.Kill(stepped); s.Start(stepped) }
func killAllNodes(s *secondaries) {
	s.KillAll()
	s.StartAll()
}

// One serial names one content for the zone's whole life, and no node or secondary ever goes back, whatever the clocks say:
// an hour ahead and behind, at 1970, ten years ahead; with restarts and with contents that differ. After each round all
// nodes and secondaries have one zone, signatures included.
func TestClockSerials(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for _, tt := range []struct {
		name string
		// signed racks use TSIG, so that secondaries and a node whose clock is wrong do not understand each other; the
		// others do without, so that nothing keeps secondaries from such a node.
		signed bool
		rounds []storm
	}{
		{"Unsigned", false, []storm{
			{time.Hour, stepped, terminate, stepped, stepped},
			{-time.Hour, other, kill, other, other},
			{never(), stepped, killAllNodes, stepped, other},
			{tenYears, other, terminate, other, stepped},
		}},
		{"Signed", true, []storm{
			{time.Hour, other, killAllNodes, other, stepped},
			{-time.Hour, stepped, terminate, stepped, other},
			{never(), other, kill, other, stepped},
			{tenYears, stepped, killAllNodes, stepped, other},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range *storms {
				tt.rounds = append(tt.rounds, randomStorm(random))
			}
			t.Parallel()
			o := Options{Clocks: true}
			if !tt.signed {
				o.Edit = func(_, s string) string {
					return strings.Replace(s, "etcdsrv {", "etcdsrv {\n        transfer_insecure yes", 1)
				}
			}
			s := bootSecondaries(t, o)
			if !tt.signed {
				s.key = ""
			}
			s.StartAll()
			s.WaitHealthy()
			s.startSecondaries()
			w := s.watch()
			defer w.judge(t)
			if tt.signed {
				s.sign(w)
			}
			serial := s.quiet(w.serials)
			for i, r := range tt.rounds {
				began := time.Now()
				s.storm(r, i, serial, w)
				now := s.quiet(w.serials)
				if int32(now-serial) <= 0 { // RFC 1982 §3.2
					t.Errorf("%v: the serial went from %d to %d", r, serial, now)
				}
				serial = now
				s.equal(t, s.Domain)
				t.Logf("%v: %v", time.Since(began).Round(100*time.Millisecond), r)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func randomStorm(r *rand.Rand) storm {
	nodes := []string{stepped, other}
	return storm{
		[]time.Duration{time.Hour, -time.Hour, never(), tenYears, 4 * time.Minute, -4 * time.Minute}[r.IntN(6)], nodes[r.IntN(2)],
		[]func(*secondaries){terminate, kill, killAllNodes}[r.IntN(3)], nodes[r.IntN(2)], nodes[r.IntN(2)],
	}
}

// storm plays one round; the zone is quiet at a serial.
func (s *secondaries) storm(r storm, round int, serial uint32, w *history) {
	s.t.Helper()
	s.step(r.clock, serial, w)
	// A content that was there before comes back every other time.
	change := map[bool]string{true: "y", false: "n"}[round%2 == 0]
	s.publish("changed", change, r.minter)
	s.publish("changed", change, s.names...)
	s.holds("changed", change, s.hosts()...)

	s.Cut(stepped, other)
	s.Cut(stepped, witness)
	s.Cut(other, witness)
	s.publish("apart", stepped, stepped)
	s.publish("apart", other, other)
	s.idle(stepped)
	r.restart(s)
	s.holds("apart", stepped, stepped)
	s.holds("apart", other, other)
	s.holds("apart", "NXDOMAIN", witness)
	w.mu.Lock()
	s.t.Logf("apart: %v", w.now)
	w.mu.Unlock()

	// One comes back while the clock is wrong, the other when it is right.
	s.publish("apart", r.last, witness)
	second := map[string]string{stepped: other, other: stepped}[r.healed]
	for _, n := range []string{r.healed, second} {
		s.Heal(n, witness)
		s.publish("apart", r.last, n)
		s.SetClock(stepped, 0)
	}
	s.Heal(stepped, other)
	s.holds("apart", r.last, s.hosts()...)
	s.publish("apart", "NXDOMAIN", s.names...)
	s.WaitHealthy()
}

// step sets the clock, which changes nothing in the zone. On a machine with too much to do something else may, so it looks
// up to three times.
func (s *secondaries) step(clock time.Duration, serial uint32, w *history) {
	s.t.Helper()
	for range 3 {
		s.SetClock(stepped, clock)
		if poll(1500*time.Millisecond, func() error {
			if now := w.agreed(s.names); now != serial && now != 0 {
				return nil
			}
			return errors.New("holds so far")
		}) != nil {
			return
		}
		s.SetClock(stepped, 0)
		serial = s.quiet(w.serials)
	}
	s.t.Fatalf("a clock that is set %v ahead changes the zone", clock)
}

// idle waits until a node says that its member, which has lost its quorum, serves nobody.
func (s *secondaries) idle(name string) {
	s.t.Helper()
	s.Wait("the member of "+name+" serves nobody", settleLimit, func() error {
		st, err := s.Status(name)
		if err != nil {
			return err
		}
		members, _ := st["members"].([]any)
		for _, m := range members {
			if m := m.(map[string]any); m["serving"] == true {
				return fmt.Errorf("%v", m)
			}
		}
		return nil
	})
}

// publish gives nodes a TXT record in their Corefiles, or takes it away where that is to be NXDOMAIN, and waits until they
// serve it so.
func (s *secondaries) publish(owner, text string, nodes ...string) {
	s.t.Helper()
	for _, n := range nodes {
		line := fmt.Sprintf("        record %s TXT %q\n", owner, text)
		if text == "NXDOMAIN" {
			line = ""
		}
		old := s.corefile(n)
		now := slices.DeleteFunc(strings.SplitAfter(old, "\n"), func(l string) bool { return strings.HasPrefix(l, "        record "+owner+" ") })
		i := slices.Index(now, "    etcdsrv {\n")
		if text := strings.Join(slices.Insert(now, i+1, line), ""); text != old {
			s.write(s.host(n), "Corefile", text)
			s.Signal(n, syscall.SIGHUP)
		}
	}
	s.holds(owner, text, nodes...)
}

// holds waits until hosts answer for a TXT record.
func (s *secondaries) holds(owner, text string, hosts ...string) {
	s.t.Helper()
	want := text
	if text != "NXDOMAIN" {
		want = fmt.Sprintf("%q", text)
	}
	for _, h := range hosts {
		s.Wait(fmt.Sprintf("%s says %s for %s", h, want, owner), settleLimit, func() error {
			if got := s.Ask(clientHost, s.Addr(h), owner+"."+s.Domain, dns.TypeTXT); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
}
