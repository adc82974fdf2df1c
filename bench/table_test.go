package bench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func numCPU() int { return runtime.NumCPU() }

// traits says what the server sends with the hot answer, since a longer answer costs more.
func (c content) traits(addr string) (text string, cookie bool, err error) {
	m, err := ask(addr, "udp", query(question{hotName(c), dns.TypeSRV, 0}, true))
	if err != nil {
		return "", false, err
	}
	k, err := cookieOf(addr, c)
	return fmt.Sprintf("%d / %d", len(m.Ns), len(texts(m.Extra))), k != "", err
}

// ratios are the CPU times of a server over those of the best of the others, for each round that all of them have.
func (t *table) ratios(kind, server string, others ...string) (out []float64) {
	mine := t.cells[kind][server]
	if mine == nil || mine.err != nil {
		return nil
	}
	for round, f := range mine.figures {
		var best time.Duration
		for _, name := range others {
			o := t.cells[kind][name]
			if o == nil || o.err != nil || round >= len(o.figures) {
				return nil
			}
			if cpu := o.figures[round].CPU; best == 0 || cpu < best {
				best = cpu
			}
		}
		if best > 0 {
			out = append(out, float64(f.CPU)/float64(best))
		}
	}
	return out
}

// of is the median over the rounds.
func (c *cell) of(value func(figure) float64) float64 {
	var v []float64
	for _, f := range c.figures {
		v = append(v, value(f))
	}
	return median(v)
}

// row writes one line of a Markdown table.
func row(w *strings.Builder, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

func rule(w *strings.Builder, columns int) { fmt.Fprintln(w, strings.Repeat("|---", columns)+"|") }

// eachCase writes a row for each case with one cell for each server.
func (t *table) eachCase(w *strings.Builder, show func(c *cell) string, more func(kind string) []string) {
	for _, k := range t.kinds {
		line := []string{k.name}
		for _, s := range t.servers {
			switch c := t.cells[k.name][s]; {
			case c.err != nil || len(c.figures) == 0:
				line = append(line, "dropped")
			case k.cookie && !t.cookies[s]:
				line = append(line, show(c)+" (gives no cookie)")
			default:
				line = append(line, show(c))
			}
		}
		row(w, append(line, more(k.name)...)...)
	}
}

// markdown is the whole result, as docs/benchmarks.md has it.
func (t *table) markdown(c contest) string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "Zone: %d questions. Server on cores %q, load on %q (empty: not pinned). Median of %d rounds of %v s.\n",
		len(c.zone.questions), c.at.server, c.at.load, *dnsRounds, *dnsSeconds)
	fmt.Fprintf(w, "\nCPU µs per answered query, and ratios of etcd-dns (median of the rounds' ratios):\n\n")
	head := slices.Concat([]string{"case"}, t.servers, []string{"to the better of NSD and Knot", "to CoreDNS"})
	row(w, head...)
	rule(w, len(head))
	ratio := func(kind string, others ...string) string {
		if r := t.ratios(kind, "etcd-dns", others...); len(r) > 0 {
			return fmt.Sprintf("%.2f", median(r))
		}
		return "none"
	}
	t.eachCase(w, func(c *cell) string {
		return fmt.Sprintf("%.2f", c.of(func(f figure) float64 { return micros(f.CPU) }))
	}, func(kind string) []string { return []string{ratio(kind, "NSD", "Knot"), ratio(kind, "CoreDNS")} })
	idle, traits := []string{"idle, ms of CPU per s"}, []string{"NS records / addresses with the SRV answer"}
	for _, s := range t.servers {
		if len(t.idle[s]) == 0 {
			idle, traits = append(idle, "dropped"), append(traits, "dropped")
			continue
		}
		idle, traits = append(idle, fmt.Sprintf("%.0f", 1000*median(t.idle[s]))), append(traits, t.traits[s])
	}
	row(w, append(idle, "", "")...)
	row(w, append(traits, "", "")...)
	fmt.Fprintf(w, "\nQueries per second, average / greatest latency in ms, octets of an answer:\n\n")
	row(w, head[:len(head)-2]...)
	rule(w, len(head)-2)
	t.eachCase(w, func(c *cell) string {
		ms := func(of func(figure) time.Duration) float64 {
			return c.of(func(f figure) float64 { return micros(of(f)) / 1000 })
		}
		return fmt.Sprintf("%.0f, %.2f / %.1f, %.0f", c.of(func(f figure) float64 { return f.PerSecond }),
			ms(func(f figure) time.Duration { return f.Average }), ms(func(f figure) time.Duration { return f.Max }),
			c.of(func(f figure) float64 { return float64(f.Bytes) }))
	}, func(string) []string { return nil })
	fmt.Fprintln(w)
	t.target(w, 0.9, "the better of NSD and Knot", "NSD", "Knot")
	t.target(w, 0.25, "stock CoreDNS", "CoreDNS")
	t.dropped(w)
	return w.String()
}

