package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxPeers bounds the table, and with it what memberlist remembers: eight runs of each of 64 nodes.
	maxPeers = 512
	// keepOld is how long a run that ended is listed while a later run of the same node is there too.
	keepOld = 10 * time.Minute
)

// table holds the runs that memberlist told of. memberlist calls it with its own lock held, so it copies, signals and
// returns.
type table struct {
	// own is this run's name in memberlist, and forget how long memberlist remembers the dead. Both are fixed.
	own    string
	forget time.Duration
	// changed wakes the user of the package; when a status changed, moved wakes the watcher and lost the joiner. They have one
	// slot, never close, and mean: look again. back wakes the one who spreads the own record, when a run is back that was gone.
	changed, moved, lost, back chan struct{}

	mu sync.Mutex
	// guarded by mu. ended says that Run is over: a timer of memberlist may still fire.
	runs  map[string]*Peer
	ended bool
}

func newTable(own string, forget time.Duration) *table {
	return &table{own: own, forget: forget, changed: make(chan struct{}, 1), moved: make(chan struct{}, 1), lost: make(chan struct{}, 1), back: make(chan struct{}, 1), runs: map[string]*Peer{}}
}

// list returns a copy, sorted by name and boot.
func (t *table) list() []Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Peer, 0, len(t.runs))
	for _, p := range t.runs {
		out = append(out, p.clone())
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Boot, b.Boot)) })
	return out
}

// addrsOf returns the addresses in the record of the run with that memberlist name.
func (t *table) addrsOf(node string) []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.runs[node]; p != nil {
		return slices.Clone(p.Addrs)
	}
	return nil
}

// NotifyAlive is asked before memberlist believes anything about a node. What it refuses is not there for memberlist
// either: nobody probes it, and it is passed on to nobody.
func (t *table) NotifyAlive(n *memberlist.Node) error {
	if n.Name == t.own {
		return nil // what we said, back from another node; memberlist objects to what we did not say
	}
	if _, err := readPeer(n); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.runs[n.Name] == nil && !t.makeRoom(time.Now()) {
		return fmt.Errorf("%d runs are known already", len(t.runs))
	}
	return nil
}

// NotifyJoin is told of a node that is alive, also of one that was dead.
func (t *table) NotifyJoin(n *memberlist.Node) { t.heard(n) }

// NotifyUpdate is told of a new record.
func (t *table) NotifyUpdate(n *memberlist.Node) { t.heard(n) }

// NotifyLeave is told of a node that died or left.
func (t *table) NotifyLeave(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.runs[n.Name]; p != nil && !t.ended {
		t.put(n.Name, *p, goneAs(p.Record))
	}
}

func goneAs(last Record) Status {
	if last.leaving {
		return Left
	}
	return Dead
}

func (t *table) heard(n *memberlist.Node) {
	p, err := readPeer(n)
	if err != nil || n.Name == t.own {
		return // NotifyAlive refused it, so memberlist does not call with it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	status := Alive
	if p.leaving { // its last words: it need not be missed first
		status = Left
	}
	t.put(n.Name, p, status)
}

// put sets a run's entry and signals; the caller holds mu. Since changes only with the status.
func (t *table) put(node string, p Peer, status Status) {
	now := time.Now()
	old := t.runs[node]
	p.Status, p.Since = status, now
	if old != nil && old.Status == status {
		p.Since = old.Since
	}
	t.runs[node] = &p
	maps.DeleteFunc(t.runs, func(_ string, o *Peer) bool { return t.superseded(o, now) })
	wake(t.changed)
	if old == nil || old.Status != status {
		wake(t.moved)
		wake(t.lost)
	}
	if old != nil && old.Status != Alive && status == Alive {
		wake(t.back)
	}
}

// superseded reports whether p ended long ago and a later run of its node is known.
func (t *table) superseded(p *Peer, now time.Time) bool {
	if p.Status == Alive || now.Sub(p.Since) < max(keepOld, t.forget) {
		return false
	}
	for _, o := range t.runs {
		if o.Name == p.Name && o.Boot != p.Boot && (o.Status == Alive || o.Since.After(p.Since)) {
			return true
		}
	}
	return false
}

// makeRoom reports whether one more run may be listed. For that it may drop the one that is gone for longest, once
// memberlist has dropped it too. The caller holds mu.
func (t *table) makeRoom(now time.Time) bool {
	if len(t.runs) < maxPeers {
		return true
	}
	var oldest string
	for node, p := range t.runs {
		if p.Status != Alive && now.Sub(p.Since) > t.forget && (oldest == "" || p.Since.Before(t.runs[oldest].Since)) {
			oldest = node
		}
	}
	delete(t.runs, oldest)
	return oldest != ""
}

// end makes the table deaf.
func (t *table) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// readPeer makes a Peer of what memberlist says of a node; an error means that it must not be a peer at all.
func readPeer(n *memberlist.Node) (Peer, error) {
	addr, ok := netip.AddrFromSlice(n.Addr)
	if addr = addr.Unmap(); !ok || !isUnicast(addr) || n.Port == 0 {
		return Peer{}, fmt.Errorf("its address is %s port %d: want a unicast address and a port", n.Addr, n.Port)
	}
	// memberlist takes the versions of all nodes into account when two of them meet, so that a single wrong one would keep
	// all others apart.
	if n.PMin > protocolVersion || n.PMax < protocolVersion || n.PCur != protocolVersion || n.DMin|n.DMax|n.DCur != 0 {
		return Peer{}, fmt.Errorf("it speaks version %d (%d to %d) of memberlist's protocol and %d (%d to %d) within: want %d and 0", n.PCur, n.PMin, n.PMax, n.DCur, n.DMin, n.DMax, protocolVersion)
	}
	p := Peer{Addr: netip.AddrPortFrom(addr, n.Port)}
	err := p.UnmarshalBinary(n.Meta)
	var newer *formatError
	if errors.As(err, &newer) {
		name, boot, _ := strings.Cut(n.Name, ".")
		p.Record, p.Problem = Record{Format: newer.format, Name: name, Boot: boot}, newer.Error()
		err = nil
		if !isLabel(name) || !isUUID(boot) {
			err = newer
		}
	}
	if err != nil {
		return Peer{}, fmt.Errorf("its record: %w", err)
	}
	if p.nodeName() != n.Name {
		return Peer{}, fmt.Errorf("its record is that of %s", p.nodeName())
	}
	return p, nil
}

// wake fills a channel of one slot.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
