package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// staleAnswer is how old a node's last answer may be before its member no longer counts as serving. Nodes are asked
// every second, so this forgives two lost answers.
const staleAnswer = 2500 * time.Millisecond

// publishTimeout bounds how long the boot loop waits for the zone: a write of two small files.
const publishTimeout = 10 * time.Second

// publishTick re-judges what ages without an event: answers that went stale.
const publishTick = 250 * time.Millisecond

// rosterFormat is the version of roster.json.
const rosterFormat = 1

// savedRoster is roster.json: the newest view of each cluster that this node published, so that a restarted node
// serves a complete set before anyone else answers.
type savedRoster struct {
	Format int           `json:"format"`
	Views  []roster.View `json:"views"`
	// Nodes are those of the members, so that a name stays an address when its node line goes.
	Nodes []roster.Node `json:"nodes"`
	// Places are where nodes were seen that have their addresses from the network.
	Places roster.Places `json:"places,omitempty"`
}

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

	// Owned by run.
	views    []roster.View
	nodes    []roster.Node
	places   roster.Places
	reverse  []servedReverse
	last     roster.Roster
	settling map[string]*settling // by srv-name
}

// errand is a view with the channel that its result is sent on.
type errand struct {
	view roster.View
	done chan error
}

func newPublisher(n *Node, z *zone.Publisher) *publisher {
	return &publisher{node: n, zone: z, file: n.options().File("roster.json"), log: n.log.Named("zone"),
		asks: make(chan errand), prompts: newPrompt(), settling: map[string]*settling{}}
}

