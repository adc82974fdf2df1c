package node

import (
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
)

// Where no fast path could be opened, CoreDNS's answers are limited all the same.
func TestLimitWithoutDoors(t *testing.T) {
	f := newFronts(zap.NewNop(), new(zone.Zones), make([]byte, 16), nil, func() front.Settings { return front.Settings{RatePerSecond: 7} })
	f.settle(t.Context(), new(errgroup.Group))
	if got := f.shared.Settings().RatePerSecond; got != 7 {
		t.Errorf("the slow path's limit is %d, want 7", got)
	}
}
