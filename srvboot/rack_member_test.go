package srvboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// simCluster is what the members of one cluster ID agree on.
type simCluster struct {
	list   []MemberEntry
	commit uint64
	ran    map[string]bool // IDs that ever had a log
	added  int
	leads  string // who leads while it runs, after a hand-over
	led    string // who led last, in term
	term   uint64
	heard  map[string]time.Time // by ID, when it was last up
	match  map[string]uint64    // by ID, what it had then
	// busy makes the next change fail after it took place, as a leader does that dies on the way.
	loseReply bool
}

func (c *simCluster) has(id string) (MemberEntry, bool) { return (&living{List: c.list}).byID(id) }

func (c *simCluster) voters() (n int) {
	for _, e := range c.list {
		if !e.IsLearner {
			n++
		}
	}
	return n
}

// simMember is a member process.
type simMember struct {
	n       *simNode
	l       Launch
	id      string
	cluster string
	done    chan struct{}
	err     error
	changed chan struct{}
	ready   bool
	listed  []MemberEntry // what it reported last
	once    sync.Once
}

// Start makes simNode a Launcher.
func (n *simNode) Start(_ context.Context, l Launch) (Member, error) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	m := &simMember{n: n, l: l, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	if marker := n.disk.marker; marker == nil || (marker.Phase != Born && marker.Phase != Running && marker.Phase != Joining) {
		n.r.t.Errorf("%s: spawned without a durable birth: %+v", n.name, marker)
	}
	if n.cutStarts > 0 || n.disk.cutOff {
		if n.disk.cutOff {
			n.r.t.Errorf("%s: started beside a database without a log", n.name)
		}
		n.cutStarts--
		n.disk.cutOff = true
		go m.end(errors.New("cut off before the log"))
		return m, nil
	}
	switch {
	case n.disk.wal == nil && l.New:
		n.begin(l)
	case n.disk.wal == nil:
		c := n.r.clusters[l.ClusterID]
		if c == nil || l.MemberID == "" || c.ran[l.MemberID] {
			n.r.t.Errorf("%s: joins cluster %s as %q, which may have voted", n.name, l.ClusterID, l.MemberID)
			return nil, errors.New("refused")
		}
		n.disk.wal = &simWAL{member: l.MemberID, cluster: l.ClusterID}
	case l.New:
		n.r.t.Errorf("%s: started as new on data", n.name)
	}
	m.id, m.cluster = n.disk.wal.member, n.disk.wal.cluster
	n.r.cluster(m.cluster, l) // a test may have written the log by itself
	n.run = m
	n.events = append(n.events, fmt.Sprintf("spawn new=%v", l.New))
	go m.live()
	return m, nil
}

// begin writes the log of a member that starts as new. Caller holds the rack's and the disk's lock.
func (n *simNode) begin(l Launch) {
	cluster, ids, err := IDs(l.Members, l.Token)
	if err != nil {
		n.r.t.Errorf("%s: %v", n.name, err)
	}
	n.disk.wal = &simWAL{member: ids[n.name], cluster: cluster}
	if n.r.born[l.Token] == nil {
		n.r.born[l.Token] = map[string]int{}
	}
	n.r.born[l.Token][n.name]++
}

// cluster makes what the members of a cluster ID agree on, if there is nothing yet. Caller holds mu.
func (r *rack) cluster(id string, l Launch) {
	if r.clusters[id] != nil {
		return
	}
	c := &simCluster{ran: map[string]bool{}, heard: map[string]time.Time{}, match: map[string]uint64{}, commit: uint64(len(l.Members))}
	_, ids, _ := IDs(l.Members, l.Token)
	for _, g := range l.Members {
		c.list = append(c.list, MemberEntry{ID: ids[g.Name], Name: g.Name, PeerURLs: []string{g.PeerURL}})
	}
	r.clusters[id] = c
}

