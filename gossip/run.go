package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

const (
	// listenEvery is the time between two tries to listen, while no own address can be listened on.
	listenEvery = time.Second
	// saveEvery is the least time between two writes of the file of remembered nodes.
	saveEvery = 5 * time.Second
	// goodbye times Timing.Gossip bounds each of the two steps of leaving: the last record, and the goodbye itself. One round reaches ten nodes.
	// More than that is for a machine that has no time for its processes.
	goodbye = 8
)

// Run listens, joins the other nodes and stays joined until ctx ends. Then it says goodbye, which takes a second
// and at most some four, and returns nil when all that it started has ended. Trouble with addresses, files
// and other nodes is logged and tried again. Run may be called once.
func (g *Gossip) Run(ctx context.Context) error {
	if g.started.Swap(true) {
		return errors.New("gossip: Run was called before")
	}
	defer g.peers.end()
	t := newTransport(g.o.Addrs, g.o.Port, g.peers.addrsOf)
	t.cut = g.o.cut
	reminders := newLimiter(remindAfter)
	if !g.listen(ctx, t, reminders) {
		return t.Shutdown()
	}
	list, err := memberlist.Create(g.config(t))
	if err != nil {
		return errors.Join(fmt.Errorf("gossip: %w", err), t.Shutdown())
	}
	past, err := readMemory(g.o.File, time.Now())
	if err != nil {
		g.o.Log.Warn("gossip: the nodes that were seen in earlier runs are forgotten", zap.Error(err))
	}
	j := &joiner{o: g.o, peers: g.peers, list: list, t: t, remembered: slices.Clone(past.Peers), reminders: reminders}
	w := &watcher{o: g.o, peers: g.peers, past: past, reminders: reminders}

	var wg sync.WaitGroup
	wg.Go(func() { j.run(ctx) })
	wg.Go(func() { w.run(ctx) })
	wg.Go(func() { g.spread(ctx, list) })
	<-ctx.Done()

	// 1. The goodbye, while the sockets are open. 2. memberlist and the sockets. 3. What waited for the network, and now gets
	// errors. 4. memberlist's last probe: it does not tell when that ends, but how long it takes.
	g.leave(list)
	err = list.Shutdown()
	wg.Wait()
	<-time.After(time.Duration(list.GetHealthScore()+1)*g.o.Timing.Probe + g.o.Timing.Gossip)
	return err
}

// listen returns true when one own address can be listened on, false when ctx ends before that.
func (g *Gossip) listen(ctx context.Context, t *transport, reminders *limiter) bool {
	for ctx.Err() == nil {
		open, err := t.listen()
		if open > 0 {
			return true
		}
		if _, say := reminders.admit("listen", time.Now()); say {
			g.o.Log.Error("gossip: no address can be listened on", zap.Error(err), zap.Duration("retry_in", listenEvery))
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenEvery):
		}
	}
	return false
}

// spread passes each new own record to memberlist until ctx ends, and the same one again when a run is back that was gone. That one may have
// missed a later incarnation of this node. Its word that this node is dead would then be too old for those who have not, and memberlist counts
// it as no second witness either (state.go suspectNode, deadNode): a death would be found by silence alone.
func (g *Gossip) spread(ctx context.Context, list *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.said:
		case <-g.peers.back:
		}
		// It is queued when UpdateNode waits. The wait, for one round of gossip, is what lets records said in the meantime
		// become one.
		_ = list.UpdateNode(g.o.Timing.Gossip)
	}
}

// leave spreads a last record that says so, and then the goodbye. Without the former the others could not tell the latter
// from a death; together they would be one message, as a newer one about a node replaces an older one.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	g.mu.Lock()
	last := g.record
	last.leaving = true
	if encoded, err := last.MarshalBinary(); err == nil { // it can be a little too long
		g.record, g.encoded = last, encoded
	}
	g.mu.Unlock()
	if err := list.UpdateNode(goodbye * g.o.Timing.Gossip); err != nil {
		g.o.Log.Debug("gossip: the last record was not passed on", zap.Error(err))
	}
	if err := list.Leave(goodbye * g.o.Timing.Gossip); err != nil {
		g.o.Log.Debug("gossip: the goodbye was not passed on", zap.Error(err))
	}
}

// speaker gives memberlist the own record. Of what memberlist can carry besides, nothing is used.
type speaker struct{ g *Gossip }

func (s speaker) NodeMeta(int) []byte {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	return s.g.encoded
}
func (speaker) NotifyMsg([]byte)                {}
func (speaker) GetBroadcasts(int, int) [][]byte { return nil }
func (speaker) LocalState(bool) []byte          { return nil }
func (speaker) MergeRemoteState([]byte, bool)   {}