// load reads the last good roster. A damaged file is logged and left out: the other nodes and the marker know too.
func (p *publisher) load() {
	text, err := os.ReadFile(p.file)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var s savedRoster
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Format > rosterFormat {
		err = fmt.Errorf("format %d is newer than %d", s.Format, rosterFormat)
	}
	if err != nil {
		p.log.Error("the last good roster cannot be used", zap.String("file", p.file), zap.Error(err))
		return
	}
	p.views, p.nodes, p.places = s.Views, s.Nodes, s.Places
	p.node.places.recall(s.Places)
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
		p.node.rumor.say()
		p.report(p.once(p.node.boot.Report().View))
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
	r := withKept(roster.Merge(n.static(), views...), slices.Concat(p.last.Nodes, p.nodes))
	r = n.places.fill(n.options(), r)
	r, told := n.followers.publish(r, rep.Answers, n.options().Records)
	serving := func(cluster, name string) bool {
		if c, _ := r.Cluster(cluster); c.Outside {
			return told(cluster, name)
		}
		return n.serving(rep, name) || p.settling[cluster].goesOn()
	}
	p.settle(r, func(name string) bool { return n.serving(rep, name) })
	r = r.WithServing(serving, lastServing(p.last, rep.Answers))
	p.zone.SetOptions(n.zoneOptions(n.options()))
	reverseErr := p.publishReverse(r, rep)
	if err := p.unsigned(rep); err != nil {
		return errors.Join(err, reverseErr)
	}
	changed, err := p.zone.Publish(r, published(rep))
	if err != nil {
		return errors.Join(fmt.Errorf("the last zone keeps serving: %w", err), reverseErr)
	}
	p.last = r
	n.roster.Store(&r)
	if changed {
		n.resolve(r)
		n.fronts.prompts.send() // the nodes' own addresses have no rate limit
		n.transfers.notifier.Changed()
		p.log.Info("zone published", zap.Uint32("serial", n.store.Load().Serial()))
	}
	return errors.Join(unrecorded(p.zone), reverseErr, p.save(r))
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

// save keeps the newest born view of each cluster.
func (p *publisher) save(r roster.Roster) error {
	var views []roster.View
	for _, c := range r.Clusters {
		if c.Knowledge == roster.Born && !c.Outside { // lists that are followed have files of their own
			views = append(views, roster.View{Cluster: c.Name, Knowledge: c.Knowledge, Generation: c.Generation, Index: c.Index, Members: members(c)})
		}
	}
	nodes, places := memberNodes(r), p.node.places.snapshot()
	samePlaces := maps.EqualFunc(places, p.places, roster.Place.Equal)
	if len(views) == 0 || sameLists(views, p.views) && samePlaces {
		return nil
	}
	text, err := json.MarshalIndent(savedRoster{Format: rosterFormat, Views: views, Nodes: nodes, Places: places}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the roster: %w", err)
	}
	if err := durable.WriteFile(p.file, text, 0o600); err != nil {
		return fmt.Errorf("save the last good roster: %w", err)
	}
	p.views, p.nodes, p.places = views, nodes, places
	return nil
}

// settleTime bounds how long after a birth or a start all members are published as serving. A birth takes a second;
// until each member was heard once, a smaller set would be a guess.
const settleTime = 10 * time.Second

// settling is the time in which the client set of a cluster does not follow the members' health yet: a set that grows
// from one to all while a cluster boots would be a part of it.
type settling struct {
	// born is when this run first knew the cluster born; over is set once every member served since, or did not in time.
	born time.Time
	over bool
}

func (s *settling) goesOn() bool { return s != nil && !s.over }

// settle says which clusters have settled.
func (p *publisher) settle(r roster.Roster, serving func(node string) bool) {
	for _, c := range r.Clusters {
		s := p.settling[c.Name]
		if c.Knowledge != roster.Born || c.Outside || s != nil && s.over {
			continue
		}
		if s == nil {
			s = &settling{born: time.Now()}
			p.settling[c.Name] = s
		}
		all := !slices.ContainsFunc(c.Members, func(m roster.Member) bool { return !serving(m.Node) })
		s.over = all || time.Since(s.born) > settleTime
	}
}

// lastServing is what client sets fall back on when no member of a cluster serves: the members that this node published
// last, and those that the other nodes did. The nodes see the last deaths of a cluster in different orders, and end at
// one set all the same, for a union only grows until all have it.
func lastServing(last roster.Roster, answers map[string]srvboot.Answer) roster.Roster {
	last = last.Clone()
	for _, c := range last.Clusters {
		for i := range c.Members {
			m := &c.Members[i]
			for _, a := range answers {
				m.Serving = m.Serving || a.Fresh(time.Now(), staleAnswer) && slices.Contains(a.State.Clients[c.Name], m.Node)
			}
		}
	}
	return last
}

// withKept adds the nodes of members that the configuration no longer names, with the addresses they had: deleting a
// node line removes nothing.
func withKept(r roster.Roster, known []roster.Node) roster.Roster {
	for _, c := range r.Clusters {
		for _, m := range c.Members {
			if _, ok := r.Node(m.Node); ok {
				continue
			}
			if i := slices.IndexFunc(known, func(n roster.Node) bool { return n.Name == m.Node }); i >= 0 {
				r.Nodes = append(r.Nodes, known[i])
			}
		}
	}
	return r.Clone()
}

// memberNodes returns the nodes that the member list of some cluster of the rack names.
func memberNodes(r roster.Roster) (out []roster.Node) {
	for _, n := range r.Nodes {
		if slices.ContainsFunc(r.Clusters, func(c roster.Cluster) bool {
			return !c.Outside && slices.ContainsFunc(c.Members, func(m roster.Member) bool { return m.Node == n.Name })
		}) {
			out = append(out, n)
		}
	}
	return out
}

// members returns a cluster's list without the health that belongs to the moment.
func members(c roster.Cluster) []roster.Member {
	out := slices.Clone(c.Members)
	for i := range out {
		out[i].Serving = false
	}
	return out
}

// sameLists reports whether nothing worth a write changed: the applied index moves with every write to etcd, the
// list does not.
func sameLists(a, b []roster.View) bool {
	return slices.EqualFunc(a, b, func(x, y roster.View) bool {
		return x.Cluster == y.Cluster && x.Generation == y.Generation && slices.Equal(x.Members, y.Members)
	})
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

// serving reports whether a node's member answers clients now.
func (n *Node) serving(rep srvboot.Report, name string) bool {
	if name == n.name {
		return rep.State.Member != nil && rep.State.Member.Serving
	}
	a := rep.Answers[name]
	if !a.Fresh(time.Now(), staleAnswer) || a.State.Member == nil || !a.State.Member.Serving {
		return false
	}
	return !n.rumor.isGone(name, a.State.Gossip)
}
