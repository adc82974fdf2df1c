package srvboot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	// machine is the one that the disk is in; "m" while it is empty.
	machine string
	extra   []string // more evidence
	vol     string
	cutOff  bool // a first start left a database and no log
	moved   bool // another device

	snapshots  []string
	noSnapshot error // why none can be taken

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
	index           uint64
	entries         bool
	broken          bool
}

var errDisk = errors.New("no space left on device")

func (d *simDisk) newLife(life uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	earlier, from, machine := d.id.chain(), d.id.MovedFrom, cmp.Or(d.machine, "m")
	if d.id.Machine != "" && d.id.Machine != machine && from == "" {
		from = d.id.Machine
	}
	d.id = Identity{Format: Format, Life: d.id.Life + 1, Boot: fmt.Sprintf("boot-%d", life), Previous: d.id.Boot, Earlier: earlier,
		Machine: machine, MovedFrom: from, Index: d.id.Index, Term: d.id.Term}
}

func (d *simDisk) Facts() (DiskFacts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := DiskFacts{Data: None, CutOff: d.cutOff, Identity: d.id, Seen: d.seen, Volatile: d.vol, DeviceChanged: d.moved, Evidence: slices.Clone(d.extra)}
	if what := wordEvidence(d.seen, ""); what != "" {
		f.Evidence = append(f.Evidence, what)
	}
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
		f.MemberID, f.ClusterID, f.LastIndex = d.wal.member, d.wal.cluster, d.wal.index
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
func (d *simDisk) Settle() error { return d.write(func() { d.id.MovedFrom = "" }) }
func (d *simDisk) SaveSnapshot(why string, write func(io.Writer) error) (string, error) {
	var b strings.Builder
	if err := cmp.Or(write(&b), d.snapshotError()); err != nil {
		return "", err
	}
	return why, d.write(func() { d.snapshots = append(d.snapshots, why) })
}
func (d *simDisk) snapshotError() error { d.mu.Lock(); defer d.mu.Unlock(); return d.noSnapshot }
func (d *simDisk) Stamp(nonce string) (uint64, error) {
	if d.cutOff {
		return 0, errors.New("etcd/ is in use")
	}
	return 42, d.write(func() { d.stamp, d.id.Index, d.id.Term = nonce, 0, 0 })
}

func (d *simDisk) SetAside(string) (string, error) {
	return "etcd.aside", d.write(func() { d.aside, d.wal, d.stamp, d.cutOff = append(d.aside, d.wal), nil, "", false })
}

func (d *simDisk) SetAsideStart(string) (string, error) {
	return "etcd.aside", d.write(func() { d.cutOff = false })
}

// wipe loses the whole disk.
func (d *simDisk) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutOff, d.marker, d.seen, d.stamp, d.wal, d.aside, d.id, d.extra = false, nil, Seen{}, "", nil, nil, Identity{}, nil
}
