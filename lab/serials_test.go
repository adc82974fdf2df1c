//go:build linux

package lab

import (
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// serials watches a zone's serial at hosts.
type serials struct {
	end  chan struct{}
	done sync.WaitGroup

	mu sync.Mutex
	// first is when a host was first seen with a serial, now the one it has, 0 while it says nothing, last the one that it
	// said last; guarded by mu.
	first map[string]map[uint32]time.Time
	now   map[string]uint32
	last  map[string]uint32
	// blank are hosts that lost their disk, until they have a serial again; guarded by mu.
	blank map[string]bool
	// faults are answers that no host may give once it had a serial; guarded by mu.
	faults []string
}

// watchSerials asks every host for the serial of a zone 50 times a second, until stop.
func (l *Lab) watchSerials(zone string, hosts ...string) *serials {
	w := &serials{end: make(chan struct{}), first: map[string]map[uint32]time.Time{}, now: map[string]uint32{}, last: map[string]uint32{}, blank: map[string]bool{}}
	for _, h := range hosts {
		w.every(20*time.Millisecond, func() {
			m, err := l.Query(clientHost, l.Addr(h), zone, dns.TypeSOA)
			w.note(h, m, err)
		})
	}
	return w
}

// every calls do at each tick, until stop.
func (w *serials) every(period time.Duration, do func()) {
	w.done.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-w.end:
				return
			case <-tick.C:
			}
			do()
		}
	})
}

func (w *serials) note(h string, m *dns.Msg, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now[h] = 0
	switch {
	case err != nil:
		return
	case m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1:
		if w.last[h] != 0 && !w.blank[h] {
			w.faultLocked("%s answers %s after serial %d", h, Answer(m), w.last[h])
		}
		return
	}
	serial := m.Answer[0].(*dns.SOA).Serial
	w.now[h] = serial
	delete(w.blank, h)
	w.aheadLocked(h, serial)
	if w.first[h] == nil {
		w.first[h] = map[uint32]time.Time{}
	}
	if _, ok := w.first[h][serial]; !ok {
		w.first[h][serial] = time.Now()
	}
}

// lost says that a host lost its disk, and has to find out first what the zone is.
func (w *serials) lost(h string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blank[h] = true
}

// aheadLocked notes a serial that a host gave, which may not lie before the one that it gave last (RFC 1982 §3.2). NSD's
// processes from before a reload answer on for a moment beside the new ones; what it took over stands in its log.
func (w *serials) aheadLocked(h string, serial uint32) {
	if last := w.last[h]; last != 0 && int32(serial-last) < 0 && h != nsdHost {
		w.faultLocked("%s goes back from serial %d to %d", h, last, serial)
	}
	w.last[h] = serial
}

// faultLocked keeps the first of many faults; the others follow from them.
func (w *serials) faultLocked(format string, args ...any) {
	if len(w.faults) < 10 {
		w.faults = append(w.faults, time.Now().Format(time.StampMilli)+": "+fmt.Sprintf(format, args...))
	}
}

// stop ends the watch and returns what was wrong.
func (w *serials) stop() (faults []string) {
	select {
	case <-w.end:
	default:
		close(w.end)
	}
	w.done.Wait()
	return w.faults
}

// agreed is the serial that all hosts have, 0 if they have not one.
func (w *serials) agreed(hosts []string) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hosts {
		if w.now[h] != w.now[hosts[0]] {
			return 0
		}
	}
	return w.now[hosts[0]]
}

func (w *serials) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.now)
}
