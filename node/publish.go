package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// publishTimeout bounds how long the boot loop waits for the zone: a write of two small files.
const publishTimeout = 10 * time.Second

// publishTick re-judges what ages without an event: answers that went stale.
const publishTick = 250 * time.Millisecond

// publisher owns the line roster → compile → swap: one goroutine, level-triggered.
type publisher struct {
	node *Node
	zone *zone.Publisher
	file string
	log  *zap.Logger
	// asks carries views that must be published before the asker goes on; closed never.
	asks    chan errand
	prompts prompt
	// fault is why the zone is not what it should be, or not on disk; nil when all is well.
	fault atomic.Pointer[string]
	// said is what the other nodes are told; nil before the first round.
	said atomic.Pointer[said]
	// held is what damping says of the own member; never nil.
	held atomic.Pointer[heldOut]

	// Owned by run.
	views    []roster.View
	nodes    []roster.Node
	places   roster.Places
	reverse  []servedReverse
	last     roster.Roster
	settling map[string]*settling // by srv-name
	damping  damping
	clients  map[string][]string // said.clients of the zone that is served
}

// errand is a view with the channel that its result is sent on.
type errand struct {
	view roster.View
	done chan error
}

func newPublisher(n *Node, z *zone.Publisher) *publisher {
	p := &publisher{node: n, zone: z, file: n.options().File(rosterFile), log: n.log.Named("zone"),
		asks: make(chan errand), prompts: newPrompt(), settling: map[string]*settling{}}
	p.held.Store(&heldOut{})
	return p
}

// publish serves a view and returns when it is served and saved. The boot loop calls it before it spawns a member.
func (p *publisher) publish(v roster.View) error {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	a := errand{view: v, done: make(chan error, 1)}
	select {
	case p.asks <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run publishes until ctx ends. changed signals that the boot loop's report changed.
func (p *publisher) run(ctx context.Context, changed <-chan struct{}) error {
	tick := time.NewTicker(publishTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-p.asks:
			a.done <- p.once(a.view)
			continue
		case <-changed:
		case <-p.node.onlooker.Changed():
		case <-p.prompts:
		case <-tick.C:
		}
		m := p.node.boot.Report().State.Member
		held := p.damping.tell(m != nil && m.Serving, time.Now())
		p.held.Store(&held)
		p.report(p.once(p.node.boot.Report().View))
		p.node.rumor.say() // with the new serial, before something happens to this node
	}
}

// report keeps an error for status, and logs it once, not at every tick.
func (p *publisher) report(err error) {
	if err == nil {
		p.fault.Store(nil)
		return
	}
	text := err.Error()
	if was := p.fault.Swap(&text); was == nil || *was != text {
		p.log.Error("the zone needs attention", errorFields(err)...)
	}
}

// once merges, compiles and swaps. The saved views come after the swap: they only matter to the next start.
func (p *publisher) once(own roster.View) error {
	n := p.node
	rep := n.report()
	n.places.learn(rep.Answers, time.Now())
	views := slices.Concat(p.views, []roster.View{own}, n.onlooker.Sights().Views)
	r := withKept(roster.Merge(n.static(), views...), slices.Concat(n.options().toldNodes(rep.Answers, p.last.Nodes, time.Now()), p.last.Nodes, p.nodes))
	r = n.places.fill(n.options(), r)
	r, told := n.followers.publish(r, rep.Answers, n.options().Records)
	h := n.hear(rep, time.Now())
	defer func() { p.said.Store(&said{at: h.now, clients: p.clients, heard: h.heard()}) }()
	r = p.withClients(r, h, told)
	p.zone.SetOptions(n.zoneOptions(n.options()))
	numberErr := p.number(r, rep)
	reverseErr := p.publishReverse(r, rep)
	if err := p.unsigned(rep); err != nil {
		return errors.Join(err, reverseErr)
	}
	changed, err := p.zone.Publish(r, published(rep))
	if err != nil {
		return errors.Join(fmt.Errorf("the last zone keeps serving: %w", errors.Join(numberErr, err)), reverseErr)
	}
	p.last, p.clients = r, p.clientsOf(r)
	n.roster.Store(&r)
	if changed {
		n.resolve(r)
		n.fronts.prompts.send() // the nodes' own addresses have no rate limit
		n.transfers.notifier.Changed()
		p.log.Info("zone published", zap.Uint32("serial", n.store.Load().Serial()))
	}
	return errors.Join(unrecorded(p.zone), reverseErr, p.save(r))
}

// number has the zones make their serials with this node's number. That it has none matters only when it has to make one.
func (p *publisher) number(r roster.Roster, rep srvboot.Report) error {
	var members []string
	for _, n := range memberNodes(r) {
		members = append(members, n.Name)
	}
	u := p.node.numbering
	err := u.settle(members, rep.Answers, time.Now())
	p.zone.SetSlot(u.own())
	for _, z := range p.reverse {
		z.publisher.SetSlot(u.own())
	}
	return err
}

// unsigned keeps this node from publishing a zone without signatures while another node signs it: secondaries would take
// that over, and validators none of it. A node that lost its data learns what the cluster is before it learns how to sign.
func (p *publisher) unsigned(rep srvboot.Report) error {
	if p.node.dnssec.signer() != nil || p.node.store.Load() == nil {
		return nil
	}
	for name, a := range rep.Answers {
		if a.State.Signed && a.Fresh(time.Now(), staleAnswer) {
			p.node.dnssec.syncs.send()
			return fmt.Errorf("the last zone keeps serving: %s signs the zone, and this node does not yet", name)
		}
	}
	return nil
}

// unrecorded is the error of a zone whose serial is not on disk.
func unrecorded(z *zone.Publisher) error {
	if err := z.Unrecorded(); err != nil {
		return fmt.Errorf("the zone is served, but a start of this node would not know its serial: %w", err)
	}
	return nil
}

// published lists what the other nodes serve.
func published(rep srvboot.Report) (out []zone.Published) {
	for _, a := range rep.Answers {
		if !a.At.IsZero() && a.State.ZoneDigest != "" {
			out = append(out, zone.Published{Serial: a.State.Serial, Digest: a.State.ZoneDigest})
		}
	}
	return out
}