// live is the life of a member: its port opens, its log gets entries, and then it reports now and then, until it is
// removed.
func (m *simMember) live() {
	for wait := 30 * time.Millisecond; ; wait = 100 * time.Millisecond {
		select {
		case <-m.done:
			return
		case <-time.After(wait):
		}
		m.n.r.mu.Lock()
		if m.n.run != m { // it ended at this very moment, and writes nothing any more
			m.n.r.mu.Unlock()
			return
		}
		m.ready = true
		c := m.n.r.clusters[m.cluster]
		c.ran[m.id] = true
		_, listed := c.has(m.id)
		m.listed = slices.Clone(c.list)
		index := uint64(len(c.list))
		if _, leader := m.n.r.up(m.cluster); leader != "" { // alone it hears of nothing
			index = c.commit
		}
		m.n.logs(index)
		m.n.r.mu.Unlock()
		if !listed {
			if m.n.told { // by then it only sees that its connections end
				m.end(errors.New("a listener of etcd failed"))
			}
			m.n.told = true
			m.end(errSimRemoved{})
			return
		}
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

// logs has the member's log go up to an index. Caller holds the rack's lock.
func (n *simNode) logs(index uint64) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if w := n.disk.wal; w != nil {
		w.entries, w.index = true, max(w.index, index)
	}
}

type errSimRemoved struct{}

func (errSimRemoved) Error() string        { return "the member was removed from its cluster" }
func (errSimRemoved) Removed() bool        { return true }
func (errSimRemoved) Acknowledged() uint64 { return 0 }

func (m *simMember) Done() <-chan struct{}    { return m.done }
func (m *simMember) Changed() <-chan struct{} { return m.changed }
func (m *simMember) Err() error               { return m.err }

func (m *simMember) Stop(context.Context) error {
	m.end(nil)
	return nil
}

func (m *simMember) end(err error) {
	m.once.Do(func() {
		m.err = err
		m.n.r.mu.Lock()
		if m.n.run == m {
			m.n.run = nil
		}
		m.n.r.mu.Unlock()
		close(m.done)
	})
}

// up returns the IDs of the members that run, and the leader when they are a quorum: the first voter. Caller holds mu.
func (r *rack) up(cluster string) (ids []string, leader string) {
	c := r.clusters[cluster]
	voters := 0
	for _, name := range simNames(len(r.nodes)) {
		n := r.nodes[name]
		if n == nil || n.run == nil || !n.run.ready || n.run.cluster != cluster || r.frozen[name] {
			continue
		}
		e, ok := c.has(n.run.id)
		if !ok {
			continue
		}
		ids = append(ids, e.ID)
		c.heard[e.ID], c.match[e.ID] = time.Now(), c.commit
		if !e.IsLearner {
			voters++
			if leader == "" || e.ID == c.leads {
				leader = e.ID
			}
		}
	}
	if voters < quorum(c.voters()) {
		leader = ""
	}
	if leader != "" && leader != c.led {
		c.led = leader
		c.term++
	}
	return ids, leader
}

// State reports like etcd: it serves while a majority of the voters of its cluster is ready.
func (m *simMember) State() (MemberState, bool) {
	r := m.n.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.ready {
		return MemberState{}, false
	}
	if last, hung := r.hung[m.n.name]; hung {
		return last, true
	}
	c := r.clusters[m.cluster]
	_, leader := r.up(m.cluster)
	own, _ := c.has(m.id)
	s := MemberState{ID: m.id, ClusterID: m.cluster, Applied: uint64(len(c.list)), Members: slices.Clone(c.list), IsLearner: own.IsLearner}
	if r.stale {
		s.Members = m.listed
	}
	if leader == "" {
		return s, true
	}
	if c.commit < 20 {
		c.commit = 20
	}
	m.n.logs(c.commit)
	s.Listed = c.commit
	s.Serving, s.Applied, s.Commit, s.Leader, s.Term = !own.IsLearner, c.commit, c.commit, leader, c.term
	if leader == m.id {
		for _, e := range c.list {
			l := Link{ID: e.ID, Match: c.match[e.ID], Quiet: int(time.Since(c.heard[e.ID]) / time.Second)}
			if e.ID != m.id {
				s.Links = append(s.Links, l)
			}
		}
	}
	return s, true
}

var errNotLeading = errors.New("etcdserver: not leader")

// Change changes the list as etcd does, strict reconfiguration included.
func (m *simMember) Change(ctx context.Context, ch Change) (id string, err error) {
	defer func() {
		if errors.Is(err, ErrRefused) {
			m.n.r.mu.Lock()
			defer m.n.r.mu.Unlock()
			m.n.r.refused = append(m.n.r.refused, ch)
		}
	}()
	r := m.n.r
	r.mu.Lock()
	takes := 5*time.Millisecond + r.changeTakes
	r.changing++
	r.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changing--
	c := r.clusters[m.cluster]
	up, leader := r.up(m.cluster)
	e, listed := c.has(ch.ID)
	switch {
	case leader != m.id || ch.Term != c.term: // member/control.go, carryOut
		return "", fmt.Errorf("%w: %w", ErrRefused, errNotLeading)
	case !slices.Equal(ListIDs(c.list), ch.Members):
		return "", fmt.Errorf("%w: the members are %v, the change was derived from %v", ErrRefused, ListIDs(c.list), ch.Members)
	case r.refuse && (ch.Op == RemoveMember || ch.Op == AddLearner):
		return "", fmt.Errorf("%w: etcdserver: unhealthy cluster", ErrRefused)
	case ch.Op != AddLearner && !listed:
		return "", fmt.Errorf("%w: membership: ID not found", ErrRefused)
	case ch.Op == RemoveMember && !e.IsLearner && !ch.Force && slices.Contains(up, ch.ID) && len(up)-1 < quorum(c.voters()-1):
		return "", fmt.Errorf("%w: etcdserver: unhealthy cluster", ErrRefused) // etcdserver/server.go, mayRemoveMember
	case ch.Op == AddLearner && slices.ContainsFunc(c.list, func(e MemberEntry) bool { return e.IsLearner }):
		return "", fmt.Errorf("%w: membership: too many learner members in cluster", ErrRefused)
	case ch.Op == AddLearner && len(c.list) > 1 && len(up) < quorum(len(c.list)+1): // etcd lets one become two
		return "", fmt.Errorf("%w: etcdserver: unhealthy cluster", ErrRefused)
	}
	c.commit++
	id = ch.ID
	switch ch.Op {
	case AddLearner:
		c.added++
		id = fmt.Sprintf("%016x", 0xadd0+c.added)
		c.list = append(c.list, MemberEntry{ID: id, PeerURLs: []string{ch.PeerURL}, IsLearner: true})
		c.heard[id] = time.Now()
	case RemoveMember:
		r.removals = append(r.removals, ch)
		if !e.IsLearner && slices.Contains(up, id) && !strings.HasPrefix(ch.Reason, "ordered") {
			r.t.Errorf("P5: voter %s was removed while it ran", id)
		}
		c.list = slices.DeleteFunc(slices.Clone(c.list), func(e MemberEntry) bool { return e.ID == id })
	case MoveLeader:
		c.leads = id
	case PromoteLearner:
		c.list = slices.Clone(c.list)
		i := slices.IndexFunc(c.list, func(e MemberEntry) bool { return e.ID == id })
		c.list[i].IsLearner = false
	}
	if c.loseReply {
		c.loseReply = false
		return "", context.DeadlineExceeded
	}
	return id, nil
}

func (m *simMember) Snapshot(_ context.Context, w io.Writer) error {
	_, err := io.Copy(w, strings.NewReader("keys"))
	return err
}
