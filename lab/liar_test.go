//go:build linux

package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/gossip"
)

// The environment of a liar: the bundle whose key it has, the address that it speaks from, the node that it says it is, and where
// the nodes gossip.
const (
	liarRole    = "liar"
	liarBundle  = "EDL_LIAR_BUNDLE"
	liarAddr    = "EDL_LIAR_ADDR"
	liarName    = "EDL_LIAR_NAME"
	liarSeeds   = "EDL_LIAR_SEEDS"
	liarGenesis = "EDL_LIAR_GENESIS"
)

const gossipPort = 2388

// runLiar gossips false records in another node's name until it is told to end: it is at this address, serves, has seen a later
// generation of the cluster, and has another member.
func runLiar() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := lie(ctx)
	if err != nil {
		fmt.Println("liar:", err)
		return 1
	}
	return 0
}

func lie(ctx context.Context) error {
	bundle, err := certs.LoadBundle(os.Getenv(liarBundle))
	if err != nil {
		return err
	}
	at, err := netip.ParseAddr(os.Getenv(liarAddr))
	if err != nil {
		return err
	}
	var seeds []netip.AddrPort
	for s := range strings.SplitSeq(os.Getenv(liarSeeds), ",") {
		seeds = append(seeds, netip.AddrPortFrom(netip.MustParseAddr(s), gossipPort))
	}
	g, err := gossip.New(gossip.Options{Domain: bundle.Domain(), Name: os.Getenv(liarName), Boot: uuid.NewString(), Addrs: []netip.Addr{at}, Port: gossipPort,
		Keys: bundle.GossipKeys(), Seeds: func(context.Context) []netip.AddrPort { return seeds }, Log: zap.NewNop()})
	if err != nil {
		return err
	}
	g.Say(gossip.Record{Addrs: []netip.Addr{at}, AdminPort: adminPort, PeerPort: 2380, ClientPort: 2379, Slot: 5, Phase: "running",
		Genesis: os.Getenv(liarGenesis), Generation: 99, MemberID: "00000000000000aa", Serial: 4_000_000_000, Digest: "00ff00ff00ff00ff", Serving: true})
	return g.Run(ctx)
}

// falseGossip: one who has the gossip key, an old bundle perhaps, says that it is infra1 at another address, in a later life of the
// cluster; and strangers send noise of all sizes to the port. Gossip only ever prompts questions: nobody is removed, nothing is
// published or taken back, no member notices.
func falseGossip(t *testing.T, c *campaign) {
	members, pids := c.memberIDs("infra0"), map[string]int{}
	for _, n := range c.nodes {
		pids[n] = c.MemberPID(n)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := c.host("infra3")
	var seeds []string
	for _, n := range c.nodes {
		seeds = append(seeds, c.Addr(n))
	}
	liar, err := spawn(h, "liar.log", []string{self}, standInRole+"="+liarRole, liarBundle+"="+filepath.Join(h.dir, "cluster.bundle"),
		liarAddr+"="+c.Addr("infra3"), liarName+"=infra1", liarSeeds+"="+strings.Join(seeds, ","), liarGenesis+"="+uuid.NewString())
	if err != nil {
		t.Fatal(err)
	}
	c.Wait("infra0 has heard the liar", healthyLimit, func() error {
		if log := c.Log("infra0"); !strings.Contains(log, c.Addr("infra3")+":2388") {
			return errorf("%s", tail(log, 5))
		}
		return nil
	})
	c.noise("infra0")
	c.Holds("nobody believes it", 2*time.Second, func() error {
		for _, n := range c.nodes {
			if got := c.Ask(clientHost, c.Addr(n), "infra1."+c.Domain, dns.TypeA); got != c.Addr("infra1") {
				return errorf("%s says that infra1 is at %s", n, got)
			}
			if pid := c.MemberPID(n); pid != pids[n] {
				return errorf("the member of %s was process %d and is %d", n, pids[n], pid)
			}
		}
		return nil
	})
	if now := c.memberIDs("infra0"); fmt.Sprint(now) != fmt.Sprint(members) {
		t.Errorf("the members were %v and are %v", members, now)
	}
	if !liar.running() {
		t.Errorf("the liar ended: %v", liar.err)
	}
	if err := liar.cmd.Process.Signal(syscall.SIGTERM); err != nil || !liar.ended(stopLimit) {
		t.Errorf("the liar does not end: %v", err)
	}
}

// noise sends a node's gossip port packets and streams of random octets, from none to the longest that UDP carries.
func (l *Lab) noise(to string) {
	l.t.Helper()
	random := rand.NewChaCha8([32]byte{7})
	at := net.JoinHostPort(l.Addr(to), fmt.Sprint(gossipPort))
	err := inNetns(l.host(clientHost).ns, func() error {
		for _, size := range []int{0, 1, 2, 40, 512, 1400, 2048, 2049, 9000, 65507} {
			p := make([]byte, size)
			_, _ = random.Read(p)
			for _, transport := range []string{"udp", "tcp"} {
				conn, err := net.DialTimeout(transport, at, queryLimit)
				if err != nil {
					return err
				}
				_ = conn.SetDeadline(time.Now().Add(queryLimit))
				_, _ = conn.Write(p) // the other side may hang up
				_ = conn.Close()
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}
