package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	dnsRounds   = flag.Int("rounds", 3, "DNS: how often each server has its turn")
	dnsSeconds  = flag.Float64("seconds", 2, "DNS: how long a measured run is")
	dnsNodes    = flag.Int("nodes", 60, "DNS: nodes in the zone beside the three that run; a zone has slots for 64 together")
	dnsServers  = flag.String("servers", "", "DNS: only these, such as `etcd-dns,NSD`")
	dnsCases    = flag.String("cases", "", "DNS: only cases whose name begins with one of these, such as `SRV,TCP`")
	dnsUnpinned = flag.Bool("unpinned", false, "DNS: let server and load run on all cores")
	dnsSigned   = flag.Bool("signed", false, "DNS: sign the zone; the other servers get it with its signatures")
)

// cell is what one server did in one case: a figure for each round, or why there is none.
type cell struct {
	figures []figure
	err     error
}

// table is what is measured. Idle is the processor time of a second without queries, as a share, for each round.
type table struct {
	servers []string
	kinds   []kind
	cells   map[string]map[string]*cell // case, server
	idle    map[string][]float64
	cookies map[string]bool
	traits  map[string]string
}

// contest is a comparison that is ready to run.
type contest struct {
	contenders []contender
	zone       content
	at         cores
	dir        string
}

// newContest builds the servers, starts ours once for the zone's content, and configures the others with it.
func newContest(b *testing.B) (contest, map[string]contender) {
	b.Helper()
	c := contest{dir: b.TempDir()}
	var err error
	if c.at, err = pinning(*dnsUnpinned); err != nil {
		b.Fatal(err)
	}
	bin := filepath.Join(c.dir, "etcd-dns")
	build(b, bin, "../cmd/etcd-dns")
	build(b, filepath.Join(c.dir, "coredns"), "./coredns")
	ours, names := ourRack(b, bin, *dnsNodes, *dnsSigned)
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		progress("load average before the start (should be near 0): %.14s", text)
	}
	progress("the cluster of etcd-dns is born, and its zone is read")
	if c.zone, err = ourContent(ours, names, c.at, *dnsSigned); err != nil {
		b.Fatal(err)
	}
	// BIND listens on addresses that an interface has, which 127.0.0.1 is.
	s := site{addr: "127.0.0.1", domain: benchDomain, zone: filepath.Join(c.dir, "zone"), port: dnsPort, workers: c.at.workers(), signed: *dnsSigned}
	if err := c.zone.master(s.zone); err != nil {
		b.Fatal(err)
	}
	all := map[string]contender{ours.name: ours}
	c.contenders = []contender{ours}
	for _, n := range neighbours {
		binary := program(n.program)
		if n.name == "CoreDNS" {
			binary = filepath.Join(c.dir, n.program)
		}
		all[n.name] = n.beside(b, s, binary)
		c.contenders = append(c.contenders, all[n.name])
	}
	return c, all
}

// BenchmarkDNS measures etcd-dns beside other authoritative servers in turns and prints the table of docs/benchmarks.md.
func BenchmarkDNS(b *testing.B) {
	c, all := newContest(b)
	if *dnsServers != "" {
		c.contenders = nil
		for _, name := range strings.Split(*dnsServers, ",") {
			if all[name].name == "" {
				b.Fatalf("-servers %q: want some of etcd-dns, NSD, Knot, BIND, PowerDNS, CoreDNS", name)
			}
			c.contenders = append(c.contenders, all[name])
		}
	}
	for b.Loop() {
		t := c.run()
		fmt.Printf("\n%s\n", t.markdown(c))
		for _, k := range t.kinds {
			if r := t.ratios(k.name, "etcd-dns", "NSD", "Knot"); len(r) > 0 {
				b.ReportMetric(median(r), strings.ReplaceAll(k.name, " ", "-")+"-ratio")
			}
		}
	}
}

// BenchmarkNull measures NSD beside itself: how far from 1 its ratios are is how far any ratio here can be trusted.
func BenchmarkNull(b *testing.B) {
	c, all := newContest(b)
	again := all["NSD"]
	again.name = "NSD again"
	c.contenders = []contender{all["NSD"], again}
	for b.Loop() {
		t := c.run()
		fmt.Printf("\n%s\n", t.spread("NSD", "NSD again"))
	}
}

// run gives every server its turn in every round.
func (c contest) run() *table {
	t := &table{cells: map[string]map[string]*cell{}, idle: map[string][]float64{}, cookies: map[string]bool{}, traits: map[string]string{}}
	for _, k := range kinds {
		if *dnsCases != "" && !slices.ContainsFunc(strings.Split(*dnsCases, ","), func(p string) bool { return strings.HasPrefix(k.name, p) }) {
			continue
		}
		t.kinds = append(t.kinds, k)
		t.cells[k.name] = map[string]*cell{}
		for _, s := range c.contenders {
			t.cells[k.name][s.name] = &cell{}
		}
	}
	for _, s := range c.contenders {
		t.servers = append(t.servers, s.name)
	}
	for round := range *dnsRounds {
		for _, s := range c.contenders {
			progress("round %d of %d: %s", round+1, *dnsRounds, s.name)
			if err := c.turn(t, s); err != nil {
				progress("    %s: %v", s.name, err)
				for _, k := range t.kinds {
					t.cells[k.name][s.name].fail(err)
				}
			}
		}
	}
	return t
}

// fail keeps the first reason why a row is dropped.
func (c *cell) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// turn starts one server, measures all cases, and stops it. Its error concerns all cases.
func (c contest) turn(t *table, s contender) error {
	server, err := start(s, c.at, func() error { return c.zone.verify(s.addr) })
	if err != nil {
		return err
	}
	idle, err := server.idle(time.Second)
	if err == nil {
		t.idle[s.name] = append(t.idle[s.name], idle)
		t.traits[s.name], t.cookies[s.name], err = c.zone.traits(s.addr)
	}
	for _, k := range t.kinds {
		if err != nil {
			break
		}
		f, wrong := server.perform(k, c.zone, c.at, c.dir, time.Duration(*dnsSeconds*float64(time.Second)))
		if wrong != nil {
			progress("    %-15s DROPPED: %v", k.name, wrong)
			t.cells[k.name][s.name].fail(wrong)
			continue
		}
		progress("    %-15s %6.2f µs CPU, %7.0f/s, %4d octets, average %v, max %v", k.name, micros(f.CPU), f.PerSecond, f.Bytes, f.Average, f.Max)
		t.cells[k.name][s.name].figures = append(t.cells[k.name][s.name].figures, f)
	}
	if stopped := server.stop(); err == nil {
		err = stopped
	}
	return err
}

// idle is the share of a core that the server takes while nobody asks.
func (t *turn) idle(during time.Duration) (float64, error) {
	before, err := t.used()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	time.Sleep(during)
	after, err := t.used()
	return float64(after-before) / float64(time.Since(begin)), err
}

// workers is how many cores a server may use.
func (c cores) workers() int {
	if c.server != "" {
		return 1
	}
	return max(1, numCPU())
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
