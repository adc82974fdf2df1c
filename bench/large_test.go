package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
)

const (
	largeDomain = "rack1.example.org."
	// servesLarge, when it is set in the environment, has TestServeLarge serve a domain of so many clusters.
	servesLarge = "ETCD_DNS_BENCH_CLUSTERS"
)

// largeRoster is a domain with n clusters of three members each, every member on a machine of its own: five names a
// cluster.
func largeRoster(n int) roster.Roster {
	r := roster.Roster{Domain: largeDomain}
	for i := range n {
		c := roster.Cluster{Name: fmt.Sprintf("c%06d", i), Knowledge: roster.Born}
		for j := range 3 {
			name := fmt.Sprintf("n%06d-%d", i, j)
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i<<2 | j)})
			r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: roster.NoSlot, Addrs: []netip.Addr{addr}})
			c.Members = append(c.Members, roster.Member{Node: name, PeerHost: name, PeerPort: 2380, ClientPort: 2379, Serving: true})
		}
		r.Clusters = append(r.Clusters, c)
	}
	r.NameServers = []roster.NameServer{{Name: r.Nodes[0].Name + "." + largeDomain}, {Name: r.Nodes[1].Name + "." + largeDomain}}
	return r
}

// TestServeLarge is the server of BenchmarkLarge, in a process of its own. It ends with its standard input.
func TestServeLarge(t *testing.T) {
	clusters, err := strconv.Atoi(os.Getenv(servesLarge))
	if err != nil {
		t.Skip("this is the server of BenchmarkLarge")
	}
	store := zone.NewStore()
	serials := zone.NewSerials(filepath.Join(t.TempDir(), "serial"), 0, time.Now)
	if _, err := zone.NewPublisher(store, zone.Options{}, serials).Publish(largeRoster(clusters), nil); err != nil {
		t.Fatal(err)
	}
	var zones zone.Zones
	zones.Set(store)
	f := front.New(front.Config{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), dnsPort), Shared: front.NewShared(&zones)})
	if err := f.Open(); err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory() // what the first compilation leaves behind is not to be cleaned up during the measurement
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		fmt.Println("serving")
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLarge compares the CPU time of a query for a small domain and one of 100,000 clusters, for names in an order
// that no cache likes, in rounds that alternate.
func BenchmarkLarge(b *testing.B) {
	at, err := pinning(*dnsUnpinned)
	if err != nil {
		b.Fatal(err)
	}
	sizes := []int{33, 100000}
	var ratios []float64
	for b.Loop() {
		for round := range *dnsRounds {
			var cpu [2]time.Duration
			for i, n := range sizes {
				cpu[i] = largeTurn(b, at, n)
				progress("round %d of %d: %d clusters: %.2f µs CPU a query", round+1, *dnsRounds, n, micros(cpu[i]))
			}
			ratios = append(ratios, float64(cpu[1])/float64(cpu[0]))
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "large/small")
}

// largeTurn starts a server, asks it for its SRV names at random, and returns the CPU time of a query.
func largeTurn(b *testing.B, at cores, clusters int) time.Duration {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeLarge$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), fmt.Sprint(servesLarge, "=", clusters))
	cmd.Stderr = os.Stderr
	cmd = pinned(cmd, at.server)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_, _ = bufio.NewReader(out).WriteTo(new(strings.Builder))
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "serving\n" {
		b.Fatalf("the server says %q, %v", line, err)
	}
	t := &turn{contender: contender{addr: "127.0.0.1"}, running: []*exec.Cmd{cmd}}
	k := kind{name: "SRV, all clusters", rcode: "NOERROR", data: func(dir string, _ content) (string, error) {
		return writeLines(filepath.Join(dir, "large"), 50000, func(i int) string {
			return fmt.Sprintf("_etcd-server-ssl-c%06d._tcp.%s SRV", i*7919%clusters, largeDomain)
		})
	}}
	f, err := t.perform(k, content{}, at, b.TempDir(), time.Duration(*dnsSeconds*float64(time.Second)))
	if err != nil {
		b.Fatal(err)
	}
	return f.CPU
}
