//go:build linux

package lab

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A campaign is rounds of random faults on racks of real processes, while clients write and read; docs/campaign.md has the
// method. These flags ask for more of it than `make test` has time for; `make campaign` passes them.
var (
	campaignSeed   = flag.Uint64("campaign.seed", 1, "TestCampaign: the first rack's seed; further racks have the next ones")
	campaignRacks  = flag.Int("campaign.racks", 2, "TestCampaign: how many racks to torment side by side")
	campaignRounds = flag.Int("campaign.rounds", 2, "TestCampaign: how many rounds each")
	campaignFirst  = flag.Int("campaign.first", 0, "TestCampaign: the first round, to go on where another run ended or to play one again")
	campaignLog    = flag.String("campaign.log", "", "TestCampaign: a file to append a line of JSON to for every round")
	campaignStock  = flag.Bool("campaign.stock", false, "TestCampaign: torment stock etcd in place of the product, and count what it loses")
)

const (
	// lifetime is how many rounds a rack is kept. Its number decides what kind of rack it is.
	lifetime = 20
	// mostFaults is how many faults a round has at most, and longestPause how long it waits after each.
	mostFaults   = 6
	longestPause = 1500 * time.Millisecond
	// healLimit is how long a rack may take to be well after everything is healed: a lost disk takes 5 s of silence and 10 s
	// between two changes of the membership, and both cores may be busy.
	healLimit = 2 * time.Minute
	// srvLimit is how long a node's SRV records may differ from the member list after healing (P6 of docs/campaign.md).
	srvLimit = 2 * time.Second
)

// campaign is one rack under faults.
type campaign struct {
	*Lab
	*clients
	product bool
	seed    uint64
	random  *rand.Rand
	// nodes are those that should have members, states what each suffers.
	nodes  []string
	states map[string]*state
	watch  *dnsWatch
	// roaming are those that have their addresses from the network, and moves is how many times one of them got another.
	roaming []string
	moves   int
	// full fills and empties a node's disk, for nodes with a small one.
	full map[string]func(bool)
	// acknowledged are all writes that must be there, id the cluster's.
	acknowledged map[string]string
	id           uint64
	// healed is when nothing was broken any more, before the orders that were left.
	healed time.Time
	*report
}

// TestCampaign torments racks; see docs/campaign.md. Without flags it is a short one, always the same.
func TestCampaign(t *testing.T) {
	t.Parallel()
	all := newTally(*campaignLog)
	t.Cleanup(func() { t.Log(all.summary()) })
	for i := range *campaignRacks {
		seed := *campaignSeed + uint64(i)
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			for next, end := *campaignFirst, *campaignFirst+*campaignRounds; next < end; {
				to := min(end, (next/lifetime+1)*lifetime)
				from := next
				t.Run(fmt.Sprintf("rounds%dto%d", from, to-1), func(t *testing.T) { live(t, seed, &next, to, all) })
				if next == from { // it was not even born
					next = to
				}
			}
		})
	}
}

// live is one rack's life: the rounds from next to another. It ends after the first that shows anything wrong; next is then
// the one after that.
func live(t *testing.T, seed uint64, next *int, to int, all *tally) {
	c := newCampaign(t, seed, *next/lifetime, !*campaignStock)
	for *next < to {
		n := *next
		*next++
		err := c.round(n)
		all.add(c.report, err)
		if err == nil {
			continue
		}
		if *campaignStock {
			t.Logf("seed %d, round %d: %v", seed, n, err)
		} else {
			t.Errorf("seed %d, round %d: %v", seed, n, err)
		}
		return
	}
}

// newCampaign boots a rack of the kind that the seed gives.
func newCampaign(t *testing.T, seed uint64, life int, product bool) *campaign {
	kind := rand.New(rand.NewPCG(seed, 1<<32+uint64(life)))
	o := Options{Nodes: pick(kind, []int{3, 3, 5}), Later: 1, Clocks: true}
	small := kind.IntN(3) == 0
	roams := kind.IntN(2) == 0
	c := &campaign{product: product, seed: seed, states: map[string]*state{}, full: map[string]func(bool){}, acknowledged: map[string]string{}}
	if product {
		if roams {
			c.roaming = []string{"infra1", "infra2"}
		}
		o.Edit = func(n, s string) string {
			s = fromTheNetwork(c.roaming...)(n, s)
			if !small {
				return exempt(s)
			}
			return exempt(inMemory(n, s))
		}
		c.Lab = New(t, o)
		c.nodes = c.Names()[:o.Nodes]
		for _, n := range c.Names() {
			if small {
				c.full[n] = smallDisk(t, c.Lab, n, "16m")
			}
		}
	} else {
		c.Lab = newStock(t)
		c.nodes = c.Names()
	}
	c.boot(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, round %d, %d nodes, steps so far:\n%s\nto play it again: make campaign SEED=%d FIRST=%d ROUNDS=1 RACKS=1",
				seed, c.Round, len(c.nodes), strings.Join(c.Steps, "\n"), seed, c.Round)
		}
	})
	return c
}

