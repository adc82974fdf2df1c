package member

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// sampleEvery is how often the state is read, and membersEvery how often the member list alone. etcd tells of no
	// change of members, so they are polled; the reads take local locks only.
	sampleEvery  = 250 * time.Millisecond
	membersEvery = 10 * time.Millisecond
	// readEvery and readPatience govern the linearizable reads that prove service: a failed one is tried again at once
	// when the leader changes.
	readEvery    = time.Second
	readPatience = time.Second
	// servingFor is how long one successful read counts.
	servingFor = 2 * time.Second
)

// observer reports what a started etcd says of itself.
type observer struct {
	e       *embed.Etcd
	reports *reporter
	log     *zap.Logger
	// told says that the log has why links are not probed; watch alone uses it.
	told bool
	// lastRead is when a linearizable read last succeeded; nil before the first.
	lastRead atomic.Pointer[time.Time]
	// progress is what the leader knows of the others; it belongs to watch.
	progress progress
	streams  *streams
	// list is the member list at the last look; it belongs to watch.
	list listing
	// kick asks for a sample now; one slot.
	kick chan struct{}
}

func newObserver(e *embed.Etcd, reports *reporter, log *zap.Logger, s *streams) *observer {
	database, _ := schema.ReadConsistentIndex(e.Server.Backend().ReadTx())
	return &observer{e: e, reports: reports, log: log, streams: s, list: listing{database: database}, kick: make(chan struct{}, 1)}
}

// watch reports states until ctx ends, and returns why the server ended if it did so on its own.
func (o *observer) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	reads := make(chan struct{})
	go func() { // ends with ctx, within readPatience
		defer close(reads)
		o.proveService(ctx)
	}()
	defer func() {
		cancel()
		<-reads
	}()
	tick, members, links := time.NewTicker(sampleEvery), time.NewTicker(membersEvery), time.NewTicker(linksEvery)
	defer tick.Stop()
	defer members.Stop()
	defer links.Stop()
	ready := o.e.Server.ReadyNotify()
	leader := o.e.Server.LeaderChangedNotify()
	var state srvboot.MemberState
	for changed := true; ; {
		if changed {
			state = o.sample()
			o.reports.send(report{Event: eventState, State: &state})
		}
		changed = true
		select {
		case <-ctx.Done():
			return nil
		case <-o.e.Server.StopNotify():
			return o.whyStopped()
		case err := <-o.e.Err():
			select {
			case <-o.e.Server.StoppingNotify(): // its listeners end with it
				return o.whyStopped()
			default:
				return errors.Join(errors.New("a listener of etcd failed"), err)
			}
		case <-ready:
			ready = nil
			o.reports.send(report{Event: eventReady})
		case <-leader:
			leader = o.e.Server.LeaderChangedNotify()
		case <-links.C:
			o.probe(state.Members)
			changed = false
		case <-o.kick:
		case <-tick.C:
		case <-members.C:
			applied := o.e.Server.AppliedIndex()
			o.look()
			changed = !reflect.DeepEqual(o.list.members, state.Members) || state.Listed == 0 && o.list.date(applied) > 0
		}
	}
}

// look looks at the member list alone.
func (o *observer) look() {
	members := entries(o.e)
	o.list.see(members, o.e.Server.CommittedIndex())
}

// probe looks after the connections to other members.
func (o *observer) probe(members []srvboot.MemberEntry) {
	if err := errors.Join(probeLinks(members), endStray(members, isGone)); err != nil && !o.told {
		o.told = true
		o.log.Warn("a way to another member that is lost in silence may be noticed late", zap.Error(err))
	}
}

// whyStopped: etcd's main loop ends on its own only when the member was removed, as its own log or its peers say
// (etcd server/etcdserver/server.go run, errorc).
func (o *observer) whyStopped() error {
	return &failure{cause: causeRemoved, err: errors.New("the member was removed from its cluster")}
}

// proveService does one linearizable read a second.
func (o *observer) proveService(ctx context.Context) {
	for ctx.Err() == nil {
		leader := o.e.Server.LeaderChangedNotify()
		committed := o.e.Server.FirstCommitInTermNotify()
		readCtx, cancel := context.WithTimeout(ctx, readPatience)
		err := o.e.Server.LinearizableReadNotify(readCtx)
		cancel()
		was := o.serving()
		if err == nil {
			now := time.Now()
			o.lastRead.Store(&now)
		}
		if o.serving() != was {
			o.wake()
		}
		select {
		case <-ctx.Done():
		case <-leader:
		case <-committed:
		case <-time.After(readEvery):
		}
	}
}

func (o *observer) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

func (o *observer) serving() bool {
	last := o.lastRead.Load()
	return last != nil && time.Since(*last) < servingFor
}

// sample reads the present state. Applied is read before Members, so the list is never older than the index says.
func (o *observer) sample() srvboot.MemberState {
	s := o.e.Server
	state := srvboot.MemberState{
		ID:        hexID(uint64(s.MemberID())),
		ClusterID: hexID(uint64(s.Cluster().ID())),
		Term:      s.Term(),
		Applied:   s.AppliedIndex(),
		Version:   version.Version,
		DBSize:    s.Backend().Size(),
	}
	if l := s.Leader(); l != 0 {
		state.Leader = hexID(uint64(l))
	}
	o.look()
	state.Members, state.Listed = o.list.members, o.list.date(state.Applied)
	for _, m := range state.Members {
		// Server.IsLearner panics until the replay has come to the own member.
		state.IsLearner = state.IsLearner || m.ID == state.ID && m.IsLearner
	}
	for _, a := range s.Alarms() {
		state.Alarms = append(state.Alarms, fmt.Sprintf("%s at %016x", a.Alarm, a.MemberID))
	}
	state.Connected = o.streams.connected()
	state.Commit, state.Links = s.CommittedIndex(), o.progress.sample(time.Now())
	// A learner refuses its clients' linearizable reads (etcd server/etcdserver/api/v3rpc/interceptor.go).
	state.Serving = o.serving() && !state.IsLearner
	return state
}
