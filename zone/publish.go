package zone

import (
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/etcd-dns/etcd-dns/roster"
)

// Store holds the snapshot that is served. Readers never wait.
type Store struct{ current atomic.Pointer[Snapshot] }

// NewStore returns an empty store: the handler answers SERVFAIL until a Publisher has filled it.
func NewStore() *Store { return &Store{} }

// Load returns the snapshot that is served now, nil before the first one.
func (s *Store) Load() *Snapshot { return s.current.Load() }

// Published is what a peer says that it serves.
type Published struct {
	Serial uint32
	Digest string
}

// Publisher compiles rosters and swaps the snapshots of one store. One goroutine owns it.
type Publisher struct {
	store   *Store
	options Options
	serials *Serials
	// compile makes the content of a roster; it tells in which names it may differ from the last one that it made.
	compile func(roster.Roster, Options) (*Snapshot, map[string]bool, error)
	// touched are the names in which the content may differ from what is served.
	touched map[string]bool
	// unrecorded is why the serial that is served is not on disk; nil when it is.
	unrecorded error
}

// NewPublisher returns the publisher of the domain's zone into store. It publishes nothing by itself.
func NewPublisher(store *Store, o Options, s *Serials) *Publisher {
	return &Publisher{store: store, options: o, serials: s, compile: new(compiler).compile, touched: map[string]bool{}}
}

// NewReversePublisher returns the publisher of a reverse zone into store.
func NewReversePublisher(store *Store, v Reverse, o Options, s *Serials) *Publisher {
	p := NewPublisher(store, o, s)
	p.compile = (&reverseCompiler{zone: v}).compile
	return p
}

// SetSlot gives the node another slot, see NewSerials.
func (p *Publisher) SetSlot(slot int) { p.serials.slot = uint32(slot) }

// SetOptions takes effect with the next Publish.
func (p *Publisher) SetOptions(o Options) { p.options = o }

// Publish compiles r and serves it, if its content or its serial is new. peers is what the other nodes serve now: a
// content that one of them has published keeps its serial, and no serial is minted behind one of theirs. Calling it
// again with the same roster costs a compilation and lets the nodes agree on one serial.
//
// With an error the old snapshot goes on being served. A serial that could not be recorded is none: see Unrecorded.
func (p *Publisher) Publish(r roster.Roster, peers []Published) (changed bool, err error) {
	next, touched, err := p.compile(r, p.options)
	if err != nil {
		publishes.WithLabelValues("rejected").Inc()
		return false, fmt.Errorf("compile the zone: %w", err)
	}
	maps.Copy(p.touched, touched)
	serial, err := p.serial(next, peers)
	if err != nil {
		publishes.WithLabelValues("failed").Inc()
		return false, fmt.Errorf("choose a serial for zone %s: %w", next.domain, err)
	}
	old := p.store.Load()
	if old != nil && old.Digest() == next.Digest() && old.serial == serial {
		publishes.WithLabelValues("unchanged").Inc()
		return false, nil
	}
	now, err := next.seal(serial)
	if err != nil {
		publishes.WithLabelValues("failed").Inc()
		return false, err
	}
	now.follow(old, p.touched)
	clear(p.touched)
	p.store.current.Store(now)
	publishes.WithLabelValues("changed").Inc()
	observe(old, p.store.Load())
	return true, nil
}

// serial returns 0 for content that has no version: while SOA is not served nobody can compare or transfer the zone,
// and the content after it usually has a serial already.
func (p *Publisher) serial(next *Snapshot, peers []Published) (serial uint32, err error) {
	if !next.versioned() {
		return 0, nil
	}
	serial, p.unrecorded, err = p.serials.choose(next.Digest(), peers)
	return serial, err
}

// Unrecorded is why the last Publish could not record the serial that it chose, nil if it could. The serial is one of
// those that are reserved on disk, and each further change uses up another; a node that restarts meanwhile may serve an
// older one until it hears from another node or can write again.
func (p *Publisher) Unrecorded() error { return p.unrecorded }
