//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// report is what a round did, as a line of the log.
type report struct {
	Seed     uint64         `json:"seed"`
	Round    int            `json:"round"`
	Nodes    int            `json:"nodes"`
	Faults   map[string]int `json:"faults"`
	Took     float64        `json:"took_s"`
	Settled  float64        `json:"settled_s"`
	SRVLag   float64        `json:"srv_lag_s"`
	SRVRight float64        `json:"srv_settled_s"`
	// Orders are those that were given in the middle, by what came of them.
	Orders    map[string]int `json:"orders"`
	Acked     int            `json:"acknowledged"`
	Reads     int            `json:"reads"`
	Uncertain int            `json:"failed_puts"`
	DNS       int            `json:"dns_answers"`
	Wrong     []string       `json:"wrong,omitempty"`
	// Steps are what happened and when, for a person.
	Steps []string `json:"steps"`
}

// tally adds up the rounds of all racks.
type tally struct {
	log string

	mu             sync.Mutex
	rounds, faults int
	byName, wrong  map[string]int
	orders         map[string]int
	acked, dns     int
	lag, settled   float64
	right          float64
}

func newTally(log string) *tally {
	return &tally{log: log, byName: map[string]int{}, orders: map[string]int{}, wrong: map[string]int{}}
}

func (a *tally) add(r *report, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rounds++
	for name, n := range r.Faults {
		a.byName[name] += n
		a.faults += n
	}
	for word, n := range r.Orders {
		a.orders[word] += n
	}
	a.acked += r.Acked
	a.dns += r.DNS
	a.lag, a.settled, a.right = max(a.lag, r.SRVLag), max(a.settled, r.Settled), max(a.right, r.SRVRight)
	for _, kind := range []error{errLost, errUnordered, errDiverged, errTwoClusters, errUnwell, errDNS, errReplaced} {
		if errors.Is(err, kind) {
			r.Wrong = append(r.Wrong, kind.Error())
			a.wrong[kind.Error()]++
		}
	}
	if err != nil && len(r.Wrong) == 0 {
		r.Wrong = []string{err.Error()}
		a.wrong["other"]++
	}
	progress(fmt.Sprintf("%d rounds, %d faults, %d wrong", a.rounds, a.faults, len(a.wrong)))
	if a.log == "" {
		return
	}
	line, _ := json.Marshal(r)
	f, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (a *tally) summary() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d rounds, %d faults %v, orders %v, %d acknowledged writes, %d DNS answers; longest to be well %.1f s, until the records were right %.1f s, "+
		"records behind for at most %.2f s; wrong: %v", a.rounds, a.faults, a.byName, a.orders, a.acked, a.dns, a.settled, a.right, a.lag, a.wrong)
}

// progress rewrites one line on a terminal.
func progress(text string) {
	if s, err := os.Stderr.Stat(); err == nil && s.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K%s  %.120s", time.Now().Format(time.TimeOnly), text)
	}
}
