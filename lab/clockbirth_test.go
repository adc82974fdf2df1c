//go:build linux

package lab

import (
	"testing"
	"time"
)

// Clocks at a rack's first boot: a node whose clock was never set, or is years ahead, waits and says so, and so do the others
// for it; once the clock is right it goes on without a restart. An hour ahead or behind keeps nobody from being born.
func TestClockBirth(t *testing.T) {
	t.Parallel()
	l := New(t, Options{Clocks: true})
	for _, tt := range []struct {
		name string
		// clocks are how far ahead each node is.
		clocks [3]time.Duration
		// says is in the status of a node whose clock is wrong and does not do.
		says string
	}{
		{"All1970", [3]time.Duration{never(), never(), never()}, "1970-01-01"},
		{"Hours", [3]time.Duration{-time.Hour, time.Hour, 0}, ""},
		{"TenYears", [3]time.Duration{0, 0, tenYears}, "and the clock says"},
	} {
		for i, n := range l.names {
			l.SetClock(n, tt.clocks[i])
		}
		l.StartAll()
		pids := map[string]int{}
		for _, n := range l.names {
			pids[n] = l.PID(n)
		}
		if tt.says != "" {
			l.wrongClocks(tt.clocks, tt.says)
			for i, n := range l.names {
				if l.SetClock(n, 0); i < 2 {
					l.Holds("one clock is wrong", time.Second, func() error { return l.someWrong(tt.clocks[i+1:]) })
				}
			}
		}
		l.WaitHealthy()
		l.OneCluster()
		l.Put("a", tt.name)
		for _, n := range l.names {
			l.GetAt(n, "a", tt.name)
			if l.PID(n) != pids[n] {
				t.Errorf("%s: %s started again", tt.name, n)
			}
		}
		l.KillAll()
		for _, n := range l.names {
			l.Wipe(n)
		}
	}
}

// wrongClocks waits until the nodes with wrong clocks say so, and the others wait for them; nobody forms a cluster
// meanwhile, and DNS says what it may.
func (l *Lab) wrongClocks(clocks [3]time.Duration, says string) {
	l.t.Helper()
	for i, n := range l.names {
		if clocks[i] != 0 {
			l.WaitStatus(n, "waiting", says)
			l.WaitStatus(n, "problems", says)
			continue
		}
		for j, late := range l.names {
			if clocks[j] != 0 {
				l.WaitStatus(n, "waiting", late)
			}
		}
	}
	l.Holds("a clock is wrong", 2*time.Second, func() error {
		for _, n := range l.names {
			if err := safeAnswers(l, n); err != nil {
				return err
			}
		}
		return l.NoMembers()
	})
}

// someWrong is NoMembers while some of the clocks are still wrong.
func (l *Lab) someWrong(clocks []time.Duration) error {
	for _, c := range clocks {
		if c != 0 {
			return l.NoMembers()
		}
	}
	return nil
}
