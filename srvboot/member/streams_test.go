package member

import (
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// TestStreams: the lines are etcd's own; that it still writes them shows TestStreamsOfAJoiner.
func TestStreams(t *testing.T) {
	var s streams
	log := zap.New(zapcore.NewTee(zapcore.NewNopCore(), &s)).With(zap.String("remote-peer-id", "1"))
	start := func(id string) { log.Info("starting remote peer", zap.String("remote-peer-id", id)) }
	active := func(id string) { log.Info("peer became active", zap.String("peer-id", id)) }
	for _, step := range []struct {
		do   func()
		want []string
	}{
		{func() {}, nil},
		{func() { active("ab") }, []string{"00000000000000ab"}}, // as a remote
		{func() { start("ab") }, nil},
		{func() { active("ab"); active("fd422379fda50e48") }, []string{"00000000000000ab", "fd422379fda50e48"}},
		{func() {
			log.Warn("peer became inactive (message send to peer failed)", zap.String("peer-id", "ab"), zap.String("error", "x"))
		}, []string{"fd422379fda50e48"}},
		{func() { active("ab") }, []string{"00000000000000ab", "fd422379fda50e48"}},
		{func() { log.Info("stopping remote peer", zap.String("remote-peer-id", "ab")) }, []string{"fd422379fda50e48"}},
		{func() {
			active("not an ID")
			log.Info("added remote peer", zap.String("remote-peer-id", "fd422379fda50e48"))
		}, []string{"fd422379fda50e48"}},
	} {
		step.do()
		if got := s.connected(); !slices.Equal(got, step.want) {
			t.Errorf("%v, want %v", got, step.want)
		}
	}
}

// TestStreamsOfAJoiner: a member that joined tells that the one which led it in has died. etcd's metric does not.
func TestStreamsOfAJoiner(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 2})
	alone := srvboot.Genesis{ID: r.genesis.ID, Members: r.genesis.Members[:1]}
	clusterID, ids, err := srvboot.IDs(alone.Members, alone.ID)
	if err != nil {
		t.Fatal(err)
	}
	first := r.start(r.launcher(r.nodes[0]), srvboot.Launch{New: true, Token: alone.ID, Members: alone.Members, ClusterID: clusterID, MemberID: ids["infra0"]})
	r.await(first, "serving", func(s srvboot.MemberState) bool { return s.Serving })
	added, err := retryAdd(t, r.client(r.nodes[0]), r.nodes[1].peer)
	if err != nil {
		t.Fatal(err)
	}
	joiner := r.start(r.launcher(r.nodes[1]), srvboot.Launch{Token: alone.ID, Members: r.genesis.Members, ClusterID: clusterID, MemberID: hexID(added.Member.ID)})
	to := []string{ids["infra0"]}
	r.await(joiner, "connected", func(s srvboot.MemberState) bool { return s.Leader != "" && slices.Equal(s.Connected, to) })
	r.await(first, "connected", func(s srvboot.MemberState) bool { return slices.Equal(s.Connected, []string{hexID(added.Member.ID)}) })
	stopNow(t, first)
	r.await(joiner, "alone", func(s srvboot.MemberState) bool { return len(s.Connected) == 0 })
}
