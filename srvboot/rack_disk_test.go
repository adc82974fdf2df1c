package srvboot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// simDisk is a Storage in memory. Each write counts; at write number failAt it fails, and when crash is set it calls
// it before or after the write took place.
type simDisk struct {
	mu     sync.Mutex
	marker *Marker
	seen   Seen
	stamp  string
	wal    *simWAL
	aside  []*simWAL
	id     Identity
	extra  []string // more evidence
	vol    string
	moved  bool // another device

	writes int
	fault  func(write int) diskFault
	syncAt time.Duration
}

type diskFault int

const (
	fine diskFault = iota
	failBefore
	failAfter // the write took place, the caller is told that it failed
)

// simWAL is what a member writes.
type simWAL struct {
	member, cluster string
	entries         bool
	broken          bool
}

var errDisk = errors.New("no space left on device")

func (d *simDisk) newLife(life uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id = Identity{Format: Format, Life: max(d.id.Life+1, 1), Boot: fmt.Sprintf("boot-%d", life), Previous: d.id.Boot, Machine: "m"}
}

func (d *simDisk) Facts() (DiskFacts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := DiskFacts{Data: None, Identity: d.id, Seen: d.seen, Volatile: d.vol, DeviceChanged: d.moved, Evidence: d.extra}
	if d.marker != nil {
		m := *d.marker
		f.Marker = &m
		if m.Phase != Fresh {
			f.Evidence = append(f.Evidence, "genesis.json")
		}
	}
	if len(d.aside) > 0 {
		f.Evidence = append(f.Evidence, "etcd.aside")
	}
	f.Data = d.class()
	if f.Data != None {
		f.Evidence = append(f.Evidence, "etcd/")
	}
	if d.wal != nil {
		f.MemberID, f.ClusterID = d.wal.member, d.wal.cluster
	}
	return f, nil
}

func (d *simDisk) class() Data {
	switch w := d.wal; {
	case w == nil && d.stamp == "":
		return None
	case w == nil && d.marker != nil && d.marker.Stamp == d.stamp:
		return Stamped
	case w == nil || w.broken:
		return Broken
	case d.marker != nil && d.marker.MemberID != "" && d.marker.MemberID != w.member,
		d.marker != nil && d.marker.Accepted != nil && d.marker.Accepted.Genesis.ClusterID != w.cluster:
		return Alien
	case !w.entries:
		return Stub
	}
	return HasMember
}

func (d *simDisk) write(f func()) error {
	time.Sleep(d.syncAt)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	fault := fine
	if d.fault != nil {
		fault = d.fault(d.writes)
	}
	if fault == failBefore {
		return errDisk
	}
	f()
	if fault == failAfter {
		return errDisk
	}
	return nil
}

func (d *simDisk) SaveMarker(m Marker) error { return d.write(func() { d.marker = &m }) }
func (d *simDisk) SaveSeen(s Seen) error     { return d.write(func() { d.seen = s }) }
func (d *simDisk) SaveIndex(index, term uint64) error {
	return d.write(func() { d.id.Index, d.id.Term = max(d.id.Index, index), max(d.id.Term, term) })
}
func (d *simDisk) Stamp(nonce string) (uint64, error) {
	return 42, d.write(func() { d.stamp = nonce })
}

func (d *simDisk) SetAside(string) (string, error) {
	return "etcd.aside", d.write(func() { d.aside, d.wal, d.stamp = append(d.aside, d.wal), nil, "" })
}

// wipe loses the whole disk.
func (d *simDisk) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marker, d.seen, d.stamp, d.wal, d.aside, d.id, d.extra = nil, Seen{}, "", nil, nil, Identity{}, nil
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
	once    sync.Once
}

// Start makes simNode a Launcher.
func (n *simNode) Start(_ context.Context, l Launch) (Member, error) {
	n.disk.mu.Lock()
	m := &simMember{n: n, l: l, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	marker := n.disk.marker
	if marker == nil || (marker.Phase != Born && marker.Phase != Running && marker.Phase != Joining) {
		n.r.t.Errorf("%s: spawned without a durable birth: %+v", n.name, marker)
	}
	if n.disk.wal == nil {
		cluster, ids, err := IDs(l.Members, l.Token)
		if err != nil || !l.New {
			n.r.t.Errorf("%s: started without data: %+v, %v", n.name, l, err)
		}
		n.disk.wal = &simWAL{member: ids[n.name], cluster: cluster}
	} else if l.New {
		n.r.t.Errorf("%s: started as new on data", n.name)
	}
	m.id, m.cluster = n.disk.wal.member, n.disk.wal.cluster
	n.disk.mu.Unlock()
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	n.run = m
	n.events = append(n.events, fmt.Sprintf("spawn new=%v", l.New))
	if l.New {
		if n.r.born[l.Token] == nil {
			n.r.born[l.Token] = map[string]int{}
		}
		n.r.born[l.Token][n.name]++
	}
	go m.live()
	return m, nil
}

// live is the life of a member: its port opens, its log gets entries, and then it reports now and then.
func (m *simMember) live() {
	for wait := 30 * time.Millisecond; ; wait = 100 * time.Millisecond {
		select {
		case <-m.done:
			return
		case <-time.After(wait):
		}
		m.n.disk.mu.Lock()
		if m.n.disk.wal != nil {
			m.n.disk.wal.entries = true
		}
		m.n.disk.mu.Unlock()
		m.n.r.mu.Lock()
		m.ready = true
		m.n.r.mu.Unlock()
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

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

// State reports like etcd: it serves while a majority of the members of its cluster is ready.
func (m *simMember) State() (MemberState, bool) {
	m.n.r.mu.Lock()
	defer m.n.r.mu.Unlock()
	if !m.ready {
		return MemberState{}, false
	}
	up := 0
	var list []MemberEntry
	_, ids, _ := IDs(m.l.Members, m.l.Token)
	for _, g := range m.l.Members {
		list = append(list, MemberEntry{ID: ids[g.Name], Name: g.Name, PeerURLs: []string{g.PeerURL}})
		if o := m.n.r.nodes[g.Name]; o != nil && o.run != nil && o.run.ready && o.run.cluster == m.cluster {
			up++
		}
	}
	s := MemberState{ID: m.id, ClusterID: m.cluster, Applied: uint64(len(list)), Members: list}
	if up > len(list)/2 {
		s.Serving, s.Applied = true, uint64(len(list))+10
	}
	return s, true
}