// target says where the ratio to the others is within the limit.
func (t *table) target(w *strings.Builder, limit float64, what string, others ...string) {
	fmt.Fprintf(w, "Target: at most %.2f of %s:", limit, what)
	for i, k := range t.kinds {
		verdict := "not measured"
		if r := t.ratios(k.name, "etcd-dns", others...); len(r) > 0 {
			verdict = fmt.Sprintf("%.2f %s", median(r), map[bool]string{true: "met", false: "MISSED"}[median(r) <= limit])
		}
		fmt.Fprintf(w, "%s %s %s", map[bool]string{true: "", false: ";"}[i == 0], k.name, verdict)
	}
	fmt.Fprintln(w)
}

// dropped says why rows are missing, and what was lost or cut off in those that are not.
func (t *table) dropped(w *strings.Builder) {
	for _, s := range t.servers {
		said := ""
		for _, k := range t.kinds {
			c := t.cells[k.name][s]
			if c.err != nil {
				if text := c.err.Error(); text != said {
					fmt.Fprintf(w, "DROPPED: %s, %s: %s\n", s, k.name, strings.ReplaceAll(text, "\n", "; "))
					said = text
				} else {
					fmt.Fprintf(w, "DROPPED: %s, %s: the same\n", s, k.name)
				}
			}
			lost, again := 0, 0
			for _, f := range c.figures {
				lost, again = lost+f.Lost, again+f.Reconnections
			}
			if lost+again > 0 {
				fmt.Fprintf(w, "Note: %s, %s: %d queries lost, %d connections ended by the server\n", s, k.name, lost, again)
			}
		}
	}
}

// spread is the result of a server beside itself.
func (t *table) spread(one, other string) string {
	w := &strings.Builder{}
	var all []float64
	row(w, "case", "CPU ratio of each round", "median")
	rule(w, 3)
	for _, k := range t.kinds {
		r := t.ratios(k.name, one, other)
		if len(r) == 0 {
			row(w, k.name, "dropped", "none")
			continue
		}
		all = append(all, r...)
		row(w, k.name, strings.Trim(fmt.Sprintf("%.3f", r), "[]"), fmt.Sprintf("%.3f", median(r)))
	}
	if len(all) > 0 {
		fmt.Fprintf(w, "\nAll ratios: %.3f to %.3f, median %.3f; they should be 1.\n", slices.Min(all), slices.Max(all), median(all))
	}
	t.dropped(w)
	return w.String()
}

// The ratio of a round is to the best of the others in that round, and a row that lacks anything has none.
func TestRatios(t *testing.T) {
	cpu := func(micros ...int) *cell {
		c := &cell{}
		for _, m := range micros {
			c.figures = append(c.figures, figure{CPU: time.Duration(m) * time.Microsecond})
		}
		return c
	}
	broken := cpu(1, 1)
	broken.fail(fmt.Errorf("half of the answers are wrong"))
	tab := &table{kinds: []kind{{name: "SRV"}}, servers: []string{"etcd-dns", "a", "b", "short", "broken"}, cells: map[string]map[string]*cell{
		"SRV": {"etcd-dns": cpu(6, 6), "a": cpu(3, 12), "b": cpu(4, 8), "short": cpu(1), "broken": broken},
	}}
	for _, c := range []struct {
		others []string
		want   []float64
	}{
		{[]string{"a"}, []float64{2, 0.5}},
		{[]string{"a", "b"}, []float64{2, 0.75}},
		{[]string{"a", "short"}, nil},
		{[]string{"broken"}, nil},
		{[]string{"absent"}, nil},
	} {
		if got := tab.ratios("SRV", "etcd-dns", c.others...); !slices.Equal(got, c.want) {
			t.Errorf("ours to %v: got %v, want %v", c.others, got, c.want)
		}
	}
	var w strings.Builder
	tab.target(&w, 0.9, "a", "a")
	tab.target(&w, 1.25, "a", "a")
	tab.dropped(&w)
	for _, want := range []string{"1.25 MISSED", "1.25 met", "DROPPED: broken, SRV: half of the answers are wrong"} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("lacks %q:\n%s", want, w.String())
		}
	}
}
