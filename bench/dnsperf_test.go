package bench

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// result is what one run of dnsperf says.
type result struct {
	Sent, Completed, Lost int
	// Rcodes counts the answers by response code, as in NOERROR.
	Rcodes map[string]int
	// Bytes is the average size of an answer.
	Bytes int
	// PerSecond counts answers.
	PerSecond float64
	// Average and Max are from query to answer.
	Average, Max time.Duration
	// Reconnections counts TCP connections that the server ended while there were queries to ask.
	Reconnections int
}

var (
	perfCount     = regexp.MustCompile(`(?m)^ *Queries (sent|completed|lost): +(\d+)`)
	perfRcodes    = regexp.MustCompile(`(?m)^ *Response codes: +(.*)$`)
	perfRcode     = regexp.MustCompile(`([A-Z0-9]+) (\d+) \(`)
	perfSize      = regexp.MustCompile(`(?m)^ *Average packet size: +request \d+, response (\d+)`)
	perfRate      = regexp.MustCompile(`(?m)^ *Queries per second: +([0-9.]+)`)
	perfLatency   = regexp.MustCompile(`(?m)^ *Average Latency \(s\): +([0-9.]+) \(min [0-9.]+, max ([0-9.]+)\)`)
	perfReconnect = regexp.MustCompile(`(?m)^ *Reconnections: +(\d+)`)
)

// parsePerf reads dnsperf's report. A run without an answer is an error.
func parsePerf(text string) (r result, err error) {
	var failed error
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		failed = errors.Join(failed, err)
		return f
	}
	counts := perfCount.FindAllStringSubmatch(text, -1)
	rate, latency, size := perfRate.FindStringSubmatch(text), perfLatency.FindStringSubmatch(text), perfSize.FindStringSubmatch(text)
	if len(counts) != 3 || rate == nil || latency == nil || size == nil {
		return result{}, fmt.Errorf("dnsperf's report lacks queries, rate, size or latency:\n%s", text)
	}
	for _, m := range counts {
		n := int(number(m[2]))
		switch m[1] {
		case "sent":
			r.Sent = n
		case "completed":
			r.Completed = n
		case "lost":
			r.Lost = n
		}
	}
	if m := perfRcodes.FindStringSubmatch(text); m != nil {
		r.Rcodes = map[string]int{}
		for _, c := range perfRcode.FindAllStringSubmatch(m[1], -1) {
			r.Rcodes[c[1]] = int(number(c[2]))
		}
	}
	if m := perfReconnect.FindStringSubmatch(text); m != nil {
		r.Reconnections = int(number(m[1]))
	}
	seconds := func(s string) time.Duration {
		return time.Duration(number(s) * float64(time.Second)).Round(time.Microsecond)
	}
	r.Bytes, r.PerSecond, r.Average, r.Max = int(number(size[1])), number(rate[1]), seconds(latency[1]), seconds(latency[2])
	if failed == nil && r.Completed == 0 {
		failed = fmt.Errorf("none of %d queries was answered", r.Sent)
	}
	return r, failed
}

// judge refuses a run whose figures are not those of the answers that the case is about.
func (r result) judge(rcode string) error {
	// What is lost was paid for but not counted; below a hundredth it does not move a figure.
	if r.Lost*100 > r.Sent {
		return fmt.Errorf("%d of %d queries were lost", r.Lost, r.Sent)
	}
	if r.Rcodes[rcode] != r.Completed {
		return fmt.Errorf("want only %s, got %v", rcode, r.Rcodes)
	}
	return nil
}

const perfReport = `DNS Performance Testing Tool
Version 2.10.0

[Status] Testing complete (time limit)

Statistics:

  Queries sent:         203771
  Queries completed:    203770 (100.00%%)
  Queries lost:         1 (0.00%%)

  Response codes:       %s
  Average packet size:  request 52, response 267
  Run time (s):         1.000651
  Queries per second:   203637.432031

  Average Latency (s):  0.000461 (min 0.000036, max 0.011285)
  Latency StdDev (s):   0.000121
%s`

func TestParsePerf(t *testing.T) {
	want := result{Sent: 203771, Completed: 203770, Lost: 1, Rcodes: map[string]int{"NOERROR": 203770}, Bytes: 267,
		PerSecond: 203637.432031, Average: 461 * time.Microsecond, Max: 11285 * time.Microsecond}
	mixed := want
	mixed.Rcodes, mixed.Reconnections = map[string]int{"NOERROR": 203000, "NXDOMAIN": 770}, 4
	for _, c := range []struct {
		name, text   string
		want         result
		bad, dropped bool
	}{
		{name: "UDP", text: fmt.Sprintf(perfReport, "NOERROR 203770 (100.00%)", ""), want: want},
		{name: "TCP", text: fmt.Sprintf(perfReport, "NOERROR 203000 (99.62%), NXDOMAIN 770 (0.38%)", "\nConnection Statistics:\n\n  Reconnections:        4 (0.00%)\n"), want: mixed, dropped: true},
		{name: "cut off", text: fmt.Sprintf(perfReport, "NOERROR 1 (100.00%)", "")[:300], bad: true},
		{name: "no server", text: "Error: unable to connect", bad: true},
		{name: "empty", bad: true},
	} {
		got, err := parsePerf(c.text)
		if (err != nil) != c.bad {
			t.Errorf("%s: error %v, want one: %v", c.name, err, c.bad)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
		if err := got.judge("NOERROR"); !c.bad && (err != nil) != c.dropped {
			t.Errorf("%s: judged %v, want an error: %v", c.name, err, c.dropped)
		}
	}
	lossy := result{Sent: 1000, Completed: 989, Lost: 11, Rcodes: map[string]int{"NOERROR": 989}}
	if err := lossy.judge("NOERROR"); err == nil {
		t.Error("a run that lost 11 of 1000 queries was taken")
	}
}
