package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// Options are what a Gossip works with. Seeds, File, Timing and Log may be left out.
type Options struct {
	// Domain is the discovery domain. Nodes of different domains never mix: it is the label of every packet and stream, and
	// part of what the encryption authenticates.
	Domain string
	// Name and Boot are the node's, see Record.
	Name, Boot string
	// Addrs are the node's own addresses, of one or both families; Port is its port there, UDP and TCP. memberlist lets a
	// node have one address: it is the first that can be listened on. The others are in the record, for those who speak
	// only the other family.
	Addrs []netip.Addr
	Port  uint16
	// Keys are AES keys of 16, 24 or 32 octets, at least one. The first encrypts, all decrypt.
	Keys [][]byte
	// Seeds returns where other nodes may listen; who of them is missing is tried. It is asked again at each try, and at least
	// every Timing.Rejoin, by one goroutine, and should heed its context.
	Seeds func(ctx context.Context) []netip.AddrPort
	// File is where the nodes that were seen are remembered for the next start; empty for nowhere.
	File string
	// Timing is Rack when it is zero.
	Timing Timing
	Log    *zap.Logger

	// cut, in tests, says to and from which addresses the wires are broken.
	cut func(netip.Addr) bool
}

// check completes the options, or says what is wrong with them.
func (o *Options) check() error {
	o.Domain = strings.ToLower(strings.TrimSuffix(o.Domain, "."))
	if o.Domain == "" || len(o.Domain) > memberlist.LabelMaxSize {
		return fmt.Errorf("domain %q: want 1 to %d octets", o.Domain, memberlist.LabelMaxSize)
	}
	if len(o.Addrs) == 0 {
		return errors.New("no address to listen on")
	}
	if o.Port == 0 {
		return errors.New("port 0: want the port that all nodes use, 1 to 65535")
	}
	o.Addrs = slices.Clone(o.Addrs)
	for i, a := range o.Addrs {
		o.Addrs[i] = a.Unmap()
	}
	if o.Timing == (Timing{}) {
		o.Timing = Rack()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if err := o.Timing.check(); err != nil {
		return err
	}
	return checkKeys(o.Keys)
}

// config is what memberlist gets.
func (g *Gossip) config(t *transport) *memberlist.Config {
	timing := g.o.Timing
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport = g.own, g.o.Domain, t
	c.BindPort, c.AdvertisePort = int(g.o.Port), int(g.o.Port)
	// Version 5 is all that we ever spoke: packets have a checksum, helpers say when they got no answer.
	c.ProtocolVersion = protocolVersion

	c.Keyring, c.GossipVerifyIncoming, c.GossipVerifyOutgoing = g.keyring, true, true
	// A record is mostly random octets, which do not get shorter; and what cannot be turned on cannot be a bomb.
	c.EnableCompression = false

	c.ProbeInterval, c.ProbeTimeout = timing.Probe, timing.ProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = timing.Suspicion, timing.SuspicionMax
	c.AwarenessMaxMultiplier = maxSlowdown
	c.GossipInterval, c.GossipNodes, c.RetransmitMult = timing.Gossip, gossipNodes, timing.Retransmit
	c.PushPullInterval, c.TCPTimeout = timing.PushPull, timing.Stream
	c.GossipToTheDeadTime = timing.Forget

	c.Delegate, c.Alive, c.Events = speaker{g}, g.peers, g.peers
	c.LogOutput = newLogBridge(g.o.Log)
	return c
}

const (
	// maxSlowdown is how many times its probe interval a node takes at most that finds itself slow. memberlist's 8 would have it miss a
	// death for seconds after it was cut off itself; a false verdict costs a client record here, until the next question is answered.
	maxSlowdown = 2
	// gossipNodes is to how many nodes news go in one round. memberlist's 3 may all be dead where a node has ended a few times within
	// Timing.Forget, and news be lost.
	gossipNodes = 10
)

// protocolVersion of memberlist is pinned: a node that cannot speak it is refused, so that none can make the others
// disagree about versions.
const protocolVersion = 5