// exempt has a node of a rack that is watched answer the watcher without a limit: two questions 100 times a second are a flood when
// a node is resumed and finds those of its pause.
func exempt(corefile string) string {
	return strings.Replace(corefile, "etcdsrv {", "etcdsrv {\n        rrl exempt "+clientAddr.String()+"/32", 1)
}

// boot starts the nodes that should have members, and waits until all is well.
func (c *campaign) boot(t *testing.T) {
	for _, n := range c.nodes {
		c.states[n] = &state{}
		c.Start(n)
	}
	servers := []string{parentHost}
	if c.product {
		servers = c.Names()
	}
	var err error
	if c.clients, err = c.newClients(servers...); err != nil {
		t.Fatal(err)
	}
	c.watch, c.report = c.newWatch(), &report{}
	defer c.watch.Stop()
	if err := c.settle(); err != nil {
		t.Fatal(err)
	}
	if c.id, err = c.cluster(c.nodes); err != nil {
		t.Fatal(err)
	}
}

// round lets faults happen, heals them, and judges.
func (c *campaign) round(n int) error {
	began := time.Now()
	c.random = rand.New(rand.NewPCG(c.seed, uint64(n)))
	c.report = &report{Seed: c.seed, Round: n, Nodes: len(c.nodes), Faults: map[string]int{}, Orders: map[string]int{}}
	for _, n := range c.nodes {
		c.states[n] = &state{}
	}
	c.watch = c.newWatch()
	defer c.watch.Stop()
	before, err := c.members(c.nodes)
	if err != nil {
		return err
	}
	c.begin(fmt.Sprint(n))
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			c.end()
		}
	}
	defer stop()
	c.torment()
	done := time.Now()
	err = c.settle()
	c.Settled = time.Since(done).Seconds()
	if err == nil && c.product {
		err = c.oneContent()
	}
	stop()
	c.watch.Stop()
	err = errors.Join(err, c.judge())
	if c.product {
		err = errors.Join(err, c.judgeMembers(before))
	}
	c.Took = time.Since(began).Seconds()
	return err
}

// torment lets faults happen one after the other, some of which are healed on the way, and heals the rest.
func (c *campaign) torment() {
	var open []heal
	mend := func(i int) {
		h := open[i]
		open = slices.Delete(open, i, i+1)
		c.watch.upsets++
		h.do()
	}
	for range 1 + c.random.IntN(mostFaults) {
		f := c.draw()
		what, h := f.strike(c)
		if what == "" {
			continue
		}
		c.step("%s: %s", f.name, what)
		c.Faults[f.name]++
		c.watch.upsets++
		if h.do != nil {
			open = append(open, h)
		}
		<-time.After(time.Duration(c.random.Int64N(int64(longestPause))))
		if i := c.random.IntN(2 * mostFaults); i < len(open) && open[i].stage != orders {
			c.step("heal one")
			mend(i)
			c.hear()
		}
	}
	c.step("heal all")
	c.random.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	slices.SortStableFunc(open, func(a, b heal) int { return a.stage - b.stage })
	c.healed = time.Now()
	for len(open) > 0 {
		order := open[0].stage == orders
		mend(0)
		if !order {
			c.healed = time.Now()
		}
	}
	c.step("healed")
}

func (c *campaign) step(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.Steps = append(c.Steps, fmt.Sprintf("  %s %s", time.Now().Format(clock), text))
	progress(fmt.Sprintf("seed %d round %d: %s", c.seed, c.Round, text))
}

// newWatch watches the DNS of the product; of stock etcd there is none.
func (c *campaign) newWatch() *dnsWatch {
	if !c.product {
		return c.newDNSWatch(Question{}, Question{})
	}
	w := c.watchDNS()
	for _, n := range c.names[len(c.nodes):] {
		w.excuse(n) // it has not joined
	}
	return w
}
