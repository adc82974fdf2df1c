package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// sampleEvery is how often the state is read. etcd tells of no change of members, so they are polled; the read
	// takes local locks only.
	sampleEvery = 250 * time.Millisecond
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
	// lastRead is when a linearizable read last succeeded, in Unix nanoseconds.
	lastRead atomic.Int64
	// kick asks for a sample now; one slot.
	kick chan struct{}
}

func newObserver(e *embed.Etcd, reports *reporter, log *zap.Logger) *observer {
	return &observer{e: e, reports: reports, log: log, kick: make(chan struct{}, 1)}
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
	tick, links := time.NewTicker(sampleEvery), time.NewTicker(linksEvery)
	defer tick.Stop()
	defer links.Stop()
	ready := o.e.Server.ReadyNotify()
	leader := o.e.Server.LeaderChangedNotify()
	for {
		state := o.sample()
		o.reports.send(report{Event: eventState, State: &state})
		select {
		case <-ctx.Done():
			return nil
		case <-o.e.Server.StopNotify():
			return o.whyStopped()
		case err := <-o.e.Err():
			return errors.Join(errors.New("a listener of etcd failed"), err)
		case <-ready:
			ready = nil
			o.reports.send(report{Event: eventReady})
		case <-leader:
			leader = o.e.Server.LeaderChangedNotify()
		case <-links.C:
			o.probe(state.Members)
		case <-o.kick:
		case <-tick.C:
		}
	}
}

// probe looks after the connections to other members.
func (o *observer) probe(members []srvboot.MemberEntry) {
	if err := probeLinks(members); err != nil && !o.told {
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
			o.lastRead.Store(time.Now().UnixNano())
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
	return time.Since(time.Unix(0, o.lastRead.Load())) < servingFor
}

// sample reads the present state. Applied is read before Members, so the list is never older than the index says;
// while a restarted member replays its log, the list is a part of the real one and the index is low.
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
	for _, m := range s.Cluster().Members() {
		state.Members = append(state.Members, srvboot.MemberEntry{
			ID: hexID(uint64(m.ID)), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
		// Server.IsLearner panics until the replay has come to the own member.
		state.IsLearner = state.IsLearner || m.ID == s.MemberID() && m.IsLearner
	}
	// A learner refuses its clients' linearizable reads (etcd server/etcdserver/api/v3rpc/interceptor.go).
	state.Serving = o.serving() && !state.IsLearner
	return state
}
