package gossip

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Gossip talks to the other nodes of the domain. Its methods may be called by several goroutines.
type Gossip struct {
	// set by New, then read-only
	o     Options
	own   string // this run's name in memberlist
	peers *table

	keysMu  sync.Mutex // orders calls of SetKeys
	keyring *memberlist.Keyring

	started atomic.Bool
	// said wakes the goroutine that spreads the own record; one slot, never closed.
	said chan struct{}

	mu sync.Mutex
	// guarded by mu: the own record and its encoding, and the last thing that was wrong with one that could not be said.
	record  Record
	encoded []byte
	refused string
}

// New returns a Gossip that does nothing until Run.
func New(o Options) (*Gossip, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	own := Record{Format: Format, Name: o.Name, Boot: o.Boot, Addrs: o.Addrs, Slot: roster.NoSlot}
	encoded, err := own.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	var keys [][]byte
	for _, k := range o.Keys {
		keys = append(keys, bytes.Clone(k))
	}
	keyring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return &Gossip{
		o: o, own: own.nodeName(), peers: newTable(own.nodeName(), o.Timing.Forget), keyring: keyring,
		said: make(chan struct{}, 1), record: own, encoded: encoded,
	}, nil
}

// Say makes r the record of this run and spreads it at once; of several in quick succession the last one counts. Format,
// Name and Boot are set here, and Addrs when there are none. A record that cannot be said is logged, once for each reason,
// and the one before it stays: MarshalBinary tells beforehand.
func (g *Gossip) Say(r Record) {
	r.Format, r.Name, r.Boot, r.leaving = Format, g.o.Name, g.o.Boot, false
	if len(r.Addrs) == 0 {
		r.Addrs = g.o.Addrs
	}
	r.Addrs, r.PeerAddrs = slices.Clone(r.Addrs), slices.Clone(r.PeerAddrs)
	encoded, err := r.MarshalBinary()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		if g.refused != err.Error() {
			g.refused = err.Error()
			g.o.Log.Error("gossip: the other nodes are not told of this node's state", zap.Error(err))
		}
		return
	}
	g.refused = ""
	if g.record.leaving || bytes.Equal(encoded, g.encoded) {
		return
	}
	g.record, g.encoded = r, encoded
	wake(g.said)
}

// Peers returns what is known of the other nodes, sorted by name and boot: each run that is alive, the last run of each
// node, and for a while the ones before it. Another run under this node's own name is one of them.
func (g *Gossip) Peers() []Peer { return g.peers.list() }

// Changed returns a channel of one slot that is filled when Peers may have changed: read Peers again. It has one reader
// and is never closed.
func (g *Gossip) Changed() <-chan struct{} { return g.peers.changed }
