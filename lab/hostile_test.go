//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// The hosts of the attack. The attacker has all addresses of a network beside his own, and so has the victim: they are
// those that he puts into his packets as their source.
const (
	attackerHost = "attacker"
	victimHost   = "victim"
)

var (
	attackerAddr = netip.MustParseAddr("10.0.3.66")
	crowdNet     = netip.MustParsePrefix("10.0.4.0/24")
	victimAddr   = netip.MustParseAddr("10.0.3.99")
	victimNet    = netip.MustParsePrefix("10.5.0.0/16")
)

// hostile is a signed rack with a large zone, of which infra0 is attacked.
type hostile struct {
	*secondaries
	target string
}

// What hostile input may cost infra0's parent process, over what it has before. docs/dns.md has the limits that they are
// made of.
const (
	// calm is memory for input that leaves nothing behind: packets, and connections that are closed. It is what Go's
	// collector lets a busy process leave uncollected.
	calm = 48 << 20
	// loaded is memory for 1,024 connections whose clients do not read, of 3 KiB, a stack of 8 KiB, and 160 KiB of answers
	// each, for 64 queries of 64 KiB, and for 256 at CoreDNS with answers of that size.
	loaded = calm + (1024*(3+8+160)+64*64+256*64)<<10
	// connections are descriptors: 1,024 of DNS over TCP to one address, 64 to the admin port, and what the product and
	// the good clients open meanwhile.
	connections = 1024 + 64 + 32
	// shortest is how long an attack lasts at least, over and over, so that good clients meet it.
	shortest = 2 * time.Second
	// fewLines is what the log may say about each attack.
	fewLines = 40
	// idleShare of a processor, and idleGoroutines more than before, are what a node has that nobody asks.
	idleShare, idleGoroutines = 0.25, 32
)

// TestHostile: whatever comes from the network, a node's memory, descriptors and log stay within bounds, good clients are
// served, nothing dies, and afterwards all is as before.
func TestHostile(t *testing.T) {
	t.Parallel()
	h := bootHostile(t)
	before, err := usageOf(h.PID(h.target))
	if err != nil {
		t.Fatal(err)
	}
	goroutines := h.goroutines(t)
	for _, attack := range []struct {
		name   string
		memory int64
		run    func(*testing.T)
	}{
		// The calm ones first: after a load Go's collector lets more pass.
		{"Malformed", calm, h.malformed}, {"Spoofed", calm, h.spoofed}, {"Changes", calm, h.changes}, {"Strangers", calm, h.strangers},
		{"Deaf", loaded, h.deaf}, {"Slow", loaded, h.slow}, {"Resets", loaded, h.resets}, {"Idle", loaded, h.idle}, {"Transfers", loaded, h.transfers},
	} {
		t.Run(attack.name, func(t *testing.T) { h.phase(t, attack.memory, attack.run) })
	}
	share := h.waitIdle(h.target, idleShare)
	h.Wait("the goroutines end", 20*time.Second, func() error {
		if n := h.goroutines(t); n > goroutines+idleGoroutines {
			return errorf("%d goroutines, %d before", n, goroutines)
		}
		return nil
	})
	after, err := usageOf(h.PID(h.target))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("before all %v, %d goroutines; after all %v, %d goroutines, %.0f %% of a processor", before, goroutines, after, h.goroutines(t), 100*share)
	if after.rss-before.rss > loaded || after.files > before.files+connections/32 {
		t.Errorf("it had %v and has %v, want %d MiB more at most", before, after, loaded>>20)
	}
}

// goroutines are those of the target's parent process.
func (h *hostile) goroutines(t *testing.T) (n int) {
	t.Helper()
	text, err := h.metrics(h.target)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if _, err := fmt.Sscanf(line, "go_goroutines %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("the metrics tell no go_goroutines")
	return 0
}

func bootHostile(t *testing.T) *hostile {
	t.Helper()
	var records strings.Builder
	for i := range 300 {
		fmt.Fprintf(&records, "        record bulk%d TXT%s\n", i, strings.Repeat(fmt.Sprintf(" %q", strings.Repeat("x", 250)), 4))
	}
	l := New(t, Options{IPv6: true, Edit: func(node, corefile string) string {
		return strings.Replace(withTransfer(corefile, secondaryAddrs), "etcdsrv {\n", "etcdsrv {\n"+records.String(), 1)
	}})
	h := &hostile{secondaries: secondariesOf(l, secondaryAddrs), target: "infra0"}
	h.addHost(attackerHost, attackerAddr)
	h.addHost(victimHost, victimAddr)
	for host, net := range map[string]netip.Prefix{attackerHost: crowdNet, victimHost: victimNet} {
		h.own(host, net)
	}
	h.believe()
	h.StartAll()
	h.WaitHealthy()
	h.Wait("dnssec on", 10*time.Second, func() error { return h.Tool("infra1", "dnssec", "on").Err() })
	return h
}

// own gives a host all addresses of a network.
func (h *hostile) own(host string, net netip.Prefix) {
	h.t.Helper()
	err := ipBatch(h.net.hub(), "route add "+net.String()+" dev "+host)
	if err == nil {
		err = ipBatch(h.host(host).ns, "route add local "+net.String()+" dev lo")
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// believe has the hub forward packets whatever source they tell: there are networks without BCP 38.
func (h *hostile) believe() {
	h.t.Helper()
	if err := inNetns(h.net.hub(), func() error {
		for _, device := range []string{"all", attackerHost} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+device+"/rp_filter", []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// phase attacks while a good client asks, and judges what the attack did to the node.
func (h *hostile) phase(t *testing.T, memory int64, attack func(t *testing.T)) {
	t.Helper()
	pid, member := h.PID(h.target), h.MemberPID(h.target)
	said := h.said()
	m, p := h.meter(h.target), h.patron(clientHost, h.target)
	start := time.Now()
	for time.Since(start) < shortest {
		attack(t)
	}
	took := time.Since(start)
	p.end()
	after, err := m.end()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s with %.0f %% of a processor; before %v; during and after %v", took.Seconds(),
		100*(after.cpu-m.before.cpu).Seconds()/took.Seconds(), m.before, after)
	if after.peak-m.before.rss > memory {
		t.Errorf("memory went from %d MiB to %d MiB, want %d MiB more at most", m.before.rss>>20, after.peak>>20, memory>>20)
	}
	if after.files > m.before.files+connections {
		t.Errorf("descriptors went from %d to %d, want %d more at most", m.before.files, after.files, connections)
	}
	for network, tally := range p.tally {
		t.Logf("a good client over %s: %v", network, tally)
		if tally.asked == 0 || tally.lost*20 > tally.asked {
			t.Errorf("a good client over %s: %v (%v), want 5 %% lost at most", network, tally, tally.why)
		}
	}
	if now, m := h.PID(h.target), h.MemberPID(h.target); now != pid || m != member {
		t.Errorf("processes %d and %d are now %d and %d", pid, member, now, m)
	}
	news := strings.TrimPrefix(h.said(), said)
	if n := strings.Count(news, "\n"); n > fewLines {
		t.Errorf("%d lines in the log, want %d at most, such as\n%s", n, fewLines, tail(news, 5))
	}
	for _, bad := range []string{"panic", "fatal error", "goroutine "} {
		if strings.Contains(news, bad) {
			t.Errorf("the log says %q:\n%s", bad, tail(news, 40))
		}
	}
	t.Logf("%d lines in the log", strings.Count(news, "\n"))
}

// said is the node's log without etcd's lines.
func (h *hostile) said() string { return without(h.Log(h.target), `"logger":"etcd"`) }
